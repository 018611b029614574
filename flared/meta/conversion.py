"""A file of an older layout becomes one of the newest. Everything here blocks.

Layout 1 had neither checksums nor openings, layout 2 no aliases.

    1 the log is moved into the file, and the file is checked
    2 it is copied into ``.meta.db.part``, row by row if its table changes, and the copy is synced
    3 the file gets a second name, ``meta.db.before-layout-<new one>-<date>``
    4 the copy takes its place

Until step 4 the old file is the metadata, unchanged; a conversion that was broken off begins anew. The kept file stays
until an operator removes it: an older version opens it, and not the new one.
"""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import time
from contextlib import closing, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flared.errors import Busy, ConfigError, MetadataFull
from flared.meta import openings
from flared.meta.row import checksum
from flared.meta.sqlite_file import (
    LAYOUT,
    PAGE_BYTES,
    PRIVATE_MODE,
    PUT,
    add_aliases,
    create_tables,
    sync_directory,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

log = logging.getLogger(__name__)

ROW_BYTES = 16
"""More for each row of the copy than it took before: the checksum, and pages that are less full."""
SMALLEST_ROW_BYTES = 64
CACHE_KIB = 64 * 1024
"""The tree of the keys is filled in the order of the rows, at random: it should fit."""
ROWS_PER_READ = 1000


def convert(path: Path, layout: int) -> None:
    """Bring the file from its ``layout`` to the newest. The caller holds its lock.

    Raises Busy if another program has the file open, ConfigError if it is damaged, MetadataFull if its disk has no room
    for the copy; then nothing has changed. Raises sqlite3.Error, OSError.
    """
    started = time.monotonic()
    part = path.with_name(f".{path.name}.part")
    try:
        with closing(_connect(path)) as source:
            _settle(source, path)
            _check(source, path)
            _check_room(path)
            rows = _copy_rows(source, part, path) if layout < 2 else _copy_file(source, part, path)
        kept = _replace(path, part)
    except BaseException:
        with suppress(FileNotFoundError):
            part.unlink()
        raise
    log.info(
        "event=metadata_converted layout=%d rows=%d seconds=%.1f kept=%s",
        LAYOUT,
        rows,
        time.monotonic() - started,
        kept,
    )


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, timeout=10)


def _settle(source: sqlite3.Connection, path: Path) -> None:
    """The file must hold everything by itself: it gets another name, which its log has not."""
    busy, _pages, _moved = source.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise Busy(f"another program has {path} open: it cannot be converted to layout {LAYOUT} until that ends")


def _check(source: sqlite3.Connection, path: Path) -> None:
    """Refuse damaged rows: they must not get a checksum that makes them look sound."""
    try:
        (answer,) = source.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise
        answer = str(error)
    if answer != "ok":
        raise ConfigError(
            [
                f"{path} is damaged ({' '.join(answer.split())}), so it is not converted to layout {LAYOUT}: "
                "put a backup in its place with 'flared restore', or start the older version on it"
            ]
        )


def _check_room(path: Path) -> None:
    size = path.stat().st_size
    needed = size + size // SMALLEST_ROW_BYTES * ROW_BYTES // 4 + 16 * PAGE_BYTES
    free = _free(path)
    if free < needed:
        raise _no_room(path, needed, free)


def _free(path: Path) -> int:
    return shutil.disk_usage(path.parent).free


def _no_room(path: Path, needed: int, free: int) -> MetadataFull:
    return MetadataFull(
        f"{path} has to be converted to layout {LAYOUT}, for which its disk needs {needed} bytes and has {free}: make "
        "room and start again; the metadata is unchanged"
    )


def _copy_file(source: sqlite3.Connection, part: Path, path: Path) -> int:
    """Copy the whole file, with its openings, and have it know aliases, synced; return how many rows there are."""
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_MODE)
    try:
        with closing(_connect(part)) as target:
            source.backup(target)
            for pragma in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{CACHE_KIB}"):
                target.execute(f"PRAGMA {pragma}")
            target.execute("BEGIN")
            add_aliases(target)
            (rows,) = target.execute("SELECT count(*) FROM kv").fetchone()
            target.execute("COMMIT")
        os.fsync(descriptor)
    except sqlite3.Error as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
            raise
        raise _no_room(path, 2 * path.stat().st_size, _free(path)) from error
    finally:
        os.close(descriptor)
    return int(rows)


def _copy_rows(source: sqlite3.Connection, part: Path, path: Path) -> int:
    """Copy all rows into a file of the new layout, synced; return how many there are."""
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_MODE)
    try:
        with closing(_connect(part)) as target:
            for pragma in (f"page_size = {PAGE_BYTES}", "journal_mode = OFF", "synchronous = OFF"):
                target.execute(f"PRAGMA {pragma}")
            target.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            target.execute("BEGIN")
            create_tables(target)
            rows = target.executemany(PUT[1], _rows(source))
            (number,) = source.execute("SELECT count FROM openings").fetchone()
            openings.insert_opening(target, int(number))  # versions go on from there
            target.execute("COMMIT")
        os.fsync(descriptor)
    except sqlite3.Error as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
            raise
        raise _no_room(path, 2 * path.stat().st_size, _free(path)) from error
    finally:
        os.close(descriptor)
    return rows.rowcount


def _rows(source: sqlite3.Connection) -> Iterator[tuple[bytes, bytes, int, int]]:
    """In the order of the table, not of its index: what the index does not name is a row all the same."""
    cursor = source.execute("SELECT key, value, version FROM kv NOT INDEXED ORDER BY rowid")
    while page := cursor.fetchmany(ROWS_PER_READ):
        for key, value, version in page:
            yield key, value, version, checksum(key, value, version)


def _replace(path: Path, part: Path) -> Path:
    """Put the copy in the place of the file, which keeps a name of its own."""
    log_file = path.with_name(path.name + "-wal")
    if log_file.exists() and log_file.stat().st_size:
        raise Busy(f"another program has written to {path}: start again")  # its log would be taken for the copy's
    kept = path.with_name(f"{path.name}.before-layout-{LAYOUT}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
    kept.unlink(missing_ok=True)
    os.link(path, kept)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    sync_directory(path.parent)
    os.replace(part, path)
    sync_directory(path.parent)
    return kept
