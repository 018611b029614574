"""InFlight: chunks and extents that this process or a worker works on now, so that upkeep leaves them alone.

A chunk is *claimed* while its pieces are written or deleted without a record that says so: pieces of an unrecorded
chunk look like orphans. Ids of chunks and extents are *pinned* while somebody holds a manifest that names them, or
writes the extent: what has lost its last reference looks like garbage. Upkeep asks here before it deletes either.
What a failed put left on the nodes is handed over from here too, so that it need not wait for the next look at every
node's inventory.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import trio

from flared.names import NodeName

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from flared.names import ChunkId

Pieces = tuple[tuple[int, NodeName], ...]
"""(piece number, the node that may hold it)"""

ABANDONED_MAX = 100_000
"""The next reconciliation finds the ones that do not fit."""


class InFlight:
    def __init__(self) -> None:
        self._claimed: set[ChunkId] = set()
        self._pinned: dict[str, int] = {}
        self._abandoned: deque[tuple[float, ChunkId, Pieces]] = deque(maxlen=ABANDONED_MAX)
        self._hear_others: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint

    def hear_others(self, hear: Callable[[], Awaitable[None]]) -> None:
        """There are other processes whose chunks are noted here too; ``hear`` is how ``settled`` asks them."""
        self._hear_others = hear

    async def settled(self) -> None:
        """Return when all that any process of this node was writing when this was called is noted here, and all of
        them know the data nodes as they were then."""
        await self._hear_others()

    def claim(self, chunk: ChunkId) -> None:
        """From now on the pieces of this chunk are this caller's, who writes or deletes them. He asks ``is_claimed``
        first unless he has just drawn the id. End it with ``release`` or ``abandon``."""
        self._claimed.add(chunk)

    def release(self, chunk: ChunkId) -> None:
        """End the claim: changes to the chunk's pieces are recorded, or there were none."""
        self._claimed.discard(chunk)

    def abandon(self, chunk: ChunkId, pieces: Pieces, now: float) -> None:
        """Release the chunk, which may have ``pieces`` and will not be recorded; ``now`` is on the monotonic clock."""
        if chunk in self._claimed:
            self._abandoned.append((now, chunk, pieces))
            self._claimed.discard(chunk)

    def take_abandoned(self, before: float, limit: int) -> list[tuple[ChunkId, Pieces]]:
        """Remove and return abandoned chunks with their pieces: those abandoned before that moment, oldest first."""
        taken: list[tuple[ChunkId, Pieces]] = []
        while self._abandoned and self._abandoned[0][0] < before and len(taken) < limit:
            _, chunk, pieces = self._abandoned.popleft()
            taken.append((chunk, pieces))
        return taken

    def is_claimed(self, chunk: ChunkId) -> bool:
        return chunk in self._claimed

    def claimed(self) -> frozenset[ChunkId]:
        """All of them, now."""
        return frozenset(self._claimed)

    def pin(self, names: list[str]) -> None:
        """Keep these chunks or extents from being deleted until ``unpin``; a name may be pinned many times."""
        pinned = self._pinned
        for name in names:
            pinned[name] = pinned.get(name, 0) + 1

    def unpin(self, names: list[str]) -> None:
        pinned = self._pinned
        for name in names:
            left = pinned[name] - 1
            if left:
                pinned[name] = left
            else:
                del pinned[name]

    def is_pinned(self, name: str) -> bool:
        return name in self._pinned

    @property
    def waiting(self) -> int:
        """How many abandoned chunks have not been taken yet."""
        return len(self._abandoned)
