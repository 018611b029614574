"""The index for quarantine: which pieces are hidden, since when, and how much room they take."""

from __future__ import annotations

import json
from collections.abc import Sequence

from flared.data.index.index import Index, Quarantined, mapped
from flared.data.record import Record

_HIDDEN = "SELECT name, size, since FROM quarantine JOIN pieces USING (name) WHERE since > 0"


def page_hidden(index: Index, after: str, limit: int) -> list[tuple[str, int, int]]:
    """Return (name, size, hidden since, ms) of the next hidden pieces in name order."""
    with mapped():
        return index.writer.execute(f"{_HIDDEN} AND name > ? ORDER BY name LIMIT ?", (after, limit)).fetchall()


def oldest_hidden(index: Index, until_ms: int, limit: int) -> list[tuple[str, int, int]]:
    """Return (name, size, hidden since, ms) of the pieces hidden before then, the oldest first."""
    with mapped():
        return index.writer.execute(f"{_HIDDEN} AND since <= ? ORDER BY since LIMIT ?", (until_ms, limit)).fetchall()


def count_hidden(index: Index) -> tuple[int, int]:
    """Return the number of hidden pieces, and the bytes of their records. Reads the whole table."""
    with mapped():
        pieces, length = index.writer.execute(
            "SELECT count(*), coalesce(sum(length), 0) FROM quarantine JOIN pieces USING (name) WHERE since > 0"
        ).fetchone()
    return pieces, length


def quarantine_bytes(index: Index) -> dict[int, int]:
    """Return for each segment about how many bytes of its quarantine records are still needed."""
    with mapped():
        return dict(
            index.writer.execute("SELECT segment, sum(length(name) + 100) FROM quarantine GROUP BY segment").fetchall()
        )


def find_current(index: Index, records: Sequence[Record]) -> list[bool]:
    """Return for each of these quarantine records whether it is the newest of a piece that exists."""
    with mapped():
        rows = index.writer.execute(
            "SELECT name, sequence FROM json_each(?) JOIN quarantine ON name = value",
            (json.dumps([record.name for record in records]),),
        ).fetchall()
    newest = dict(rows)
    return [newest.get(record.name) == record.sequence for record in records]


def move_quarantined(index: Index, target: int, moved: Sequence[tuple[str, int]]) -> None:
    """Record, within a transaction, quarantine records, by name and sequence, copied to another segment."""
    index.writer.executemany(
        "UPDATE quarantine SET segment = ? WHERE name = ? AND sequence = ?",
        [(target, name, sequence) for name, sequence in moved],
    )


# Replay: segments are read in any order, so the newest record of a name is known only at the end.


def begin(index: Index) -> None:
    with mapped():
        index.writer.executescript(
            "DROP TABLE IF EXISTS temp.quarantine_met;"
            "CREATE TEMP TABLE quarantine_met (name TEXT PRIMARY KEY, segment INTEGER, sequence INTEGER, since INTEGER)"
            " WITHOUT ROWID"
        )


def note_record(index: Index, met: Quarantined) -> None:
    """Remember a quarantine record, unless a newer one of the same name was read."""
    index.writer.execute(
        "INSERT INTO temp.quarantine_met VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET segment = excluded.segment,"
        " sequence = excluded.sequence, since = excluded.since WHERE excluded.sequence > sequence",
        met,
    )


def forget_older(index: Index, name: str, sequence: int) -> None:
    """Drop the quarantine records of a name that are older than a tombstone or a later put."""
    index.writer.execute("DELETE FROM quarantine WHERE name = ? AND sequence < ?", (name, sequence))


def apply_newest(index: Index) -> None:
    """Apply the newest records, within a transaction, after every segment was read."""
    run = index.writer.execute
    run(
        "INSERT OR REPLACE INTO quarantine SELECT m.name, m.segment, m.sequence, m.since"
        " FROM temp.quarantine_met AS m JOIN pieces AS p ON p.name = m.name AND p.sequence < m.sequence"
        " WHERE NOT EXISTS (SELECT 1 FROM quarantine AS q WHERE q.name = m.name AND q.sequence > m.sequence)"
    )
    run("DELETE FROM quarantine WHERE NOT EXISTS (SELECT 1 FROM pieces AS p WHERE p.name = quarantine.name)")
