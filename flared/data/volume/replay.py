"""Replay: update the index from the segments, before a volume serves.

With the index of the last run it reads only the tails of the segments that were active then. If the index and the
files do not match, it rebuilds the index from all of them. Every step may be interrupted and started again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import islice

from flared.data.disk.disk import Disk
from flared.data.index import quarantine as index_quarantine
from flared.data.index.index import Index, IndexCorrupt, SegmentRow, Watermark
from flared.data.index.replay import begin_replay, end_replay, forget_gone, gone_segments, replay_records
from flared.data.record import BLOCK, TORN
from flared.data.volume.segment import Scan, Segment, Segments, is_torn
from flared.errors import FlareError

log = logging.getLogger(__name__)

_STEP_RECORDS = 2048
"""Records applied at once: a stop has to wait for them."""
_REBUILDING = "rebuilding"
_NEXT_SEGMENT = "next_segment"
_SEQUENCE = "sequence"


class Replay:
    """One replay. Run ``steps`` in a thread, one step at a time; ``index`` can be read in the meantime."""

    def __init__(self, disk: Disk, path: str, segments: Segments) -> None:
        self._disk = disk
        self._path = path
        self._segments = segments
        self.sequence = 0
        self.pieces = 0
        self.records = 0
        self.index = self._open()

    def steps(self) -> Iterator[None]:
        """Replay everything. At the end the index knows every segment to its end, and all of them are sealed."""
        index, segments = self.index, self._segments
        # First make files and index match: finish unlinks, then decide whether the index can be trusted at all.
        self._remove_gone()
        rows = {row.id: row for row in index.segments()}
        if index.number(_REBUILDING) or not self._fits(rows):
            self._rebuild()
            index, rows = self.index, {}
        self._settle_compactions(rows)
        segments.reserve(max(index.number(_NEXT_SEGMENT), max(rows, default=0) + 1))
        self.sequence = index.number(_SEQUENCE)
        # A rebuild that is cut short leaves its mark, so that the next start does not trust a part of an index.
        tails = [segment for segment in segments.known.values() if _is_open(segment, rows.get(segment.id))]
        if not rows and segments.known:
            with index.transaction():
                index.note({_REBUILDING: 1})
        begin_replay(index)
        marks = []
        for segment in tails:
            start = rows[segment.id].watermark if segment.id in rows else BLOCK
            mark = Watermark(segment.id, segment.head.kind, segment.head.salt, start, False)
            with index.transaction():
                index.mark([mark])
            yield from self._read(segment, start)
            marks.append(mark._replace(watermark=segment.size, sealed=True))
        # Seal, and take the mark away, only after every tail was read.
        with index.transaction():
            index_quarantine.apply_newest(index)
            index.mark(marks)
            index.note({_REBUILDING: 0, **facts(segments.next_id, self.sequence)})
        end_replay(index)
        index.checkpoint()
        self.pieces = sum(row.pieces for row in index.segments())

    def _open(self) -> Index:
        try:
            return Index(self._disk, self._path)
        except IndexCorrupt as error:
            log.error("event=index_corrupt path=%s error=%r", self._path, str(error))
            remove_index(self._disk, self._path)
            return Index(self._disk, self._path)

    def _rebuild(self) -> None:
        log.warning("event=index_rebuild path=%s segments=%d", self._path, len(self._segments.known))
        self.index.close()
        remove_index(self._disk, self._path)
        self.index = Index(self._disk, self._path)

    def _fits(self, rows: dict[int, SegmentRow]) -> bool:
        """Return whether the index matches the files: all that it knows exist, and it knows all that it should."""
        known = self._segments.known
        if not rows:
            return not known or not any(segment.size > BLOCK for segment in known.values())
        for row in rows.values():
            segment = known.get(row.id)
            if segment is None or segment.head.salt != row.salt or segment.size < row.watermark:
                return False
        return all(
            segment.id in rows or all(source in known for source in segment.head.sources) for segment in known.values()
        )

    def _remove_gone(self) -> None:
        """Unlink segments again that a power cut has brought back."""
        back = gone_segments(self.index) & set(self._segments.known)
        for segment in back:
            self._segments.remove(segment)
        self._segments.sync_directory()
        with self.index.transaction():
            forget_gone(self.index)

    def _settle_compactions(self, rows: dict[int, SegmentRow]) -> None:
        """Unlink the sources of a compacted segment that the index uses; remove a compacted segment that is unfinished.

        Its sources are unlinked only once it is complete and durable, so a missing source proves it complete too.
        """
        known = self._segments.known
        for segment in list(known.values()):
            sources = segment.head.sources
            if segment.id in known and sources:
                left = [source for source in sources if source in known]
                complete = segment.id in rows or len(left) < len(sources)
                for gone in left if complete else [segment.id]:
                    log.info("event=compaction_settled segment=%016x removed=%016x", segment.id, gone)
                    self._segments.remove(gone)

    def _read(self, segment: Segment, start: int) -> Iterator[None]:
        """Apply a segment's records from ``start`` on, then free the room behind the last of them."""
        file = self._disk.open(segment.path, write=True)
        try:
            records = Scan(file, segment.head, start, segment.size)
            found = iter(records)
            end = max(start, BLOCK)
            while batch := list(islice(found, _STEP_RECORDS)):
                believed = [
                    record._replace(kind=TORN) if is_torn(file, segment.head, segment.size, record) else record
                    for record in batch
                ]
                with self.index.transaction():
                    replay_records(self.index, believed)
                self.records += len(batch)
                self.sequence = max(self.sequence, *(record.sequence for record in batch), 0)
                end = max((record.offset + record.length for record in believed if record.kind != TORN), default=end)
                yield
            if records.unreadable:
                log.error("event=segment_unreadable path=%s", segment.path)
                end = segment.size
            file.truncate(end)
            file.sync()  # the next power cut must not undo what was found or cut off now
            segment.size = end
            segment.allocated = file.allocated()
            segment.sealed = True
        finally:
            file.close()


def facts(next_segment: int, sequence: int) -> dict[str, int]:
    """Return the facts that the index stores beside pieces and segments."""
    return {_NEXT_SEGMENT: next_segment, _SEQUENCE: sequence}


def remove_index(disk: Disk, path: str) -> None:
    """Remove the database and the files beside it."""
    for suffix in ("", "-wal", "-shm"):
        try:
            disk.remove(path + suffix)
        except FlareError as error:
            log.error("event=index_remove_failed path=%s error=%r", path + suffix, str(error))


def _is_open(segment: Segment, row: SegmentRow | None) -> bool:
    """Return whether the last run may have written to the segment after the index was last updated."""
    return row is None or not row.sealed or segment.size > row.watermark
