"""The index for compaction: find the needed records of a segment, and record where they were moved to."""

from __future__ import annotations

import json
from collections.abc import Sequence

from flared.data.index.index import SLICE, Index, mapped
from flared.data.record import Record
from flared.errors import SegmentCorrupt


def tombstone_bytes(index: Index) -> dict[int, int]:
    """Return for each segment about how many bytes of its tombstones are still needed. Reads the whole table."""
    with mapped():
        return dict(
            index.writer.execute(
                "SELECT killer, sum(length(name) + 100) FROM dead WHERE killer <> segment GROUP BY killer"
            ).fetchall()
        )


def find_living(index: Index, segment: int, records: Sequence[Record]) -> list[bool]:
    """Return for each of ``records`` whether the index locates its piece exactly there."""
    with mapped():
        rows = index.writer.execute(
            "SELECT name, offset FROM json_each(?) JOIN pieces ON name = value WHERE segment = ?",
            (json.dumps([record.name for record in records]), segment),
        ).fetchall()
    there = dict(rows)
    return [there.get(record.name) == record.offset for record in records]


def find_needed(index: Index, segment: int, tombstones: Sequence[Record]) -> list[bool]:
    """Return for each of this segment's tombstones whether it kills a record that still exists in another segment."""
    with mapped():
        rows = index.writer.execute(
            "SELECT name, min(sequence) FROM json_each(?) JOIN dead ON name = value WHERE segment <> ? GROUP BY name",
            (json.dumps([record.name for record in tombstones]), segment),
        ).fetchall()
    first = dict(rows)
    return [record.name in first and first[record.name] < record.sequence for record in tombstones]


def move_pieces(index: Index, target: int, moved: Sequence[tuple[str, int, int, int, int]]) -> None:
    """Record, within a transaction, pieces copied to another segment: each with its name, old segment, old offset,
    new offset and sequence. A piece deleted in the meantime stays dead, and its copy is recorded as dead too.
    """
    run = index.writer.execute
    for start in range(0, len(moved), SLICE):
        rows = json.dumps(moved[start : start + SLICE])
        # The counts first: they are found by the old locations, which the third statement replaces.
        run(
            "UPDATE segments SET pieces = pieces - n, live = live - bytes"
            " FROM (SELECT segment AS s, count(*) AS n, sum(length) AS bytes FROM json_each(?) JOIN pieces"
            " ON name = value ->> 0 WHERE segment = value ->> 1 AND offset = value ->> 2 GROUP BY s) WHERE id = s",
            (rows,),
        )
        run(
            "UPDATE segments SET pieces = pieces + n, live = live + bytes"
            " FROM (SELECT count(*) AS n, coalesce(sum(length), 0) AS bytes FROM json_each(?) JOIN pieces"
            " ON name = value ->> 0 WHERE segment = value ->> 1 AND offset = value ->> 2) WHERE id = ?",
            (rows, target),
        )
        run(
            "UPDATE pieces SET segment = ?, offset = value ->> 3 FROM json_each(?)"
            " WHERE name = value ->> 0 AND segment = value ->> 1 AND offset = value ->> 2",
            (target, rows),
        )
        # A copy that is not the piece's location now was deleted while it was copied; its tombstone must outlive it.
        run(
            "INSERT INTO dead SELECT value ->> 0, ?, value ->> 4, coalesce((SELECT killer FROM dead AS d"
            " WHERE d.name = value ->> 0 AND d.segment = value ->> 1), 0) FROM json_each(?)"
            " WHERE NOT EXISTS (SELECT 1 FROM pieces"
            " WHERE name = value ->> 0 AND segment = ? AND offset = value ->> 3)"
            " ON CONFLICT DO NOTHING",
            (target, rows, target),
        )


def forget_segments(index: Index, sources: Sequence[int], target: int) -> None:
    """Remove, within a transaction, segments about to be unlinked; ``target`` holds their living records (or is 0).

    Raise SegmentCorrupt if the index still locates a piece in one of them: its record was not found there.
    """
    run = index.writer.execute
    listed = json.dumps(sources)
    (left,) = run(
        "SELECT coalesce(sum(pieces), 0) FROM segments WHERE id IN (SELECT value FROM json_each(?))", (listed,)
    ).fetchone()
    if left:
        raise SegmentCorrupt(f"{left} pieces were not found in segments {listed}")
    run("DELETE FROM dead WHERE segment IN (SELECT value FROM json_each(?))", (listed,))
    run("UPDATE dead SET killer = ? WHERE killer IN (SELECT value FROM json_each(?))", (target, listed))
    run("DELETE FROM segments WHERE id IN (SELECT value FROM json_each(?))", (listed,))
    run("INSERT INTO gone SELECT value FROM json_each(?)", (listed,))
