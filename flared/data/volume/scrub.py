"""Scrubber: reads every piece again at a set pace and reports those that fail verification.

It follows the index, in name order, so that a piece whose header is lost is found too. Its position survives a restart.
It reads past the page cache, which proves nothing about the disk, and which a whole disk would flush.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from flared.errors import NoSuchPiece, PieceCorrupt

if TYPE_CHECKING:
    from flared.data.index.index import Index
    from flared.data.volume.volume import Volume

_BATCH_PIECES = 64
_CURSOR = "scrub"
_PAUSE_MIN_SECONDS = 1.0


class Scrubber:
    """A Worker of one volume: reads all of it once every ``period_seconds``."""

    name = "scrub"

    def __init__(self, volume: Volume, period_seconds: float) -> None:
        self._volume = volume
        self._period = period_seconds
        self._pause = 60.0
        self._cursor: str | None = None
        self.verified = 0

    async def wait(self) -> None:
        await trio.sleep(self._pause)

    async def step(self) -> bool:
        """Verify the next pieces, in the order of their locations; return False, so that ``wait`` sets the pace."""
        volume = self._volume
        if self._cursor is None:
            self._cursor = await volume.piece_map.ask(lambda index: index.text(_CURSOR))
            return False
        locations = await volume.piece_map.ask(lambda index: index.locations(self._cursor or "", _BATCH_PIECES))
        total = 0
        for name, location in sorted(locations, key=lambda found: found[1]):
            total += location.length
            await self._verify(name)
        self._cursor = locations[-1][0] if len(locations) == _BATCH_PIECES else ""
        await volume.piece_map.change(self._save)
        stored = sum(segment.size for segment in volume.segments.known.values())
        share = total / max(stored, total, 1)
        self._pause = max(_PAUSE_MIN_SECONDS, self._period * share)
        return False

    def _save(self, index: Index) -> None:
        with index.transaction():
            index.note({_CURSOR: self._cursor or ""})

    async def _verify(self, name: str) -> None:
        with suppress(PieceCorrupt, NoSuchPiece):  # the reader has reported the damage, or it was deleted since
            await self._volume.reader.verify(name)
            self.verified += 1
