"""Compactor: copies living records out of mostly dead segments and unlinks these.

The order: copy living records (with their sequence numbers) into a fresh segment that names its sources, sync it,
switch the index in one durable transaction, unlink the sources. A crash before the switch leaves a segment all of
whose sources exist: the next start removes it. A tombstone is copied while any other segment has a record that it
kills, even a segment that is unlinked with it: a power cut may bring back either of two names unlinked together. The
payload of a piece in quarantine is living, and its newest quarantine record is copied as long as the piece exists.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

import trio

from flared.data.disk.buffers import PieceBuffer
from flared.data.index.compact import find_living, find_needed, forget_segments, move_pieces, tombstone_bytes
from flared.data.index.index import Index, SegmentRow, Watermark
from flared.data.index.quarantine import find_current, move_quarantined, quarantine_bytes
from flared.data.record import (
    ALIGNED,
    BLOCK,
    KIND_NAMES,
    LARGE,
    PIECE,
    QUARANTINE,
    TOMBSTONE,
    Head,
    Record,
    pack_piece,
    pack_quarantine,
    pack_tombstone,
    record_length,
)
from flared.data.volume.segment import Scan, Segment
from flared.errors import Damaged, FlareError, SegmentCorrupt, VolumeFailed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flared.data.disk.disk import File
    from flared.data.volume.volume import Volume

log = logging.getLogger(__name__)

_PAUSE_SECONDS = 5.0
_GARBAGE_SHARE = 0.5
_GARBAGE_SHARE_TIGHT = 0.1
"""The share of garbage from which a segment is worth copying; the smaller one when the disk is nearly full."""
_GARBAGE_MIN = 64 * 1024
_SOURCES_MAX = 64
_TINY_COUNT = 8
_TINY_SHARE = 16
"""So many segments smaller than this part of a full one (restarts leave them) are merged."""
_BATCH_RECORDS = 256
_BATCH_BYTES = 4 * 1024 * 1024


@dataclass(slots=True)
class _Target:
    """The segment that receives the living records."""

    head: Head
    segment: Segment
    file: File
    end: int = BLOCK
    moved: list[tuple[str, int, int, int, int]] = field(default_factory=list)
    hidden: list[tuple[str, int]] = field(default_factory=list)
    """Names and sequences of the quarantine records that were copied."""


class Compactor:
    """A Worker of one volume."""

    name = "compact"

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self._seen = -1
        self._woken = trio.Event()
        self._broken: set[int] = set()
        """Segments that could not be read to their end: left alone, so that nothing in them is lost."""

    async def step(self) -> bool:
        """Empty one group of segments, or free some pages of the index; return True if there may be more."""
        self._seen = self._volume.deletes
        if self._volume.state not in ("ok", "full"):
            return False
        await self._roll_dead()
        tombstones = await self._volume.piece_map.ask(_marker_bytes)
        rows = await self._volume.piece_map.change(Index.segments)
        group = self._choose(rows, tombstones)
        if not group:
            return await self._volume.piece_map.change(Index.shrink)
        has_living = any(row.pieces or row.id in tombstones for row in rows if row.id in group)
        await self._compact(group, has_living=has_living)
        return True

    async def wait(self) -> None:
        while True:
            with trio.move_on_after(_PAUSE_SECONDS):
                await self._woken.wait()
            self._woken = trio.Event()
            if self._volume.deletes != self._seen:
                return

    def wake(self) -> None:
        """Look for work now, because room is needed."""
        self._woken.set()

    async def _roll_dead(self) -> None:
        """Seal an active segment that is mostly garbage: only sealed ones can be compacted."""
        rows = {row.id: row for row in await self._volume.piece_map.change(Index.segments)}
        for segment in self._volume.active_segments():
            row = rows.get(segment.id)
            if row and segment.size - BLOCK - row.live >= max(_GARBAGE_MIN, segment.size * _GARBAGE_SHARE):
                await self._volume.roll(segment.head.kind)

    def _choose(self, rows: Sequence[SegmentRow], tombstones: dict[int, int]) -> list[int]:
        """Return the next group, of one kind: dead segments, else those with the most garbage, else many tiny ones."""
        known = self._volume.segments.known
        sealed = [row for row in rows if row.sealed and row.id in known and row.id not in self._broken]
        dead = [row.id for row in sealed if not row.pieces and not tombstones.get(row.id)]
        if dead:
            return dead[:_SOURCES_MAX]
        for kind in KIND_NAMES:
            of_kind = [row for row in sealed if row.kind == kind]
            group = self._wasteful(of_kind, tombstones) or self._tiny(of_kind)
            if group:
                return group
        return []

    def _wasteful(self, rows: Sequence[SegmentRow], tombstones: dict[int, int]) -> list[int]:
        volume = self._volume
        share = _GARBAGE_SHARE_TIGHT if volume.free < volume.capacity // 10 else _GARBAGE_SHARE
        found = []
        for row in rows:
            allocated = volume.segments.known[row.id].allocated
            garbage = allocated - BLOCK - row.live - tombstones.get(row.id, 0)
            if garbage >= max(_GARBAGE_MIN, allocated * share):
                found.append((garbage, row))
        found.sort(reverse=True)
        room = min(volume.segment_size, volume.free + volume.reserve // 2)
        group: list[int] = []
        for _, row in found[:_SOURCES_MAX]:
            room -= row.live + tombstones.get(row.id, 0)
            if room >= 0:
                group.append(row.id)
        return group

    def _tiny(self, rows: Sequence[SegmentRow]) -> list[int]:
        volume = self._volume
        tiny = [row.id for row in rows if volume.segments.known[row.id].size < volume.segment_size // _TINY_SHARE]
        return tiny[:_SOURCES_MAX] if len(tiny) >= _TINY_COUNT and volume.free > volume.segment_size else []

    async def _compact(self, group: list[int], *, has_living: bool) -> None:
        volume = self._volume
        sources = [volume.segments.known[segment] for segment in group]
        before = sum(source.allocated for source in sources)
        target = await self._new_target(sources) if has_living else None
        try:
            if target:
                await self._fill(target, sources)
            # From here on only the next start can decide whether the target is complete; leave it in any case.
            await volume.piece_map.change(partial(_switch, group, target))
        except Damaged as error:
            self._broken.update(group)
            log.error("event=compaction_failed segments=%s error=%r", _listed(group), str(error))
            return
        paths = [volume.segments.forget(segment) for segment in group]
        await volume.threads.background.run(self._unlink, paths)
        after = target.segment.allocated if target else 0
        log.info("event=compacted path=%s segments=%s bytes=%d left=%d", volume.path, _listed(group), before, after)

    async def _fill(self, target: _Target, sources: Sequence[Segment]) -> None:
        """Copy the living records and sync them; remove a target that cannot be finished."""
        volume = self._volume
        try:
            for source in sources:
                await self._copy_segment(source, target)
            await volume.threads.background.run(target.file.sync)
            target.segment.size = target.end
            target.segment.allocated = target.file.allocated()
            volume.segments.known[target.head.id] = target.segment
        except BaseException:
            volume.disk.remove(target.segment.path)
            raise
        finally:
            target.file.close()

    async def _new_target(self, sources: Sequence[Segment]) -> _Target:
        segments = self._volume.segments
        head = segments.new_head(sources[0].head.kind, tuple(source.id for source in sources))
        segment, file = await self._volume.threads.background.run(segments.create, head)
        segment.sealed = True
        return _Target(head, segment, file)

    async def _copy_segment(self, source: Segment, target: _Target) -> None:
        """Copy the living records of one segment, resting as long as each batch took, so that clients come first."""
        volume = self._volume
        run = volume.threads.background.run
        file = await run(volume.disk.open, source.path)
        try:
            scan = Scan(file, source.head, BLOCK, source.size)
            found = iter(scan)
            while batch := await run(_take, found):
                started = trio.current_time()
                keep = await volume.piece_map.ask(partial(_select_needed, source.id, batch))
                if keep:
                    await run(_copy, file, source, target, keep)
                await trio.sleep(trio.current_time() - started)
            if scan.unreadable:
                raise VolumeFailed(f"{source.path} cannot be read to its end")
        finally:
            file.close()

    def _unlink(self, paths: list[str]) -> None:
        """Unlink them in a thread, once the index does not need them. After a failure the next start unlinks them."""
        try:
            self._volume.segments.unlink(paths)
        except FlareError as error:  # no tombstone may be dropped while a record that it kills may come back
            self._volume.stop_writes(str(error))


def _take(found: Iterator[Record]) -> list[Record]:
    """Return some records: so few that their payloads fit into a few MiB, unless one alone does not."""
    batch: list[Record] = []
    total = 0
    for record in islice(found, _BATCH_RECORDS):
        batch.append(record)
        total += record.size
        if total >= _BATCH_BYTES:
            break
    return batch


def _select_needed(source: int, batch: list[Record], index: Index) -> list[Record]:
    pieces = [record for record in batch if record.kind == PIECE]
    tombstones = [record for record in batch if record.kind == TOMBSTONE]
    living = find_living(index, source, pieces) if pieces else []
    needed = find_needed(index, source, tombstones) if tombstones else []
    hiding = [record for record in batch if record.kind == QUARANTINE]
    current = find_current(index, hiding) if hiding else []
    found = zip(pieces + tombstones + hiding, living + needed + current, strict=True)
    return [record for record, lives in found if lives]


def _marker_bytes(index: Index) -> dict[int, int]:
    """Return for each segment about how many bytes of its tombstones and quarantine records are still needed."""
    return dict(Counter(tombstone_bytes(index)) + Counter(quarantine_bytes(index)))


def _copy(file: File, source: Segment, target: _Target, records: list[Record]) -> None:
    """Copy records in a thread. A payload is copied unchanged: if it is damaged, its checksum still shows that."""
    kind = target.head.kind
    length = sum(record_length(kind, 0, record.size) + 4 * BLOCK for record in records)
    room = PieceBuffer(length)
    try:
        whole = room.payload
        used = 0
        for record in records:
            used += _repack(file, source, target, record, target.end + used, whole[used:])
        file_length = used
        target.file.write(target.end, [whole[:file_length]])
        target.end += file_length
        whole.release()
    finally:
        room.close()


def _repack(file: File, source: Segment, target: _Target, record: Record, offset: int, room: memoryview) -> int:
    """Write one record at its new offset; return its length."""
    head = target.head
    if record.kind == TOMBSTONE:
        packed = pack_tombstone(record.name, head.id, offset, record.sequence, head.salt)
        room[: len(packed)] = packed
        return len(packed)
    if record.kind == QUARANTINE:
        since_ms = record.plain_size
        packed = pack_quarantine(record.name, head.id, offset, record.sequence, head.salt, since_ms)
        room[: len(packed)] = packed
        target.hidden.append((record.name, record.sequence))
        return len(packed)
    flags = ALIGNED if head.kind == LARGE else 0
    header = pack_piece(record.piece(), head.id, offset, record.sequence, head.salt, flags)
    start = BLOCK if flags else len(header)
    room[: len(header)] = header
    if file.read_into(record.payload_offset, room[start : start + record.size]) < record.size:
        raise SegmentCorrupt(f"{source.path} ends before the record at {record.offset} does")
    target.moved.append((record.name, source.id, record.offset, offset, record.sequence))
    return record_length(head.kind, len(record.name), record.size)


def _switch(group: list[int], target: _Target | None, index: Index) -> None:
    with index.transaction(durable=True):
        if target:
            head = target.head
            index.mark([Watermark(head.id, head.kind, head.salt, target.end, sealed=True)])
            move_pieces(index, head.id, target.moved)
            move_quarantined(index, head.id, target.hidden)
        forget_segments(index, group, target.head.id if target else 0)


def _listed(group: Sequence[int]) -> str:
    return ",".join(f"{segment:x}" for segment in group)
