"""Puncher: frees the room of deleted pieces at once, if they are large enough for a hole in the file.

The header block stays, so that a replay can step over the record. Only records whose tombstone is synced are punched.
After a crash, compaction frees the rest later.
"""

from __future__ import annotations

import logging
from collections import defaultdict

import trio

from flared.background import Threads
from flared.data.disk.disk import Disk
from flared.data.index.index import Location
from flared.data.record import BLOCK, LARGE
from flared.data.volume.segment import Segment, Segments
from flared.errors import FlareError

log = logging.getLogger(__name__)

_HOLE_MIN = 32 * 1024
"""Smaller holes would only lengthen the file's extent map."""
_QUEUE_MAX = 100_000


class Puncher:
    def __init__(self, segments: Segments, disk: Disk, threads: Threads) -> None:
        self._segments = segments
        self._disk = disk
        self._threads = threads
        self._queue: list[Location] = []
        self._filled = trio.Event()

    def add(self, location: Location) -> None:
        """Punch the record at this location, whose tombstone is durable."""
        if location.size >= _HOLE_MIN and len(self._queue) < _QUEUE_MAX:
            self._queue.append(location)
            self._filled.set()

    async def run(self) -> None:
        while True:
            await self._filled.wait()
            self._filled = trio.Event()
            queue, self._queue = self._queue, []
            by_segment: defaultdict[int, list[Location]] = defaultdict(list)
            for location in queue:
                by_segment[location.segment].append(location)
            for number, locations in by_segment.items():
                segment = self._segments.known.get(number)
                if segment:
                    await self._threads.run(self._punch, segment, locations)

    def _punch(self, segment: Segment, locations: list[Location]) -> None:
        try:
            file = self._disk.open(segment.path, write=True)
            try:
                before = file.allocated()
                for location in locations:
                    start, end = _hole(segment.head.kind, location)
                    if end - start >= _HOLE_MIN:
                        file.punch(start, end - start)
                segment.allocated -= before - file.allocated()
            finally:
                file.close()
        except FlareError as error:
            if segment.id not in self._segments.known:
                return  # compacted in the meantime
            log.warning("event=punch_failed path=%s error=%r", segment.path, str(error))


def _hole(kind: int, location: Location) -> tuple[int, int]:
    """Return the whole blocks of a record that contain only payload."""
    end = location.offset + location.length
    if kind == LARGE:
        return location.offset + BLOCK, end
    payload = end - ((location.size + 7) & ~7)
    return (payload + BLOCK - 1) & -BLOCK, end & -BLOCK
