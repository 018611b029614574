"""Puncher: gives the room of deleted pieces back at once, where they are large enough to make a hole.

The header block stays, so that a replay still walks over the record. Only for places whose tombstone is synced. What
a crash leaves unpunched, compaction takes later.
"""

from __future__ import annotations

import logging
from collections import defaultdict

import trio

from flared.background import Threads
from flared.data.disk import Disk
from flared.data.index import Place
from flared.data.record import BLOCK, LARGE
from flared.data.segment import Segment, Segments
from flared.errors import FlareError

log = logging.getLogger(__name__)

_HOLE_MIN = 32 * 1024
"""Smaller holes would only make the file's map longer."""
_QUEUE_MAX = 100_000


class Puncher:
    def __init__(self, segments: Segments, disk: Disk, threads: Threads) -> None:
        self._segments = segments
        self._disk = disk
        self._threads = threads
        self._queue: list[Place] = []
        self._filled = trio.Event()

    def add(self, place: Place) -> None:
        """The record there is dead, durably."""
        if place.size >= _HOLE_MIN and len(self._queue) < _QUEUE_MAX:
            self._queue.append(place)
            self._filled.set()

    async def run(self) -> None:
        while True:
            await self._filled.wait()
            self._filled = trio.Event()
            queue, self._queue = self._queue, []
            by_segment: defaultdict[int, list[Place]] = defaultdict(list)
            for place in queue:
                by_segment[place.segment].append(place)
            for number, places in by_segment.items():
                segment = self._segments.known.get(number)
                if segment:
                    await self._threads.run(self._punch, segment, places)

    def _punch(self, segment: Segment, places: list[Place]) -> None:
        try:
            file = self._disk.open(segment.path, write=True)
            try:
                before = file.allocated()
                for place in places:
                    start, end = _hole(segment.head.kind, place)
                    if end - start >= _HOLE_MIN:
                        file.punch(start, end - start)
                segment.allocated -= before - file.allocated()
            finally:
                file.close()
        except FlareError as error:
            if segment.id not in self._segments.known:
                return  # compacted meanwhile
            log.warning("event=punch_failed path=%s error=%r", segment.path, str(error))


def _hole(kind: int, place: Place) -> tuple[int, int]:
    """The whole blocks of a record that hold nothing but payload."""
    end = place.offset + place.length
    if kind == LARGE:
        return place.offset + BLOCK, end
    payload = end - ((place.size + 7) & ~7)
    return (payload + BLOCK - 1) & -BLOCK, end & -BLOCK
