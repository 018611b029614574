"""The SQLite file itself: connections, statements, checkpoints. Everything here blocks.

Every statement that runs in a thread does its whole work in one step, because SQLite runs a step without the
interpreter lock but must win the lock back after each: a step a row would fight the event loop for every row.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from flared.errors import RowCorrupt, VolumeFailed
from flared.meta import openings
from flared.meta.alias import ALIAS_BYTES, ALIASED, alias_of
from flared.meta.kv import DAMAGED, Entry
from flared.meta.row import checksum

LAYOUT = 3
"""Of the table; in ``user_version``. What the keys hold has a format of its own (``catalog.cluster``)."""

APPLICATION = 0x464C4152
"""``FLAR`` in ``application_id``, for file(1)."""

PAGE_BYTES = 4096

PRIVATE_MODE = 0o600

CACHE_KIB = 8 * 1024
ROWS_PER_STATEMENT_MAX = 65
"""There is a statement for each number up to it, so that most groups are written in one step: 64 small puts, and the
number of commits. All of them together take some MiB when they are prepared."""

# Keys of objects may be random, so that each put dirties a page of their tree. Values beside the keys (WITHOUT ROWID)
# would make that tree four times as large and log a quarter more pages; like this, rows are appended and only the index
# is random.
_TABLE = (
    "CREATE TABLE kv (key BLOB NOT NULL UNIQUE, value BLOB NOT NULL, version INTEGER NOT NULL, "
    "checksum INTEGER NOT NULL)"
)
# The alias is computed from the value and stored only in its index, which rows with none are not in.
_ALIAS = (
    "ALTER TABLE kv ADD COLUMN alias BLOB AS "
    f"(CASE substr(value, 1, 1) WHEN x'{ALIASED.hex()}' THEN substr(value, 2, {ALIAS_BYTES}) END) VIRTUAL",
    "CREATE INDEX kv_alias ON kv (alias) WHERE alias IS NOT NULL",
)
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
# A damaged row may hold a NULL, which would make its whole line vanish.
_LINES = (
    "SELECT group_concat(hex(key) || ' ' || hex(value) || ' ' || ifnull(CAST(version AS INTEGER), 0) || ' ' || "
    "ifnull(CAST(checksum AS INTEGER), 0), char(10)) FROM "
)
_PAGE = _LINES + "(SELECT key, value, version, checksum FROM kv WHERE key >= ? AND key < ? ORDER BY key LIMIT ?)"
_ALIAS_PAGE = (
    _LINES + "(SELECT key, value, version, checksum FROM kv INDEXED BY kv_alias WHERE alias >= ? AND alias < ? "
    "ORDER BY alias LIMIT ?)"
)
PUT = {
    count: "INSERT INTO kv (key, value, version, checksum) VALUES "
    + ",".join(["(?,?,?,?)"] * count)
    + " ON CONFLICT (key) DO UPDATE SET "
    + ", ".join(f"{column} = excluded.{column}" for column in ("value", "version", "checksum"))
    for count in range(1, ROWS_PER_STATEMENT_MAX + 1)
}
_GET = {
    count: "SELECT key, value, version, checksum FROM kv WHERE key IN (" + ",".join("?" * count) + ")"
    for count in range(1, ROWS_PER_STATEMENT_MAX + 1)
}
_DELETE = {
    count: "DELETE FROM kv WHERE key IN (" + ",".join("?" * count) + ")"
    for count in range(1, ROWS_PER_STATEMENT_MAX + 1)
}


class Log(NamedTuple):
    """The write-ahead log after a checkpoint, in pages."""

    pages: int
    moved: int
    """How many of them are in the database by now."""


def connect(path: Path) -> sqlite3.Connection:
    """A connection that syncs every commit and never checkpoints by itself."""
    connection = sqlite3.connect(
        path,
        isolation_level=None,
        check_same_thread=False,
        timeout=10,
        cached_statements=2 * ROWS_PER_STATEMENT_MAX + 16,
    )
    try:
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
    except BaseException:
        connection.close()
        raise
    return connection


def make_private(path: Path) -> None:
    """Make the file, if it is not there, and let only its owner read it and what stands beside it.

    It names every object. SQLite gives its log the mode of the file; what an earlier version made is tightened.
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_MODE))
    for suffix in ("", "-wal", "-shm", ".lock", ".reserve"):
        file = path.with_name(path.name + suffix)
        with contextlib.suppress(FileNotFoundError, PermissionError):
            if stat.S_IMODE(file.stat().st_mode) & ~PRIVATE_MODE:
                file.chmod(PRIVATE_MODE)


