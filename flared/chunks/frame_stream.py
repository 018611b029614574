"""Streams of ``lz4-blocks``: frames are decoded as they come, a few at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flared.chunks.blocks import Blocks, blocks_end
from flared.chunks.codec import FRAME_SIZE, Frame, decode_frames, parse_frames
from flared.chunks.read import Search
from flared.chunks.units import (
    FRAMES_UNIT_SIZE,
    FRAMES_UNIT_SIZE_MIN,
    REREAD_SIZE,
    SLICE_SIZE,
    is_wanted,
    lease_unit,
    release,
)
from flared.data.pieces import BLOCK_SIZE
from flared.errors import PieceCorrupt

if TYPE_CHECKING:
    from flared.chunks.budget import Lease
    from flared.chunks.chunk import Chunks, PlacedChunk


class _Window:
    """Verified stored bytes in a buffer: from ``begin``, a multiple of BLOCK_SIZE, to ``end``."""

    def __init__(self, buffer: memoryview) -> None:
        self.buffer = buffer
        self.begin = 0
        self.end = 0

    def move_to(self, begin: int) -> memoryview:
        """Have it begin there, with what it holds of that; the room behind."""
        if self.begin <= begin < self.end:
            self.buffer[: self.end - begin] = self.buffer[begin - self.begin : self.end - self.begin]
        else:
            self.end = begin
        self.begin = begin
        return self.buffer[self.end - begin :]


class FrameStream:
    """A part of a chunk in ``lz4-blocks``, decoded a few frames at a time. A ChunkStream."""

    def __init__(self, chunks: Chunks, chunk: PlacedChunk, start: int, length: int) -> None:
        self._chunks = chunks
        self._chunk = chunk
        self._blocks = Blocks(Search(chunks, chunk), chunk, chunk.stored)
        self._frames: list[Frame] = []
        self._at = start
        self._end = start + length
        self._unit: Lease | None = None
        self._window = _Window(memoryview(b""))

    async def prepare(self) -> None:
        if self._at < self._end:
            await self._blocks.prepare(0, self._head_end())

    async def next(self, *, slow: bool) -> bytes | memoryview | None:
        if self._at >= self._end:
            return None
        if self._unit is None and not slow:
            self._unit = lease_unit(self._chunks.units, FRAMES_UNIT_SIZE, FRAMES_UNIT_SIZE_MIN)
            if self._unit is not None:
                self._window = _Window(self._unit.view[: len(self._unit.view) // 2])
        if self._unit is None:
            return await self._next_slice()
        plain = self._unit.view[len(self._unit.view) // 2 :]
        first, end = await self._decode(self._window, plain, self._fetch_end())
        found = plain[self._at - first : min(self._end, end) - first]
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
        self._unit, self._window = None, _Window(memoryview(b""))

    async def _next_slice(self) -> bytes:
        with await self._chunks.blocks.lease(REREAD_SIZE) as scratch:
            half = len(scratch.view) // 2
            window, plain = _Window(scratch.view[:half]), scratch.view[half : half + FRAME_SIZE]
            first, end = await self._decode(window, plain, 0)
            await self._blocks.close()
            found = bytes(plain[self._at - first : min(self._end, end, self._at + SLICE_SIZE) - first])
        self._at += len(found)
        return found

    async def _decode(self, window: _Window, plain: memoryview, stream_end: int) -> tuple[int, int]:
        """Decode the frames from ``_at`` on into ``plain``, as many as there is room for; from where to where in the
        chunk they are. What is asked of the node goes on to ``stream_end``, if that is more than is needed now."""
        while True:
            try:
                if not self._frames:
                    await self._read_head(window, stream_end)
                frames = self._next_frames(len(window.buffer), len(plain))
                await self._gather(window, frames[-1].end, frames[0].start, stream_end)
                await self._chunks.threads.run(decode_frames, frames, window.buffer, window.begin, plain)
                first = self._at - self._at % FRAME_SIZE
                return first, first + sum(frame.plain_size for frame in frames)
            except PieceCorrupt as error:
                await self._blocks.fail(error)
                self._frames = []
                window.begin = window.end = 0

    async def _read_head(self, window: _Window, stream_end: int) -> None:
        stored = self._chunk.stored
        window.begin = window.end = 0
        await self._gather(window, min(BLOCK_SIZE, stored), 0, self._head_end() if stream_end else 0)
        self._frames = parse_frames(window.buffer[: window.end], stored, self._chunk.size)

    def _next_frames(self, window_size: int, plain_size: int) -> list[Frame]:
        """Those that hold the next bytes, while they fit in; one always does."""
        first = self._at // FRAME_SIZE
        last = min(first + plain_size // FRAME_SIZE, -(-self._end // FRAME_SIZE))
        begin = self._frames[first].start
        window_end = begin - begin % BLOCK_SIZE + window_size
        while last > first + 1 and blocks_end(self._frames[last - 1].end, self._chunk.stored) > window_end:
            last -= 1
        return self._frames[first:last]

    async def _gather(self, window: _Window, end: int, start: int, stream_end: int) -> None:
        """Have the stored bytes from ``start`` to ``end`` in the window, as whole blocks."""
        room = window.move_to(start - start % BLOCK_SIZE)
        fetch_end = blocks_end(end, self._chunk.stored)
        if window.end < fetch_end:
            view = room[: fetch_end - window.end]
            await self._blocks.fetch(window.end, view, max(fetch_end, stream_end))
            window.end = fetch_end

    def _head_end(self) -> int:
        """How far the first request goes: to the end, if all is wanted, else there may be a gap behind the head."""
        whole = self._at < FRAME_SIZE and self._end == self._chunk.size
        return self._chunk.stored if whole else min(BLOCK_SIZE, self._chunk.stored)

    def _fetch_end(self) -> int:
        if not self._frames:
            return self._head_end()
        return blocks_end(self._frames[(self._end - 1) // FRAME_SIZE].end, self._chunk.stored)
