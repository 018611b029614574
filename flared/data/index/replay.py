"""The index for replay: apply the records of segments, which may be read in any order."""

from __future__ import annotations

from collections.abc import Iterable

from flared.data.index import quarantine as index_quarantine
from flared.data.index.index import Index, Location, Quarantined, mapped
from flared.data.record import PIECE, QUARANTINE, TOMBSTONE, TORN, Record


def begin_replay(index: Index) -> None:
    """Create ``graves``: the newest tombstone of every name, for pieces that are read after it."""
    with mapped():
        index.writer.executescript(
            "DROP TABLE IF EXISTS temp.graves;"
            "CREATE TEMP TABLE graves (name TEXT PRIMARY KEY, sequence INTEGER, killer INTEGER) WITHOUT ROWID"
        )
    index_quarantine.begin(index)


def end_replay(index: Index) -> None:
    with mapped():
        index.writer.execute("DROP TABLE temp.graves")


def replay_records(index: Index, records: Iterable[Record]) -> None:
    """Apply records of one segment, within a transaction. The highest sequence wins, in any order."""
    for record in records:
        if record.kind == PIECE:
            _replay_piece(index, record)
        elif record.kind == TOMBSTONE:
            _replay_tombstone(index, record)
        elif record.kind == QUARANTINE:
            met = Quarantined(record.name, record.segment, record.sequence, record.plain_size)
            index_quarantine.note_record(index, met)
        elif record.kind == TORN:
            _record_dead(index, record.name, record.segment, record.sequence, 0)


def _replay_piece(index: Index, record: Record) -> None:
    run = index.writer.execute
    name, sequence = record.name, record.sequence
    # A newer tombstone may have been read before: segments come in any order.
    grave = run("SELECT killer FROM temp.graves WHERE name = ? AND sequence > ?", (name, sequence)).fetchone()
    if grave:
        _record_dead(index, name, record.segment, sequence, grave[0])
        return
    # Of two records of one piece the higher sequence wins; the other is dead, without a tombstone that kills it.
    row = run("SELECT segment, offset, size, length, sequence FROM pieces WHERE name = ?", (name,)).fetchone()
    if row:
        there = Location._make(row)
        if there.sequence >= sequence:
            if there.segment != record.segment:
                _record_dead(index, name, record.segment, sequence, 0)
            return
        _record_dead(index, name, there.segment, there.sequence, 0)
        index.account(there.segment, -1, -there.length)
    run(
        "INSERT OR REPLACE INTO pieces VALUES (?, ?, ?, ?, ?, ?)",
        (name, record.segment, record.offset, record.size, record.length, sequence),
    )
    index_quarantine.forget_older(index, name, sequence)
    index.account(record.segment, 1, record.length)


def _replay_tombstone(index: Index, record: Record) -> None:
    run = index.writer.execute
    name, sequence = record.name, record.sequence
    run(
        "INSERT INTO temp.graves VALUES (?, ?, ?) ON CONFLICT DO UPDATE"
        " SET sequence = excluded.sequence, killer = excluded.killer WHERE excluded.sequence > sequence",
        (name, sequence, record.segment),
    )
    index_quarantine.forget_older(index, name, sequence)
    run("UPDATE dead SET killer = ? WHERE name = ? AND sequence < ?", (record.segment, name, sequence))
    row = run(
        "SELECT segment, offset, size, length, sequence FROM pieces WHERE name = ? AND sequence < ?",
        (name, sequence),
    ).fetchone()
    if row:
        there = Location._make(row)
        _record_dead(index, name, there.segment, there.sequence, record.segment)
        index.account(there.segment, -1, -there.length)
        run("DELETE FROM pieces WHERE name = ?", (name,))


def _record_dead(index: Index, name: str, segment: int, sequence: int, killer: int) -> None:
    index.writer.execute(
        "INSERT INTO dead VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET sequence = min(sequence, excluded.sequence)",
        (name, segment, sequence, killer),
    )


def gone_segments(index: Index) -> set[int]:
    """Return segments that were unlinked, but may exist again."""
    with mapped():
        return {segment for (segment,) in index.writer.execute("SELECT id FROM gone")}


def forget_gone(index: Index) -> None:
    """Forget them, within a transaction, because their unlinking is durable."""
    index.writer.execute("DELETE FROM gone")
