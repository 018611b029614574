"""Walk: over the records of all chunks, a page at a time, in the order of their ids.

The walker moves on only when a page was dealt with: what fails on the way is done again, nothing is skipped. New ids
order behind all others, so a walk that rests would never catch up with clients that write faster than it reads. It
ends at its *horizon*: everything that was there when it began lies before that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flared.catalog.chunks import ChunkRecord, list_chunks
from flared.names import ChunkId, chunk_time
from flared.objects.store import now_ms

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from flared.objects.store import Store

PAGE = 200
"""Looking up so many records takes about two milliseconds of the event loop."""

AHEAD_MS = 1000
"""How far ahead of the clock a horizon is at least: what is put while it is looked for counts as new."""
_AHEAD_MAX_MS = 1 << 48
BEYOND = "u"
"""Orders behind every chunk id."""

_SHARE_MAX = 0.99
"""Of a walk that has not ended: how many records there are is not known exactly."""


async def find_horizon(store: Store, holds_from: Callable[[str], Awaitable[bool]]) -> str:
    """A position in the order of chunk ids with nothing behind it now, as ``holds_from`` says of each one asked.

    One question, if all ids are of the past. Some are of the future after the clock of this host, or of another api
    node, was ahead: then the distance is doubled until it leaves nothing out.
    """
    now = now_ms(store)
    ahead = AHEAD_MS
    while ahead < _AHEAD_MAX_MS:
        horizon = chunk_time(now + ahead)
        if not await holds_from(horizon):
            return horizon
        ahead *= 2
    return BEYOND


@dataclass(slots=True)
class Walk:
    """One walk, from the first record to its horizon. It lives in memory: a start begins anew."""

    cursor: ChunkId | None = None
    ended: bool = False
    _horizon: str = ""
    _passed: int = 0
    """Records dealt with."""

    async def read_page(self, store: Store) -> list[ChunkRecord]:
        """The next records; the same ones until ``move_on``."""
        if not self._horizon:

            async def holds_from(chunk: str) -> bool:
                return bool(await list_chunks(store.kv, ChunkId(chunk), 1))

            self._horizon = await find_horizon(store, holds_from)
        return await list_chunks(store.kv, self.cursor, PAGE, self._horizon)

    def move_on(self, page: Sequence[ChunkRecord]) -> None:
        """The page was dealt with. One that is not full was the last."""
        self._passed += len(page)
        if len(page) == PAGE:
            self.cursor = page[-1].id
        else:
            self.ended = True

    def share(self, store: Store) -> float:
        """About how many of the records it has passed, from 0 to 1."""
        if self.ended:
            return 1.0
        return min(self._passed / max(store.totals.now().chunks, 1), _SHARE_MAX)