def create_tables(connection: sqlite3.Connection) -> None:
    """Make an empty file one of this layout, in the caller's transaction."""
    connection.execute(_TABLE)
    add_aliases(connection)
    connection.execute(openings.TABLE)
    connection.execute(f"PRAGMA application_id = {APPLICATION}")


def add_aliases(connection: sqlite3.Connection) -> None:
    """Have the rows of a table of layout 2 found by their aliases, in the caller's transaction."""
    for statement in _ALIAS:
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {LAYOUT}")


class Writer:
    """The one connection that writes."""

    def __init__(self, path: Path, opening: openings.Opening) -> None:
        self.connection = connect(path)
        self._opening = opening
        self.commits = 0
        """Groups on stable storage since the opening."""

    def apply(self, writes: Mapping[bytes, Entry | None]) -> None:
        """Put the entries and delete the Nones in one transaction, on stable storage at return; all or nothing.

        The number of commits belongs to it: data nodes compare it with what they have seen.
        """
        columns = [
            column
            for key, entry in writes.items()
            if entry is not None
            for column in (key, *entry, checksum(key, *entry))
        ]
        opening, commits = self._opening, self.commits + 1
        if opening.has_row:
            columns += opening.row(commits)
        gone = [key for key, entry in writes.items() if entry is None]
        rows = len(columns) // 4
        connection = self.connection
        try:
            if rows <= ROWS_PER_STATEMENT_MAX and not gone and opening.has_row:
                # By itself a statement is a transaction: the interpreter's lock is given up and won back once.
                connection.execute(PUT[rows], columns)
            else:
                connection.execute("BEGIN IMMEDIATE")
                for start, count in _batches(rows):
                    connection.execute(PUT[count], columns[4 * start : 4 * (start + count)])
                for start, count in _batches(len(gone)):
                    connection.execute(_DELETE[count], gone[start : start + count])
                if not opening.has_row:
                    openings.count_commit(connection, opening, commits)
                connection.execute("COMMIT")
            self.commits = commits
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def close(self) -> None:
        self.connection.close()


class Reader:
    """Point look-ups for the event loop, all of one moment until ``refresh``."""

    def __init__(self, path: Path, *, writes: bool = True) -> None:
        """Without ``writes``, the file is another process's: nothing can be written by this connection."""
        self._connection = connect(path)
        if not writes:
            self._connection.execute("PRAGMA query_only = ON")
        self._connection.text_factory = bytes  # a damaged column may call itself text, and not be UTF-8
        self._cursor = self._connection.cursor()
        self._reading = False

    def get(self, key: bytes) -> Entry | None:
        self._begin()
        try:
            row = self._cursor.execute("SELECT value, version, checksum FROM kv WHERE key = ?", (key,)).fetchone()
        except sqlite3.Error as error:
            raise unreadable(error) from error
        return None if row is None else verified(key, *row)

    def get_many(self, keys: Sequence[bytes]) -> dict[bytes, Entry | RowCorrupt | None]:
        """The same for many, in few steps. A damaged row does not keep the others from being read."""
        self._begin()
        found: dict[bytes, Entry | RowCorrupt | None] = dict.fromkeys(keys)
        unique = list(found)
        stray = False
        try:
            for start, count in _batches(len(unique)):
                for key, *row in self._cursor.execute(_GET[count], unique[start : start + count]).fetchall():
                    if key not in found:  # as a damaged index spells it
                        stray = True
                        continue
                    try:
                        found[key] = verified(key, *row)
                    except RowCorrupt as error:
                        found[key] = error
        except sqlite3.Error as error:
            raise unreadable(error) from error
        if stray:
            self._get_each([key for key, entry in found.items() if entry is None], found)
        return found

    def _get_each(self, keys: Sequence[bytes], found: dict[bytes, Entry | RowCorrupt | None]) -> None:
        for key in keys:
            try:
                found[key] = self.get(key)
            except RowCorrupt as error:
                found[key] = error

    def find(self, alias: bytes) -> tuple[bytes, Entry] | None:
        """The row with this alias. Raises RowCorrupt if what its index leads to is damaged, or another one."""
        self._begin()
        try:
            row = self._cursor.execute(
                "SELECT key, value, version, checksum FROM kv INDEXED BY kv_alias WHERE alias = ?", (alias,)
            ).fetchone()
        except sqlite3.Error as error:
            raise unreadable(error) from error
        if row is None:
            return None
        key, *columns = row
        if type(key) is not bytes:
            raise RowCorrupt(repr(key).encode())  # a flipped bit may have changed its type
        entry = verified(key, *columns)
        if alias_of(entry.value) != alias:
            raise RowCorrupt(key)  # the index is damaged, and the row that was asked for may be a later one
        return key, entry

    def commits_of(self, opening: str) -> int:
        """Return how many groups of this opening, the newest one, are in the file at this moment; -1 if that is not
        known."""
        try:
            entry = self.get(openings.COMMITS)
        except RowCorrupt:
            return -1
        return -1 if entry is None or entry.value != opening.encode() else entry.version

    def _begin(self) -> None:
        if not self._reading:
            self._connection.execute("BEGIN")
            self._reading = True

    def refresh(self) -> None:
        """Let go of the moment; the next look-up begins a new one."""
        if self._reading:
            _end_reading(self._connection)
            self._reading = False

    def close(self) -> None:
        self._connection.close()


