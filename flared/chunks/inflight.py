"""InFlight: chunks whose pieces are being written, or read, by this process right now.

Pieces of an unrecorded chunk look like orphans, and a chunk whose last reference went looks like garbage; upkeep asks
here before it deletes either. What a failed put left on the nodes is handed over from here too, so that it need not
wait for the next look at every node's inventory.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from flared.names import NodeName

if TYPE_CHECKING:
    from flared.names import ChunkId

Pieces = tuple[tuple[int, NodeName], ...]
"""(piece number, the node that may hold it)"""

ABANDONED_MAX = 100_000
"""What does not fit is found by the next reconciliation."""


class InFlight:
    def __init__(self) -> None:
        self._writing: set[ChunkId] = set()
        self._reading: dict[str, int] = {}
        self._abandoned: deque[tuple[float, ChunkId, Pieces]] = deque(maxlen=ABANDONED_MAX)

    def begin_write(self, chunk: ChunkId) -> None:
        self._writing.add(chunk)

    def settle_write(self, chunk: ChunkId) -> None:
        """The chunk is recorded."""
        self._writing.discard(chunk)

    def abandon_write(self, chunk: ChunkId, pieces: Pieces, now: float) -> None:
        """The chunk may have ``pieces`` and will not be recorded; ``now`` is on the monotonic clock."""
        if chunk in self._writing:
            self._abandoned.append((now, chunk, pieces))
            self._writing.discard(chunk)

    def take_abandoned(self, before: float, limit: int) -> list[tuple[ChunkId, Pieces]]:
        """What was abandoned before that moment, oldest first; it is forgotten here."""
        taken: list[tuple[ChunkId, Pieces]] = []
        while self._abandoned and self._abandoned[0][0] < before and len(taken) < limit:
            _, chunk, pieces = self._abandoned.popleft()
            taken.append((chunk, pieces))
        return taken

    def writes(self, chunk: ChunkId) -> bool:
        return chunk in self._writing

    def writing(self) -> frozenset[ChunkId]:
        """All of them, now."""
        return frozenset(self._writing)

    def begin_read(self, names: list[str]) -> None:
        """Chunk ids or extent ids that a reader holds a manifest of."""
        reading = self._reading
        for name in names:
            reading[name] = reading.get(name, 0) + 1

    def end_read(self, names: list[str]) -> None:
        reading = self._reading
        for name in names:
            left = reading[name] - 1
            if left:
                reading[name] = left
            else:
                del reading[name]

    def reads(self, name: str) -> bool:
        return name in self._reading

    @property
    def waiting(self) -> int:
        return len(self._abandoned)
