"""Whole metadata files: copied while a node writes, checked, and changed where no other process uses them. Blocks."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING, Self

from flared.errors import ConfigError, LogCorrupt, RowCorrupt
from flared.meta.kv import DAMAGED
from flared.meta.layout import check_log
from flared.meta.row import checksum
from flared.meta.sqlite_file import APPLICATION, LAYOUT, verified

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from flared.meta.keys import Range

STEP_PAGES = 256
STEP_SECONDS = 0.02
"""A rest after each MiB: 50 MB/s at most, so that the commits of a node that runs get their share of the disk."""
ROWS_PER_READ = 1000
SYNC_STEPS = 8
"""Synced this often: one sync of everything at the end would hold up the node's."""
VERSION = 1
"""Of keys written here; a node's are larger (``open_database``), and it remembers none from before its start."""

_ALIASED_LAYOUT = 3
_COLUMNS = {
    1: "key, value, version",
    2: "key, value, version, checksum",
    LAYOUT: "key, value, version, checksum",
}
"""Of each layout that can be backed up and restored; a restored file is converted when its node starts."""


def copy_database(source: Path, target: Path, *, writable: bool, pause: float = STEP_SECONDS) -> None:
    """Copy one moment of ``source``, with what its log holds, into the empty file ``target``, synced.

    The writer goes on meanwhile; only its log is not begun anew. ``writable``: the log may be looked after, too.
    Raises sqlite3.Error, OSError.
    """
    descriptor = os.open(target, os.O_RDWR | os.O_CLOEXEC)
    steps = 0

    def go_easy(_status: int, _left: int, _pages: int) -> None:
        nonlocal steps
        steps += 1
        if steps % SYNC_STEPS == 0:
            os.fdatasync(descriptor)
        time.sleep(pause)  # the parameter of that name of ``backup`` is for a locked file only

    try:
        with closing(_open(source, "rw" if writable else "ro")) as reader, closing(_open(target, "rw")) as writer:
            writer.execute("PRAGMA journal_mode = OFF")
            writer.execute("PRAGMA synchronous = OFF")  # a copy that was broken off is worth nothing
            reader.execute("BEGIN")  # a copy that does not hold its moment begins again after every commit
            reader.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            reader.backup(writer, pages=STEP_PAGES, progress=go_easy)
            writer.execute("PRAGMA journal_mode = DELETE").fetchone()  # one file, without a log beside it
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Copy:
    """A metadata file that no node has open: a Snapshot that can be changed.

    A context manager: the changes of a block are durable together when it ends, and none is there if it fails.
    """

    def __init__(self, path: Path, source: Path | None = None) -> None:
        """Raises ConfigError if it is not metadata of a layout that we know, or damaged; ``source`` is the file that it
        was copied from, which errors name."""
        self._path = source or path
        self._connection = _open(path, "rw")
        try:
            layout = self._check()
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise ConfigError([f"{self._path} is damaged or no SQLite file: {error}"]) from error
        except BaseException:
            self._connection.close()
            raise
        self._columns = _COLUMNS[layout]
        self._aliased = layout >= _ALIASED_LAYOUT

    def __enter__(self) -> Self:
        self._connection.execute("BEGIN")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._connection.execute("COMMIT" if error is None else "ROLLBACK")
        finally:
            self._connection.close()

    def get(self, key: bytes) -> bytes | None:
        """Raises RowCorrupt; a row of layout 1 has no checksum that could be wrong."""
        row = self._connection.execute(f"SELECT {self._columns} FROM kv WHERE key = ?", (key,)).fetchone()
        return None if row is None else self._verified(*row)

    def find(self, alias: bytes) -> tuple[bytes, bytes] | None:
        """Raises RowCorrupt."""
        if not self._aliased:
            return None
        row = self._connection.execute(f"SELECT {self._columns} FROM kv WHERE alias = ?", (alias,)).fetchone()
        return None if row is None else (row[0], self._verified(*row))

    def count(self, span: Range) -> int:
        (count,) = self._connection.execute("SELECT count(*) FROM kv WHERE key >= ? AND key < ?", span).fetchone()
        return int(count)

    def scan(self, span: Range, limit: int) -> list[tuple[bytes, bytes]]:
        """The first rows of a range; DAMAGED stands for the value of one that is."""
        rows = self._connection.execute(
            f"SELECT {self._columns} FROM kv WHERE key >= ? AND key < ? ORDER BY key LIMIT ?", (*span, limit)
        )
        found = []
        for key, *columns in rows:
            try:
                found.append((bytes(key), self._verified(key, *columns)))
            except RowCorrupt:
                found.append((bytes(key), DAMAGED))
        return found

    def count_damaged(self) -> int:
        """Rows that are not what was written. Reads all of them, a page at a time."""
        damaged = 0
        cursor = self._connection.execute(f"SELECT {self._columns} FROM kv NOT INDEXED")
        while page := cursor.fetchmany(ROWS_PER_READ):
            for row in page:
                try:
                    self._verified(*row)
                except RowCorrupt:
                    damaged += 1
        return damaged

    def put(self, key: bytes, value: bytes) -> None:
        row = (key, value, VERSION, checksum(key, value, VERSION))[: len(self._columns.split(", "))]
        marks = ", ".join("?" * len(row))
        self._connection.execute(f"INSERT OR REPLACE INTO kv ({self._columns}) VALUES ({marks})", row)

    def delete(self, span: Range) -> None:
        self._connection.execute("DELETE FROM kv WHERE key >= ? AND key < ?", span)

    @staticmethod
    def _verified(key: bytes, value: bytes, version: int, *found: int) -> bytes:
        return verified(key, value, version, *found).value if found else value

    def _check(self) -> int:
        (application,) = self._connection.execute("PRAGMA application_id").fetchone()
        (layout,) = self._connection.execute("PRAGMA user_version").fetchone()
        if application != APPLICATION:
            raise ConfigError([f"{self._path} is not metadata of Flare"])
        if layout not in _COLUMNS:
            raise ConfigError([f"{self._path} was written by a newer Flare (layout {layout}, this one knows {LAYOUT})"])
        (answer,) = self._connection.execute("PRAGMA integrity_check(1)").fetchone()
        if answer != "ok":
            raise ConfigError([f"{self._path} is damaged: {' '.join(answer.split())}"])
        return int(layout)


def fold_log(path: Path) -> None:
    """Move the log into the file, if both are sound; only while no node has it. What cannot be read is left alone."""
    try:
        check_log(path)
        with closing(_open(path, "rw")) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except (sqlite3.Error, LogCorrupt):
        return


def _open(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, timeout=10)
