"""Walk: over the records of all chunks, a page at a time, in the order of their ids.

Whoever walks moves on only when a page was dealt with: what fails on the way is done again, nothing is passed over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flared.catalog.chunks import ChunkRecord, list_chunks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flared.meta.kv import KV
    from flared.names import ChunkId

PAGE = 200
"""Looking up so many records takes about two milliseconds of the event loop."""


@dataclass(slots=True)
class Walk:
    """One walk, from the first record to the last. It lives in memory: a start begins anew."""

    cursor: ChunkId | None = None
    ended: bool = False

    async def read_page(self, kv: KV) -> list[ChunkRecord]:
        """The next records; the same ones until ``move_on``."""
        return await list_chunks(kv, self.cursor, PAGE)

    def move_on(self, page: Sequence[ChunkRecord]) -> None:
        """The page was dealt with. One that is not full was the last."""
        if len(page) == PAGE:
            self.cursor = page[-1].id
        else:
            self.ended = True

    @property
    def share(self) -> float:
        """How many of the records it has passed, from 0 to 1: ids begin with a digest, so they are evenly spread."""
        if self.ended:
            return 1.0
        return int(self.cursor[:4], 16) / 0x10000 if self.cursor else 0.0
