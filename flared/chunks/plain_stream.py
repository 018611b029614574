"""Streams of plain bytes: what is stored is what a client gets, so each block leaves as soon as it is verified."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flared.chunks.blocks import Blocks, blocks_end
from flared.chunks.units import REREAD_SIZE, SLICE_SIZE, UNIT_SIZE, UNIT_SIZE_MIN, is_wanted, lease_unit, release
from flared.data.pieces import BLOCK_SIZE

if TYPE_CHECKING:
    from flared.chunks.budget import Lease
    from flared.chunks.chunk import Chunks


class PlainStream:
    """A part of a piece of ``size`` plain bytes, passed on block by block. A ChunkStream."""

    def __init__(self, chunks: Chunks, blocks: Blocks, size: int, start: int, length: int) -> None:
        self._chunks = chunks
        self._blocks = blocks
        self._at = start
        self._end = start + length
        self._fetch_end = blocks_end(self._end, size)
        self._unit: Lease | None = None

    async def prepare(self) -> None:
        if self._at < self._end:
            await self._blocks.prepare(self._at - self._at % BLOCK_SIZE, self._fetch_end)

    async def next(self, *, slow: bool) -> bytes | memoryview | None:
        if self._at >= self._end:
            return None
        if self._unit is None and not slow:
            self._unit = lease_unit(self._chunks.units, UNIT_SIZE, UNIT_SIZE_MIN)
        if self._unit is None:
            return await self._next_slice()
        begin = self._at - self._at % BLOCK_SIZE
        view = self._unit.view[: min(len(self._unit.view), self._fetch_end - begin)]
        await self._blocks.fetch(begin, view, self._fetch_end)
        found = view[self._at - begin : self._end - begin]
        self._at += len(found)
        return found

    async def put_back(self, count: int) -> bool:
        if self._unit is None or not is_wanted(self._chunks.units):
            return False
        self._at -= count
        await self.close()
        return True

    async def close(self) -> None:
        await self._blocks.close()
        release(self._unit)
        self._unit = None

    async def _next_slice(self) -> bytes:
        begin = self._at - self._at % BLOCK_SIZE
        with await self._chunks.blocks.lease(REREAD_SIZE) as scratch:
            view = scratch.view[: min(BLOCK_SIZE, self._fetch_end - begin)]
            await self._blocks.fetch(begin, view, begin + len(view))
            found = bytes(view[self._at - begin : min(self._end - begin, self._at - begin + SLICE_SIZE)])
        self._at += len(found)
        return found
