"""Index: piece name -> location, in SQLite. Derived from the segments: a lost or wrong index is rebuilt from them.

Changes come in bulk, each batch with the segments' watermarks in one transaction. One statement takes many rows and
runs without the interpreter lock; ``executemany`` would compete with the event loop for it, row by row.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

from flared.data.disk.disk import Disk
from flared.errors import SegmentCorrupt, VolumeFailed

T = TypeVar("T")

FORMAT = 1
SLICE = 512
"""Rows of one statement: encoding them holds the interpreter lock for half a millisecond."""
_SLICE_MAX = 4096
"""Rows of one statement when many wait: each statement must regain the lock from a busy event loop, up to 5 ms."""
_INSERT = {
    1 << power: "INSERT OR REPLACE INTO pieces VALUES " + ",".join(["(?,?,?,?,?,?)"] * (1 << power))
    for power in range(SLICE.bit_length())
}
"""Statements that bind their values, by number of rows: four times as fast as values from JSON."""
_LOG_BYTES = 8 * 1024 * 1024
_UNUSED_PAGES_MIN = 64
_SHRINK_PAGES = 1024
_WRITER_CACHE_KIB = 4096
_READER_CACHE_KIB = 4096
"""With half of that every second look-up among 30,000 pieces reads a page again."""
_CHECKER_CACHE_KIB = 1024
"""Most names that it is asked for come behind all it has."""

_SCHEMA = """
CREATE TABLE facts (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE segments (
    id INTEGER PRIMARY KEY, kind INTEGER NOT NULL, salt TEXT NOT NULL,
    watermark INTEGER NOT NULL, sealed INTEGER NOT NULL, pieces INTEGER NOT NULL, live INTEGER NOT NULL
);
CREATE TABLE pieces (
    name TEXT PRIMARY KEY, segment INTEGER NOT NULL, offset INTEGER NOT NULL,
    size INTEGER NOT NULL, length INTEGER NOT NULL, sequence INTEGER NOT NULL
) WITHOUT ROWID;
-- Segments that were unlinked: a power cut may bring their names back.
CREATE TABLE gone (id INTEGER PRIMARY KEY);
-- A record that a tombstone (or a later record) of its name keeps dead, as long as its segment is there.
CREATE TABLE dead (
    name TEXT NOT NULL, segment INTEGER NOT NULL, sequence INTEGER NOT NULL, killer INTEGER NOT NULL,
    PRIMARY KEY (name, segment)
) WITHOUT ROWID;
"""
_QUARANTINE_SCHEMA = """
-- The newest quarantine record of each piece that has one; since 0: the piece is shown again. Added to older indexes.
CREATE TABLE IF NOT EXISTS quarantine (
    name TEXT PRIMARY KEY, segment INTEGER NOT NULL, sequence INTEGER NOT NULL, since INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS quarantine_since ON quarantine (since);
"""


class Location(NamedTuple):
    """Where a piece's record is."""

    segment: int
    offset: int
    size: int
    length: int
    """Bytes of the whole record."""
    sequence: int


class Deletion(NamedTuple):
    """A tombstone in segment ``killer``, and the location that it kills if the index does not have that yet."""

    name: str
    killer: int
    sequence: int
    victim: int
    victim_sequence: int


class Quarantined(NamedTuple):
    """A quarantine record: the piece of this name is hidden since then; 0: it is visible again."""

    name: str
    segment: int
    sequence: int
    since_ms: int


class Watermark(NamedTuple):
    """How far the index knows a segment."""

    id: int
    kind: int
    salt: int
    watermark: int
    sealed: bool


class SegmentRow(NamedTuple):
    id: int
    kind: int
    salt: int
    watermark: int
    sealed: bool
    pieces: int
    live: int
    """Bytes of the records of its living pieces."""


class IndexCorrupt(SegmentCorrupt):
    """The index is damaged; it will be rebuilt from the segments."""


@contextmanager
def mapped() -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise _failure(error) from error


def _slices(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    size = min(_SLICE_MAX, max(SLICE, len(rows) // 8))
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _batches(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    """Split into batches of SLICE rows, and of powers of two at the end, so that few statements are prepared."""
    start = 0
    while start < len(rows):
        size = min(SLICE, 1 << ((len(rows) - start).bit_length() - 1))
        yield rows[start : start + size]
        start += size


def _failure(error: sqlite3.DatabaseError) -> VolumeFailed | IndexCorrupt:
    if isinstance(error, sqlite3.OperationalError):  # disk full, I/O error: the content may be fine
        return VolumeFailed(f"index: {error}")
    return IndexCorrupt(f"index: {error}")


class Index:
    """Three connections: ``writer`` for changes (one at a time, in a thread), ``reader`` for look-ups on the event
    loop, ``checker`` for look-ups of the thread that writes small groups.

    ``index/replay.py`` and ``index/compact.py`` use ``writer``, too.
    """

    def __init__(self, disk: Disk, path: str) -> None:
        with mapped():
            self.writer = disk.connect(path)
            self._prepare()
            self._reader = disk.connect(path)
            self._checker = disk.connect(path)
            self._reader.execute(f"PRAGMA cache_size = -{_READER_CACHE_KIB}")
            self._checker.execute(f"PRAGMA cache_size = -{_CHECKER_CACHE_KIB}")

    def _prepare(self) -> None:
        writer = self.writer
        writer.execute("PRAGMA auto_vacuum = INCREMENTAL")
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("PRAGMA synchronous = NORMAL")
        writer.execute("PRAGMA wal_autocheckpoint = 0")
        writer.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")
        writer.execute(f"PRAGMA cache_size = -{_WRITER_CACHE_KIB}")
        (version,) = writer.execute("PRAGMA user_version").fetchone()
        if version == 0:
            writer.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {FORMAT}; COMMIT")
        elif version != FORMAT:
            raise sqlite3.DatabaseError(f"format {version} is not known to this version")
        writer.execute("SELECT count(*) FROM segments").fetchone()
        writer.executescript(f"BEGIN; {_QUARANTINE_SCHEMA} COMMIT")

    def close(self) -> None:
        for connection in (self._checker, self._reader, self.writer):
            connection.close()

    # Look-ups

    def find(self, name: str) -> Location | None:
        """Find a piece; on the event loop, about 5 us."""
        try:
            rows = self._reader.execute(
                "SELECT segment, offset, size, length, sequence FROM pieces WHERE name = ?", (name,)
            ).fetchall()
        except sqlite3.DatabaseError as error:
            raise _failure(error) from error
        return Location._make(rows[0]) if rows else None

    def find_many(self, names: Sequence[str]) -> dict[str, Location]:
        """Find the pieces that exist, in one statement; on the event loop."""
        make = tuple.__new__  # the class itself costs twice as much, and a get of many pieces is mostly this
        with mapped():
            rows = self._reader.execute(
                "SELECT name, segment, offset, size, length, sequence FROM json_each(?) JOIN pieces ON name = value",
                (json.dumps(names),),
            ).fetchall()
        return {row[0]: make(Location, row[1:]) for row in rows}

    def present(self, names: Sequence[str]) -> list[str]:
        """Return those of ``names`` that exist; for the thread that writes small groups."""
        with mapped():
            return [
                name
                for (name,) in self._checker.execute(
                    "SELECT name FROM json_each(?) JOIN pieces ON name = value", (json.dumps(names),)
                )
            ]

    def last_name(self) -> str:
        """Return the last name in name order; empty if there are no pieces. For the thread that changes the index."""
        with mapped():
            (name,) = self.writer.execute("SELECT max(name) FROM pieces").fetchone()
        return name or ""

    def page(self, after: str, limit: int) -> list[tuple[str, int]]:
        """Return (name, size) of the next pieces in name order, without hidden ones."""
        with mapped():
            return self._reader.execute(
                "SELECT name, size FROM pieces WHERE name > ? AND NOT EXISTS"
                " (SELECT 1 FROM quarantine AS q WHERE q.name = pieces.name AND since > 0) ORDER BY name LIMIT ?",
                (after, limit),
            ).fetchall()

    def hidden(self, names: Sequence[str]) -> dict[str, int]:
        """Return those of the names that are in quarantine, with the sequences of their records; on the event loop."""
        with mapped():
            rows = self._reader.execute(
                "SELECT name, sequence FROM json_each(?) JOIN quarantine ON name = value WHERE since > 0",
                (json.dumps(names),),
            ).fetchall()
        return dict(rows)

    def locations(self, after: str, limit: int) -> list[tuple[str, Location]]:
        """Return the next pieces in name order, with their locations."""
        with mapped():
            rows = self._reader.execute(
                "SELECT name, segment, offset, size, length, sequence FROM pieces WHERE name > ? ORDER BY name LIMIT ?",
                (after, limit),
            ).fetchall()
        return [(row[0], Location._make(row[1:])) for row in rows]

    def segments(self) -> list[SegmentRow]:
        with mapped():
            rows = self.writer.execute(
                "SELECT id, kind, salt, watermark, sealed, pieces, live FROM segments"
            ).fetchall()
        return [SegmentRow(row[0], row[1], int(row[2]), row[3], bool(row[4]), row[5], row[6]) for row in rows]

    def number(self, key: str) -> int:
        """Return a fact; 0 if it was never stored."""
        return int(self.text(key) or 0)

    def text(self, key: str) -> str:
        """Return a fact; empty if it was never stored."""
        with mapped():
            row = self._reader.execute("SELECT value FROM facts WHERE key = ?", (key,)).fetchone()
        return str(row[0]) if row else ""

    # Changes

    @contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[None]:
        """Apply all changes inside the block together. ``durable``: they survive a power cut, not only a crash."""
        with mapped():
            writer = self.writer
            if durable:
                writer.execute("PRAGMA synchronous = FULL")
            try:
                writer.execute("BEGIN IMMEDIATE")
                try:
                    yield
                    writer.execute("COMMIT")
                except BaseException:
                    if writer.in_transaction:
                        writer.execute("ROLLBACK")
                    raise
            finally:
                if durable:
                    writer.execute("PRAGMA synchronous = NORMAL")

    def apply(
        self,
        puts: Sequence[tuple[str, Location]],
        deletions: Sequence[Deletion],
        marks: Iterable[Watermark],
        facts: Mapping[str, int | str],
        quarantined: Sequence[Quarantined] = (),
    ) -> None:
        """Apply the changes since the last call, in one transaction: deletions, then pieces, then which of them are
        hidden."""
        with self.transaction():
            self.mark(marks)
            self.note(facts)
            for gone in _slices(deletions):
                self._delete(json.dumps(gone))
            added: Counter[int] = Counter()
            bytes_added: Counter[int] = Counter()
            # In the order of the tree, so that rows of one page are written together.
            for rows in _batches(sorted(puts)):
                self._insert(rows)
                for _, location in rows:
                    added[location.segment] += 1
                    bytes_added[location.segment] += location.length
            for segment, pieces in added.items():
                self.account(segment, pieces, bytes_added[segment])
            for records in _slices(quarantined):
                self._quarantine(json.dumps(records))

    def mark(self, marks: Iterable[Watermark]) -> None:
        self.writer.executemany(
            "INSERT INTO segments VALUES (?, ?, ?, ?, ?, 0, 0) ON CONFLICT (id)"
            " DO UPDATE SET watermark = excluded.watermark, sealed = excluded.sealed",
            [(mark.id, mark.kind, str(mark.salt), mark.watermark, mark.sealed) for mark in marks],
        )

    def note(self, facts: Mapping[str, int | str]) -> None:
        self.writer.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", list(facts.items()))

    def _insert(self, rows: Sequence[tuple[str, Location]]) -> None:
        self.writer.execute(_INSERT[len(rows)], [column for name, location in rows for column in (name, *location)])

    def _delete(self, rows: str) -> None:
        run = self.writer.execute
        # Two records may be killed: the one the caller saw in its memtable, and an older one that the index has. Both
        # keep the tombstone needed for as long as their segments exist.
        run(
            "INSERT INTO dead SELECT value ->> 0, value ->> 3, value ->> 4, value ->> 1 FROM json_each(?)"
            " WHERE value ->> 3 IN (SELECT id FROM segments)"
            " ON CONFLICT DO UPDATE SET sequence = min(sequence, excluded.sequence), killer = excluded.killer",
            (rows,),
        )
        run(
            "INSERT INTO dead SELECT name, segment, sequence, value ->> 1 FROM json_each(?) JOIN pieces"
            " ON name = value ->> 0 WHERE sequence < value ->> 2"
            " ON CONFLICT DO UPDATE SET sequence = min(sequence, excluded.sequence), killer = excluded.killer",
            (rows,),
        )
        # Counts before rows: the rows say which segment loses how much.
        run(
            "UPDATE segments SET pieces = pieces - n, live = live - bytes"
            " FROM (SELECT segment AS s, count(*) AS n, sum(length) AS bytes"
            " FROM (SELECT DISTINCT value ->> 0 AS gone FROM json_each(?)) JOIN pieces ON name = gone GROUP BY s)"
            " WHERE id = s",
            (rows,),
        )
        run("DELETE FROM pieces WHERE name IN (SELECT value ->> 0 FROM json_each(?))", (rows,))
        run("DELETE FROM quarantine WHERE name IN (SELECT value ->> 0 FROM json_each(?))", (rows,))

    def _quarantine(self, rows: str) -> None:
        """Hide pieces that exist and are older than the record: a later put or delete makes the record void."""
        self.writer.execute(
            "INSERT OR REPLACE INTO quarantine SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3"
            " FROM json_each(?) JOIN pieces ON name = value ->> 0 WHERE sequence < value ->> 2",
            (rows,),
        )

    def account(self, segment: int, pieces: int, live: int) -> None:
        """Add, within a transaction, so many living pieces and bytes to a segment."""
        self.writer.execute(
            "UPDATE segments SET pieces = pieces + ?, live = live + ? WHERE id = ?", (pieces, live, segment)
        )

    def checkpoint(self) -> None:
        """Move the log into the database as far as readers allow; never waits for them."""
        with mapped():
            self.writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def shrink(self) -> bool:
        """Free some unused pages if they are the greater part; return True if there are more."""
        with mapped():
            (unused,) = self.writer.execute("PRAGMA freelist_count").fetchone()
            (pages,) = self.writer.execute("PRAGMA page_count").fetchone()
            if unused < _UNUSED_PAGES_MIN or 2 * unused < pages:
                return False
            self.writer.execute(f"PRAGMA incremental_vacuum({_SHRINK_PAGES})").fetchall()
            self.writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return True
