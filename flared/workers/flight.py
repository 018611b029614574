"""Flight: what a worker reads and writes right now, reported to the owner, whose upkeep asks there before it deletes.

What has begun is reported before any commit of the worker's, so an upload is known to the owner before its extent is;
otherwise within REPORT_SECONDS, which is well inside the grace that garbage and orphans have. Most small reads are over
by then and never reported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import trio

from flared.chunks.inflight import InFlight, Pieces
from flared.names import ChunkId, NodeName

if TYPE_CHECKING:
    from collections.abc import Callable

REPORT_SECONDS = 0.2

N = TypeVar("N", bound=str)


class WorkerFlight(InFlight):
    """The InFlight of a worker."""

    def __init__(self) -> None:
        super().__init__()
        self._touched_writes: set[ChunkId] = set()
        self._touched_reads: set[str] = set()
        self._reported_writes: set[ChunkId] = set()
        self._reported_reads: set[str] = set()
        self._given_up: list[tuple[ChunkId, Pieces]] = []

    def claim(self, chunk: ChunkId) -> None:
        super().claim(chunk)
        self._touched_writes.add(chunk)

    def release(self, chunk: ChunkId) -> None:
        super().release(chunk)
        self._touched_writes.add(chunk)

    def abandon(self, chunk: ChunkId, pieces: Pieces, now: float) -> None:
        if self.is_claimed(chunk):
            self.release(chunk)
            self._given_up.append((chunk, pieces))

    def pin(self, names: list[str]) -> None:
        super().pin(names)
        self._touched_reads.update(names)

    def unpin(self, names: list[str]) -> None:
        super().unpin(names)
        self._touched_reads.update(names)

    def take_news(self) -> dict[str, object] | None:
        """Return what has changed since the last call, as JSON has it; None if nothing has."""
        news: dict[str, object] = {}
        if self._touched_writes:
            news["writes"] = _changes(self._touched_writes, self._reported_writes, self.is_claimed)
        if self._touched_reads:
            news["reads"] = _changes(self._touched_reads, self._reported_reads, self.is_pinned)
        if self._given_up:
            news["given_up"] = self._given_up
            self._given_up = []
        return news or None


def _changes(touched: set[N], reported: set[N], holds: Callable[[N], bool]) -> list[list[N]]:
    """Return [begun, ended] of those touched since the last report."""
    begun = [name for name in touched if name not in reported and holds(name)]
    ended = [name for name in touched if name in reported and not holds(name)]
    touched.clear()
    reported.update(begun)
    reported.difference_update(ended)
    return [begun, ended]


class Held:
    """The reports of one worker, noted in the owner's InFlight."""

    def __init__(self, in_flight: InFlight) -> None:
        self._in_flight = in_flight
        self._writes: set[ChunkId] = set()
        self._reads: set[str] = set()

    def take_news(self, news: dict[str, Any]) -> None:  # type: ignore[explicit-any]  # JSON of a process of ours
        """Note what ``WorkerFlight.take_news`` returned."""
        for chunk, pieces in news.get("given_up", ()):
            placed = tuple((int(number), NodeName(node)) for number, node in pieces)
            self._in_flight.claim(ChunkId(chunk))
            self._in_flight.abandon(ChunkId(chunk), placed, trio.current_time())
            self._writes.discard(ChunkId(chunk))
        begun, ended = news.get("writes", ((), ()))
        self._note(begun, self._writes, self._in_flight.claim)
        self._end(ended, self._writes, self._in_flight.release)
        begun, ended = news.get("reads", ((), ()))
        self._note(begun, self._reads, lambda name: self._in_flight.pin([name]))
        self._end(ended, self._reads, lambda name: self._in_flight.unpin([name]))

    def forget(self) -> None:
        """The worker is gone, and what it had sent has arrived or is lost."""
        self.take_news({"writes": [[], list(self._writes)], "reads": [[], list(self._reads)]})

    def _note(self, names: list[Any], held: set[Any], begin: Callable[[Any], None]) -> None:  # type: ignore[explicit-any]
        for name in names:
            if name not in held:
                held.add(name)
                begin(name)

    def _end(self, names: list[Any], held: set[Any], end: Callable[[Any], None]) -> None:  # type: ignore[explicit-any]
        for name in names:
            if name in held:
                held.discard(name)
                end(name)