class Scanner:
    """Ranges, for a thread."""

    def __init__(self, path: Path, report: Callable[[bytes], None], *, writes: bool = True) -> None:
        """``report`` hears in that thread of the key of each damaged row; ``writes`` as for a Reader."""
        self._connection = connect(path)
        if not writes:
            self._connection.execute("PRAGMA query_only = ON")
        self._report = report

    def scan(self, start: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        rows = []
        lowest = start
        for key, value, intact in self._read_page(_PAGE, start, end, limit):
            if key < lowest or not intact:
                self._report(key)
                key, value = max(key, lowest), DAMAGED  # in order, so that a walk that continues here makes progress
            rows.append((key, value))
            lowest = key + b"\0"
        return rows

    def scan_aliases(self, start: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes, bytes]]:
        rows = []
        lowest = start
        for key, value, intact in self._read_page(_ALIAS_PAGE, start, end, limit):
            alias = alias_of(value)
            if alias is None or alias < lowest or not intact:
                self._report(key)
                alias, value = max(alias or lowest, lowest), DAMAGED
            rows.append((alias, key, value))
            lowest = alias + b"\0"
        return rows

    def _read_page(self, statement: str, start: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes, bool]]:
        """(key, value, whether the row has its checksum)"""
        try:
            (text,) = self._connection.execute(statement, (start, end, limit)).fetchone()
        except sqlite3.Error as error:
            raise unreadable(error) from error
        rows = []
        for line in text.split("\n") if text is not None else ():
            key_hex, value_hex, version, found = line.split(" ")
            key, value = bytes.fromhex(key_hex), bytes.fromhex(value_hex)
            rows.append((key, value, checksum(key, value, int(version)) == int(found)))
        return rows

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
            _end_reading(self._connection)

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


def verified(key: bytes, value: bytes, version: int, found: int) -> Entry:
    """The row as an entry. Raises RowCorrupt if it does not have the checksum that stands in it."""
    # A flipped bit may have changed a column's type as well.
    if type(value) is not bytes or type(version) is not int or checksum(key, value, version) != found:
        raise RowCorrupt(key)
    return Entry(value, version)


def _end_reading(connection: sqlite3.Connection) -> None:
    """Let go of the moment. A statement that met a broken page may make the COMMIT fail; there is nothing to lose."""
    try:
        connection.execute("COMMIT")
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def unreadable(error: sqlite3.Error) -> VolumeFailed:
    return VolumeFailed(f"the metadata cannot be read: {error}")


def _batches(count: int) -> list[tuple[int, int]]:
    """Cut ``count`` rows into what one statement takes: (start, length)."""
    return [(start, min(ROWS_PER_STATEMENT_MAX, count - start)) for start in range(0, count, ROWS_PER_STATEMENT_MAX)]


def sync_directory(path: Path) -> None:
    """Make created, renamed and removed files in it survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
