"""``flared prepare FILE``: create what a node needs before it can start: directories, volumes, systemd's drop-ins."""

from __future__ import annotations

import os
import pwd
import re
import secrets
import shutil
import stat
import subprocess
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from flared.commands import units
from flared.config.settings import Config, DataConfig
from flared.data.disk.real_disk import RealDisk
from flared.data.volume.identity import VolumeIdentity, find_cluster, load_identity, refuse_copies, require_volume
from flared.errors import VolumeFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

USER = "flare"
DIRECTORY_MODE = 0o750
FSTAB = Path("/etc/fstab")
MOUNTS = Path("/proc/self/mountinfo")
_NOT_DATA = {"lost+found"}
_OCTAL = re.compile(r"\\([0-7]{3})")


class NotPrepared(Exception):  # the message is one sentence for the operator
    """The host cannot be prepared."""


def prepare(config: Config, file: Path, new: Collection[Path], say: Callable[[str], None]) -> None:
    """Create everything that the node's TOML file names and that is missing; may be run again.

    An empty directory that once held a volume counts as a disk that is not mounted, unless it is in ``new``.
    Raise NotPrepared, OSError, ConfigError.
    """
    # The present drop-ins remember which directories were volumes, so read them before they are replaced.
    service = units.is_service(file)
    if service:
        units.check_name(file)
    wanted = units.drop_ins(config, file) if service else {}
    known = _known_before(wanted)
    identities: list[tuple[str, VolumeIdentity]] = []
    for path in units.storage(config):
        _refuse_unmounted(path)
        if isinstance(config, DataConfig):
            missing = units.quote(path) in known and path not in new
            identities.append((str(path), _make_volume(path, config, file, known=missing, say=say)))
        else:
            make_directory(path)
    # All volumes must be sound before systemd learns of them: a failure here leaves the old drop-ins.
    refuse_copies(identities)
    find_cluster(identities)
    for path, content in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text("utf-8") != content:
            path.write_text(content, "utf-8")
            say(f"{path} is written")
    if service and Path("/run/systemd/system").is_dir():
        subprocess.run(["systemctl", "daemon-reload"], check=False)


def make_directory(path: Path) -> None:
    """Create the directory, if it is missing, for the daemon's user."""
    if not path.is_dir():
        path.mkdir(parents=True, mode=DIRECTORY_MODE)
        give(path)


def give(path: Path, *, group_only: bool = False) -> None:
    """Make the daemon's user the owner, if that user exists and we are root."""
    try:
        user = pwd.getpwnam(USER)
    except KeyError:
        return
    if os.geteuid() == 0:
        os.chown(path, -1 if group_only else user.pw_uid, user.pw_gid)


def hand_over(config: Config, file: Path, directory: Path) -> None:
    """Copy the secrets to where the node finds them when it reloads its TOML file; run as root. Raise OSError.

    The node may not read the secret file itself, and the copy that systemd loaded dates from the node's start.
    The directory belongs to the node, which may have put anything there: nothing in it is opened or followed. The
    copy belongs to the node, is closed to others from its first byte on, and gets its name when it is complete.
    """
    source = config.secret_file
    ours = source if source is not None and source.parent == file.absolute().parent else None
    at = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if ours is not None:
            _write_for_owner(at, ours.name, b"".join(secret + b"\n" for secret in config.secrets))
        for name in os.listdir(at):
            if ours is None or name != ours.name:
                os.unlink(name, dir_fd=at)
    finally:
        os.close(at)


def _write_for_owner(at: int, name: str, content: bytes) -> None:
    """Create a file in the directory ``at`` that only the directory's owner may read."""
    owner, temporary = os.fstat(at), f".{name}.{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(temporary, flags, 0o400, dir_fd=at), "wb") as output:
        output.write(content)
        output.flush()
        os.fchown(output.fileno(), owner.st_uid, owner.st_gid)
    os.rename(temporary, name, src_dir_fd=at, dst_dir_fd=at)


def _make_volume(
    path: Path, config: DataConfig, file: Path, *, known: bool, say: Callable[[str], None]
) -> VolumeIdentity:
    """Return the existing volume, which must be this node's, or create one."""
    disk = RealDisk()
    try:
        require_volume(disk, str(path))
    except VolumeFailed:
        if known:
            raise NotPrepared(
                f"{path} was a volume before and is empty now: mount its disk; "
                f"if the disk is new: flared prepare --new {path} {file}"
            ) from None
        # An existing directory may be the root of a fresh file system: it belongs to root, and must be given away
        # too.
        existed = path.is_dir()
        make_directory(path)
        if set(os.listdir(path)) - _NOT_DATA:
            raise NotPrepared(f"{path} is not a volume and not empty: give each volume its own directory") from None
        identity = load_identity(disk, str(path), config.name, uuid.uuid4())
        if existed:
            _adopt(path)
        for entry in path.iterdir():
            if entry.name not in _NOT_DATA:
                give(entry)
        free = shutil.disk_usage(path).free / 1024**3
        say(f"{path} is now a volume of {config.name}, with {free:.1f} GiB free")
        return identity
    return load_identity(disk, str(path), config.name, uuid.uuid4())


def _adopt(path: Path) -> None:
    """Give an existing empty directory, such as the root of a fresh file system, to the daemon's user."""
    if stat.S_ISDIR(path.lstat().st_mode):
        give(path)
        if os.geteuid() == 0:
            path.chmod(DIRECTORY_MODE)


def _known_before(wanted: Collection[Path]) -> str:
    """Return the directories that the drop-ins require as they are now."""
    lines: list[str] = []
    for drop_in in wanted:
        try:
            lines += units.lines_of(drop_in.read_text("utf-8"))
        except OSError:
            continue
    return "".join(line for line in lines if line.startswith("RequiresMountsFor="))


def _refuse_unmounted(path: Path) -> None:
    point = find_unmounted(path)
    if point:
        raise NotPrepared(f"{path} is on {point}, which {FSTAB} lists and which is not mounted: mount {point}")


def find_unmounted(path: Path) -> Path | None:
    """Return the mount point that /etc/fstab has for this path, if nothing is mounted there."""
    points = [point for point in _paths(FSTAB, 1) if point == path or point in path.parents]
    point = max(points, key=lambda point: len(point.parts), default=Path("/"))
    return None if point == Path("/") or point in _paths(MOUNTS, 4) else point


def _paths(table: Path, column: int) -> list[Path]:
    """Return the paths in a column of /etc/fstab or mountinfo, which write blanks as octal numbers."""
    try:
        lines = table.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return []
    rows = [line.split() for line in lines if not line.lstrip().startswith("#")]
    words = [row[column] for row in rows if len(row) > column and row[column].startswith("/")]
    return [Path(unescape(word)) for word in words]


def unescape(word: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), word)
