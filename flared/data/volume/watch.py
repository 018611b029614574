"""DiskWatch: measures the disk of a volume while it serves, and finds out that it is dead or hangs."""

from __future__ import annotations

import logging
from itertools import count, islice
from typing import TYPE_CHECKING, Protocol

import trio

from flared.data.disk.probe import Probe
from flared.data.volume.identity import identity_path
from flared.errors import FlareError, VolumeFailed

if TYPE_CHECKING:
    from flared.background import Threads
    from flared.data.disk.disk import Disk
    from flared.data.volume.segment import Segments

log = logging.getLogger(__name__)

_WATCH_SECONDS = 2.0
_PROBE_EVERY = 10
"""Measurements between two probes of a disk that seems well, for it may not be in use."""
HANG_SECONDS = 120.0
"""A disk that does not answer for this long counts as failed; the kernel reports a hung task then, too."""


class Owner(Protocol):
    """The calls that a DiskWatch makes to its volume."""

    path: str
    state: str
    segments: Segments

    async def measure(self) -> None:
        """Ask the disk how much room there is."""

    def fail(self, reason: str) -> None:
        """Take no more calls."""


class DiskWatch:
    """``run`` it while the volume serves."""

    def __init__(self, owner: Owner, disk: Disk, threads: Threads) -> None:
        self._owner = owner
        self.probe = Probe(disk, threads)
        self._failure = ""
        """Of the last measurement."""
        self._measuring_since: float | None = None

    async def run(self) -> None:
        """Watch until cancelled; raises VolumeFailed when the disk could not be read for a while, or hangs."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._measure)
            nursery.start_soon(self._watch_hangs)

    async def _measure(self) -> None:
        """A measurement that fails ends nothing, and is logged once: puts go by the room that was last seen."""
        for turn in count(1):
            self._measuring_since = None
            await trio.sleep(_WATCH_SECONDS)
            self._measuring_since = trio.current_time()
            failure = ""
            try:
                await self._owner.measure()
            except FlareError as error:
                failure = str(error)
                if failure != self._failure:
                    log.error("event=measuring_failed path=%s error=%r", self._owner.path, failure)
            self._failure = failure
            if failure or self._owner.state == "readonly" or self.probe.failures or turn % _PROBE_EVERY == 0:
                segments = islice(self._owner.segments.known.values(), 1)
                await self.probe.check([identity_path(self._owner.path), *(segment.path for segment in segments)])

    async def _watch_hangs(self) -> None:
        """The threads that wait for the disk cannot be called back, so the volume ends only when they do; until then it
        is ``failed`` all the same, and refuses every call. Rounds are counted, because a process that was stopped for
        minutes has a clock that says so, but gave its disk no time."""
        seen, rounds = None, 0
        while True:
            await trio.sleep(_WATCH_SECONDS)
            rounds = rounds + 1 if self._measuring_since is not None and self._measuring_since == seen else 0
            seen = self._measuring_since
            if rounds * _WATCH_SECONDS >= HANG_SECONDS:
                reason = f"the disk has not answered for {HANG_SECONDS:.0f} s"
                log.error("event=volume_hangs path=%s error=%r", self._owner.path, reason)
                self._owner.fail(reason)
                raise VolumeFailed(reason)
