"""Index, as quarantine sees it: which pieces are hidden, since when, and how much room they take."""

from __future__ import annotations

import json
from collections.abc import Sequence

from flared.data.index.index import Index, Quarantined, mapped
from flared.data.record import Record

_HIDDEN = "SELECT name, size, since FROM quarantine JOIN pieces USING (name) WHERE since > 0"


def page_hidden(index: Index, after: str, limit: int) -> list[tuple[str, int, int]]:
    """(name, size, hidden since, ms) of the next hidden pieces in name order."""
    with mapped():
        return index.writer.execute(f"{_HIDDEN} AND name > ? ORDER BY name LIMIT ?", (after, limit)).fetchall()


def oldest_hidden(index: Index, until_ms: int, limit: int) -> list[tuple[str, int, int]]:
    """(name, size, hidden since, ms) of the pieces hidden until then, those first that were hidden first."""
    with mapped():
        return index.writer.execute(f"{_HIDDEN} AND since <= ? ORDER BY since LIMIT ?", (until_ms, limit)).fetchall()


def count_hidden(index: Index) -> tuple[int, int]:
    """Hidden pieces, and the bytes of their records. Reads the whole table."""
    with mapped():
        pieces, length = index.writer.execute(
            "SELECT count(*), coalesce(sum(length), 0) FROM quarantine JOIN pieces USING (name) WHERE since > 0"
        ).fetchone()
    return pieces, length


def quarantine_bytes(index: Index) -> dict[int, int]:
    """By segment: about how many bytes of quarantine records are still needed there."""
    with mapped():
        return dict(
            index.writer.execute("SELECT segment, sum(length(name) + 100) FROM quarantine GROUP BY segment").fetchall()
        )


def find_current(index: Index, records: Sequence[Record]) -> list[bool]:
    """Which of these quarantine records are the newest of a piece that is there."""
    with mapped():
        rows = index.writer.execute(
            "SELECT name, sequence FROM json_each(?) JOIN quarantine ON name = value",
            (json.dumps([record.name for record in records]),),
        ).fetchall()
    newest = dict(rows)
    return [newest.get(record.name) == record.sequence for record in records]


def move_quarantined(index: Index, target: int, moved: Sequence[tuple[str, int]]) -> None:
    """Within a transaction: quarantine records, by name and sequence, that were copied to another segment."""
    index.writer.executemany(
        "UPDATE quarantine SET segment = ? WHERE name = ? AND sequence = ?",
        [(target, name, sequence) for name, sequence in moved],
    )


# Replay: segments come in any order, so which record is the newest is known at the end only.


def begin(index: Index) -> None:
    with mapped():
        index.writer.executescript(
            "DROP TABLE IF EXISTS temp.quarantine_met;"
            "CREATE TEMP TABLE quarantine_met (name TEXT PRIMARY KEY, segment INTEGER, sequence INTEGER, since INTEGER)"
            " WITHOUT ROWID"
        )


def meet(index: Index, met: Quarantined) -> None:
    """A quarantine record was read."""
    index.writer.execute(
        "INSERT INTO temp.quarantine_met VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET segment = excluded.segment,"
        " sequence = excluded.sequence, since = excluded.since WHERE excluded.sequence > sequence",
        met,
    )


def forget_older(index: Index, name: str, sequence: int) -> None:
    """A tombstone of the name, or a piece put again, is newer than what hid the piece before."""
    index.writer.execute("DELETE FROM quarantine WHERE name = ? AND sequence < ?", (name, sequence))


def settle(index: Index) -> None:
    """Within a transaction, when every segment was read."""
    run = index.writer.execute
    run(
        "INSERT OR REPLACE INTO quarantine SELECT m.name, m.segment, m.sequence, m.since"
        " FROM temp.quarantine_met AS m JOIN pieces AS p ON p.name = m.name AND p.sequence < m.sequence"
        " WHERE NOT EXISTS (SELECT 1 FROM quarantine AS q WHERE q.name = m.name AND q.sequence > m.sequence)"
    )
    run("DELETE FROM quarantine WHERE NOT EXISTS (SELECT 1 FROM pieces AS p WHERE p.name = quarantine.name)")
