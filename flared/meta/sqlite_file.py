"""The SQLite file itself: connections, statements, checkpoints. Everything here blocks.

Every statement that runs in a thread does its whole work in one step, because SQLite runs a step without the
interpreter lock but must win the lock back after each: a step a row would fight the event loop for every row.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from flared.errors import ConfigError, VolumeFailed
from flared.meta.kv import Entry

LAYOUT = 1
"""Of the table; in ``user_version``. What the keys hold has a format of its own (``catalog.cluster``)."""

APPLICATION = 0x464C4152
"""``FLAR`` in ``application_id``, for file(1)."""

PAGE_BYTES = 4096

CACHE_KIB = 8 * 1024
ROWS_PER_STATEMENT_MAX = 128

# Keys of chunks are random, so each put dirties a page of their tree. Values beside the keys (WITHOUT ROWID) would make
# that tree four times as large and log a quarter more pages; like this, rows are appended and only the index is random.
_TABLE = "CREATE TABLE kv (key BLOB NOT NULL UNIQUE, value BLOB NOT NULL, version INTEGER NOT NULL)"
_PRAGMAS = (
    f"page_size = {PAGE_BYTES}",
    "journal_mode = WAL",
    "synchronous = FULL",
    "wal_autocheckpoint = 0",
    "secure_delete = OFF",
    # A statement that may fail half-way keeps the old pages aside: not in a file on a disk that may be full.
    "temp_store = MEMORY",
    f"cache_size = -{CACHE_KIB}",
)
_PAGE = (
    "SELECT group_concat(hex(key) || ' ' || hex(value), char(10)) FROM "
    "(SELECT key, value FROM kv WHERE key >= ? AND key < ? ORDER BY key LIMIT ?)"
)
_PUT = {
    count: "INSERT INTO kv (key, value, version) VALUES "
    + ",".join(["(?,?,?)"] * count)
    + " ON CONFLICT (key) DO UPDATE SET value = excluded.value, version = excluded.version"
    for count in (1, 2, 4, 8, 16, 32, 64, 128)
}
_DELETE = {
    count: "DELETE FROM kv WHERE key IN (" + ",".join("?" * count) + ")" for count in (1, 2, 4, 8, 16, 32, 64, 128)
}


class Log(NamedTuple):
    """The write-ahead log after a checkpoint, in pages."""

    pages: int
    moved: int
    """How many of them are in the database by now."""


def open_database(path: Path) -> int:
    """Create or check the file; returns a floor for versions that no earlier opening ever gave.

    The directory is synced, so that a new file is still there after a power cut. Raises ConfigError, and leaves the
    file alone, if a newer Flare wrote it, or something else did.
    """
    new = _is_new(path)
    connection = connect(path)
    try:
        connection.execute("BEGIN IMMEDIATE")
        if new:
            connection.execute(_TABLE)
            connection.execute("CREATE TABLE openings (count INTEGER NOT NULL)")
            connection.execute("INSERT INTO openings VALUES (0)")
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {LAYOUT}")
        connection.execute("UPDATE openings SET count = count + 1")
        (openings,) = connection.execute("SELECT count FROM openings").fetchone()
        connection.execute("COMMIT")
    finally:
        connection.close()
    sync_directory(path.parent)
    # 2^40 versions an opening: a key deleted before a restart never gets an old version again.
    return int(openings) << 40


def _is_new(path: Path) -> bool:
    connection = sqlite3.connect(path)
    try:
        (layout,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_NOTADB:
            raise ConfigError([f"{path} is not an SQLite file"]) from error
        raise
    finally:
        connection.close()
    if layout > LAYOUT:
        raise ConfigError([f"{path} was written by a newer Flare (layout {layout}, this one knows {LAYOUT})"])
    if tables and not layout:
        raise ConfigError([f"{path} is an SQLite file of something else"])
    return not layout


def connect(path: Path) -> sqlite3.Connection:
    """A connection that syncs every commit and never checkpoints by itself."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    try:
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
    except BaseException:
        connection.close()
        raise
    return connection


class Writer:
    """The one connection that writes."""

    def __init__(self, path: Path) -> None:
        self.connection = connect(path)

    def apply(self, writes: Mapping[bytes, Entry | None]) -> None:
        """Put the entries and delete the Nones in one transaction, on stable storage at return; all or nothing."""
        columns = [column for key, entry in writes.items() if entry is not None for column in (key, *entry)]
        gone = [key for key, entry in writes.items() if entry is None]
        connection = self.connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            for start, count in _portions(len(columns) // 3):
                connection.execute(_PUT[count], columns[3 * start : 3 * (start + count)])
            for start, count in _portions(len(gone)):
                connection.execute(_DELETE[count], gone[start : start + count])
            connection.execute("COMMIT")
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def close(self) -> None:
        self.connection.close()


class Reader:
    """Point look-ups for the event loop, all of one moment until ``refresh``."""

    def __init__(self, path: Path) -> None:
        self._connection = connect(path)
        self._cursor = self._connection.cursor()
        self._reading = False

    def get(self, key: bytes) -> Entry | None:
        if not self._reading:
            self._connection.execute("BEGIN")
            self._reading = True
        try:
            row = self._cursor.execute("SELECT value, version FROM kv WHERE key = ?", (key,)).fetchone()
        except sqlite3.Error as error:
            raise unreadable(error) from error
        return None if row is None else Entry(*row)

    def refresh(self) -> None:
        """Let go of the moment; the next look-up begins a new one."""
        if self._reading:
            self._connection.execute("COMMIT")
            self._reading = False

    def close(self) -> None:
        self._connection.close()


class Scanner:
    """Ranges, for a thread."""

    def __init__(self, path: Path) -> None:
        self._connection = connect(path)

    def scan(self, start: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        try:
            (text,) = self._connection.execute(_PAGE, (start, end, limit)).fetchone()
        except sqlite3.Error as error:
            raise unreadable(error) from error
        if text is None:
            return []
        columns = [line.partition(" ") for line in text.split("\n")]
        return [(bytes.fromhex(key), bytes.fromhex(value)) for key, _, value in columns]

    def walk(
        self, start: bytes, end: bytes, limit: int, visit: Callable[[list[tuple[bytes, bytes]]], bytes | None]
    ) -> None:
        position: bytes | None = start
        self._connection.execute("BEGIN")
        try:
            while position is not None:
                page = self.scan(position, end, limit)
                position = visit(page)
                if not page:
                    break
        finally:
            self._connection.execute("COMMIT")

    def close(self) -> None:
        self._connection.close()


class Checkpointer:
    """Moves pages from the log into the database, without ever making a writer wait."""

    def __init__(self, path: Path) -> None:
        self._connection = connect(path)

    def checkpoint(self) -> Log:
        """As much as no reader still needs; the database is synced at return."""
        _busy, pages, moved = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        return Log(pages, moved)

    def close(self) -> None:
        self._connection.close()


def unreadable(error: sqlite3.Error) -> VolumeFailed:
    return VolumeFailed(f"the metadata cannot be read: {error}")


def _portions(count: int) -> list[tuple[int, int]]:
    """Cut ``count`` into powers of two, so that few statements need to be prepared: (start, length)."""
    portions = []
    start = 0
    while start < count:
        length = min(ROWS_PER_STATEMENT_MAX, 1 << ((count - start).bit_length() - 1))
        portions.append((start, length))
        start += length
    return portions


def sync_directory(path: Path) -> None:
    """What was made, renamed or removed in it stays so, whatever happens to the machine."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
