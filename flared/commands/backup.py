"""``flared backup`` and ``flared restore``: copy the metadata of an api node into one file, and back."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import sqlite3
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from flared.catalog.cluster import FORMAT, read_cluster
from flared.catalog.restored import mark_backup, mark_restored, read_backup
from flared.config.settings import ApiConfig, Config
from flared.errors import Busy, ConfigError
from flared.meta import keys
from flared.meta.backup import Copy, copy_database, fold_log
from flared.meta.layout import check_log
from flared.meta.lockfile import LockFile
from flared.meta.sqlite_file import sync_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MODE = 0o600
ROOM_LEFT_BYTES = 64 * 1024 * 1024
"""The share of a disk that a backup leaves free: the metadata itself may grow on the same disk."""
_MOMENT = "%Y%m%dT%H%M%SZ"


class NotDone(Exception):  # the message is one sentence for the operator
    """The backup or restore is not possible."""


@dataclass(frozen=True, slots=True)
class Content:
    """The content of a metadata file."""

    cluster: str
    objects: int
    taken_ms: int | None


def back_up(config: Config, target: Path, *, keep: int | None, overwrite: bool, say: Callable[[str], None]) -> None:
    """Copy the metadata into ``target``, checked and durable. The node may run or not.

    With ``keep``, ``target`` is a directory: it gets a new file and keeps only so many of the newest.
    Raise NotDone, FlareError, OSError, sqlite3.Error.
    """
    source = _metadata(config)
    if not source.exists():
        raise NotDone(f"{source} does not exist: the node has not been started yet")
    now = time.time()
    stem = f"{config.name}-" if keep else target.name
    if keep:
        target.mkdir(parents=True, exist_ok=True, mode=0o700)
        directory, target = target, target / f"{stem}{_date(now)}.db"
        overwrite = True  # two backups within one second have one name; the later one wins
    else:
        directory = target.parent
    if target.is_dir():
        raise NotDone(f"{target} is a directory: name a file, or keep several in it with --keep N")
    if target.exists() and (target.samefile(source) or not overwrite):
        raise NotDone(f"{target} exists already" + ("" if target.samefile(source) else ": --overwrite replaces it"))
    _check_log(source)
    with _partial(directory / f".{stem}.part", source) as part:
        copy_database(source, part, writable=True)
        with Copy(part, source) as copy:
            mark_backup(copy, int(now * 1000))
            content = _read_content(copy, source)
            damaged = copy.count_damaged()
        os.replace(part, target)
        sync_directory(directory)
    if keep:
        _delete_oldest(directory, stem, keep)
    say(f"{target} is a backup of cluster {content.cluster}, with {content.objects} objects" + _damaged(damaged))


def restore(config: Config, source: Path, say: Callable[[str], None], *, cut_log: bool = False) -> None:
    """Replace the metadata by a backup; keep the old metadata beside it.

    ``cut_log``: if the log of the source is damaged, use the part before the damage. The source may then be the
    metadata itself.

    Raise NotDone, Busy while a node uses the metadata, FlareError, OSError, sqlite3.Error.
    """
    target = _metadata(config)
    if not source.is_file():
        raise NotDone(f"{source} is not a file")
    if target.exists() and target.samefile(source) and not cut_log:
        raise NotDone(f"{source} is the metadata itself")
    if not target.parent.is_dir():
        raise NotDone(f"{target.parent} is not a directory: prepare the node first, with flared init or flared prepare")
    # While we hold the lock, no node can start on a file that is being replaced.
    lock = target.with_name(target.name + ".lock")
    holder = LockFile(lock, f"the metadata file {target}")
    try:
        _give(lock)
        now = time.time()
        with _partial(target.with_name(f".{target.name}.part"), source) as part, _openable(source, cut_log) as opened:
            # Copy and check under another name: until the rename below, the old metadata is in place.
            with _readable(source):
                copy_database(opened, part, writable=cut_log, pause=0)
                with Copy(part, source) as copy:
                    content = _read_content(copy, source)
                    damaged = copy.count_damaged()
                    taken_ms = int(source.stat().st_mtime * 1000) if content.taken_ms is None else content.taken_ms
                    mark_restored(copy, taken_ms, int(now * 1000))  # keeps pieces written since, for some days
            # The old metadata keeps a second name; a crash before the rename leaves it under both.
            _give(part)
            kept = _keep_aside(target, now)
            os.replace(part, target)
            sync_directory(target.parent)
    finally:
        holder.close()
    age = _age(now - taken_ms / 1000) + (" (by the date of the file)" if content.taken_ms is None else "")
    say(
        f"restored cluster {content.cluster} with {content.objects} objects as of {age} ago"
        + (f"; the old metadata is kept as {kept}" if kept else "")
        + "; objects written since are not in it: the data nodes delete their pieces after 7 days; objects deleted"
        " since are listed but cannot be read" + _damaged(damaged)
    )


def _check_log(source: Path) -> None:
    """Raise LogCorrupt if SQLite would drop a part of the log. A running node has checked it when it started."""
    try:
        holder = LockFile(source.with_name(source.name + ".lock"), f"the metadata file {source}")
    except Busy:
        return
    try:
        _give(source.with_name(source.name + ".lock"))
        check_log(source)
    finally:
        holder.close()


@contextmanager
def _openable(source: Path, cut_log: bool) -> Iterator[Path]:
    """Yield a path that SQLite may open: the source, or a copy if its log may be cut, because opening cuts it.

    Raise LogCorrupt, NotDone if there is no room for the copy.
    """
    if not cut_log:
        check_log(source)
        yield source
        return
    with TemporaryDirectory(prefix=".flare-", dir=source.parent) as directory:
        copy = Path(directory, source.name)
        for suffix in ("", "-wal"):
            if (file := source.with_name(source.name + suffix)).exists():
                shutil.copyfile(file, copy.with_name(copy.name + suffix))
        yield copy


@contextmanager
def _readable(source: Path) -> Iterator[None]:
    """Raise NotDone, naming the file, if it is not a database or is damaged."""
    try:
        yield
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        raise NotDone(f"{source} is not a backup, or it is damaged: {error}") from None


def _metadata(config: Config) -> Path:
    if not isinstance(config, ApiConfig):
        raise NotDone("this TOML file describes a data node: only api nodes have metadata")
    return config.metadata


def _read_content(copy: Copy, source: Path) -> Content:
    """Return what the copy holds. Raise ConfigError if it is not metadata of a format that we know."""
    cluster = read_cluster(copy)
    if cluster is None:
        raise ConfigError([f"{source} is not the metadata of a cluster"])
    if cluster.format > FORMAT:
        raise ConfigError([f"{source} was written by a newer Flare (format {cluster.format}, this one knows {FORMAT})"])
    return Content(cluster.id, copy.count(keys.under(b"object/")), read_backup(copy))


@contextmanager
def _partial(path: Path, source: Path) -> Iterator[Path]:
    """Yield an empty, locked file beside ``path``. One that a killed process left is used again."""
    size = source.stat().st_size
    room = shutil.disk_usage(path.parent).free - ROOM_LEFT_BYTES
    if room < size:
        raise NotDone(f"{path.parent} has no room: {size} bytes are needed and {max(0, room)} are available")
    # The lock shows whether another process still writes the file or was killed: only then it may be used again. The
    # file may have been renamed between our open and our lock, so compare what we hold with what the name is now.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, MODE)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ours = os.path.samestat(os.fstat(descriptor), os.stat(path))
        except (BlockingIOError, FileNotFoundError):
            ours = False
        if not ours:
            raise NotDone(f"{path} is being written by another process")
        os.ftruncate(descriptor, 0)
        os.fchmod(descriptor, MODE)
        try:
            yield path
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            raise
    finally:
        os.close(descriptor)


def _keep_aside(target: Path, now: float) -> Path | None:
    """Give the old metadata a second, dated name, and remove its log from beside the name of the new file."""
    kept = target.with_name(f"{target.name}.before-{_date(now)}")
    kept_log, log = Path(f"{kept}-wal"), Path(f"{target}-wal")
    for path, name in ((target, kept), (log, kept_log)):
        if path.exists():
            os.link(path, name)
    sync_directory(target.parent)
    if target.exists():
        fold_log(target)
    if kept_log.exists() and not kept_log.stat().st_size:
        kept_log.unlink()
    for path in (log, Path(f"{target}-shm")):
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
    sync_directory(target.parent)
    return kept if kept.exists() else None


def _delete_oldest(directory: Path, stem: str, keep: int) -> None:
    ours = re.compile(re.escape(stem) + r"\d{8}T\d{6}Z\.db")
    for name in sorted(filter(ours.fullmatch, os.listdir(directory)))[:-keep]:
        (directory / name).unlink()


def _give(path: Path) -> None:
    """Give a file that root has created to the owner of its directory: the daemon's user."""
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


def _damaged(rows: int) -> str:
    return f"; {rows} of its rows are damaged, and it holds them as they are" if rows else ""


def _date(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).strftime(_MOMENT)


def _age(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} seconds"
