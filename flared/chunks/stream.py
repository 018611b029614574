"""Streams: the verified plain bytes of a part of one chunk, in order, for a client who may be slow.

Three shapes: ``PlainStream`` passes on the blocks of a plain piece, ``FrameStream`` decodes frames of ``lz4-blocks``,
``WholeStream`` gathers chunks that can only be read as a whole. Each reads into a unit, which is leased memory. A
client keeps its unit while it reads at a fair pace, or while no other client wants the memory. Otherwise the unit is
taken away: ``put_back`` returns the unsent bytes, and the stream goes on by slices, for which memory is leased only
while reading from the data nodes, never while waiting for the client. A whole chunk is then spilled.

What verifies a byte: the block checksums of the piece it was made of, before anything is made of them; after a codec,
the codec's own check; after a spill, the spill's. Chunks below LARGE_SIZE are compared with their SHA-256.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import trio

from flared.chunks.codec import FRAME_SIZE, Frame, decode_frames, parse_frames
from flared.chunks.delays import HEDGE_SECONDS
from flared.chunks.gatherer import read_whole
from flared.chunks.read import Search, Source, compare, fill, verify_blocks
from flared.chunks.scheme import parse_scheme
from flared.chunks.small_read import read_small
from flared.chunks.spill import UNIT_SIZE as SLICE_SIZE
from flared.data.pieces import BLOCK_SIZE, CODEC_LZ4_BLOCKS, CODEC_PLAIN, LARGE_SIZE, Span
from flared.errors import Busy, FlareError, NodeUnreachable, PieceCorrupt, Unavailable

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from flared.chunks.budget import Lease, MemoryBudget
    from flared.chunks.chunk import Chunks, PlacedChunk
    from flared.chunks.spill import Spill
    from flared.data.pieces import PieceStream

UNIT_SIZE = 1024 * 1024
"""Bytes that move at once: larger units save system calls, smaller ones let 64 readers share the budget."""
UNIT_SIZE_MIN = BLOCK_SIZE
FRAMES_UNIT_SIZE = 2 * UNIT_SIZE
"""Half of it for stored bytes, half for what they decode to."""
FRAMES_UNIT_SIZE_MIN = 4 * BLOCK_SIZE
"""A frame may lie across two blocks."""

REREAD_SIZE = FRAMES_UNIT_SIZE_MIN
"""Of ``Chunks.blocks``, for one slice: enough for every shape."""


class ChunkStream(Protocol):
    async def prepare(self) -> None:
        """Ask for the bytes, so that they are under way while the chunk before is still being sent."""

    async def next(self, *, slow: bool) -> bytes | memoryview | None:
        """The next verified bytes, to be used before the next call; None at the end.

        ``slow``: as bytes of at most SLICE_SIZE, with nothing leased when this returns. So it is, too, where no unit
        can be had. Raises ChunkLost or Unavailable when no piece can serve the rest.
        """

    async def put_back(self, count: int) -> bool:
        """The client is slow over the last ``count`` bytes. True if their memory was given back because others want
        it: they will come again. False: keep sending them."""

    async def close(self) -> None:
        """Give back what is held; nothing is written to it any more."""


def open_stream(chunks: Chunks, chunk: PlacedChunk, start: int, length: int) -> ChunkStream:
    """The bytes ``start`` to ``start + length`` of a chunk."""
    if parse_scheme(chunk.scheme).needed > 1:
        return WholeStream(chunks, chunk, start, length)
    if chunk.codec == CODEC_PLAIN and chunk.stored >= LARGE_SIZE:
        return PlainStream(chunks, chunk, start, length)
    if chunk.codec == CODEC_LZ4_BLOCKS:
        return FrameStream(chunks, chunk, start, length)
    return WholeStream(chunks, chunk, start, length)


class _Blocks:
    """Blocks of a piece's stored bytes, verified, from the best node that has them; another one if that fails."""

    def __init__(self, chunks: Chunks, chunk: PlacedChunk) -> None:
        self._search = Search(chunks, chunk)
        self._chunk = chunk
        self._source: Source | None = None
        self._context: AbstractAsyncContextManager[PieceStream] | None = None
        self._stream: PieceStream | None = None
        self._stream_at = 0

    async def prepare(self, begin: int, end: int) -> None:
        if self._stream is None:
            await self._open_best(begin, end)

    async def fetch(self, begin: int, view: memoryview, end: int) -> None:
        """Fill ``view`` with the blocks from ``begin`` on, from a stream that goes on to ``end``."""
        while True:
            opened = self._stream is None or self._stream_at != begin
            if opened:
                await self.close()
                await self._open_best(begin, end)
            assert self._stream is not None
            assert self._source is not None
            try:
                await fill(self._stream, self._source, view)
                verify_blocks(self._stream.piece, self._source, begin // BLOCK_SIZE, view)
                break
            except trio.Cancelled:
                self._stream_at = -1  # it stands somewhere inside a block: the next call asks anew
                raise
            except FlareError as error:
                await self.close()
                # A stream that rested while a slow client read may have been cut, which is not the fault of the node.
                if opened or not isinstance(error, Unavailable):
                    self._drop_source(error)
        self._stream_at = begin + len(view)
        if self._stream_at >= end:
            await self.close()

    async def fail(self, error: PieceCorrupt) -> None:
        """Discard the last fetch, which did not make the chunk, though its blocks are what was written."""
        await self.close()
        self._drop_source(error)

    def _drop_source(self, error: FlareError) -> None:
        assert self._source is not None
        self._search.fail(self._source, error)
        self._source = None

    async def close(self) -> None:
        context, self._context, self._stream = self._context, None, None
        if context is not None:
            await context.__aexit__(None, None, None)

    async def _open_best(self, begin: int, end: int) -> None:
        while True:
            if self._source is None:
                self._source = self._search.take()
            try:
                await self._open(self._source, begin, end)
                return
            except FlareError as error:
                await self.close()
                self._drop_source(error)

    async def _open(self, source: Source, begin: int, end: int) -> None:
        context = source.store.read(source.name, Span(begin, end, self._chunk.stored))
        if self._search.has_spare:
            with trio.move_on_after(HEDGE_SECONDS) as scope:
                stream = await context.__aenter__()
            if scope.cancelled_caught:
                raise NodeUnreachable(source.node, f"no answer within {HEDGE_SECONDS} s")
        else:
            stream = await context.__aenter__()
        self._context, self._stream, self._stream_at = context, stream, begin
        compare(self._chunk, source.name, stream.piece)


class PlainStream:
    """A part of a large plain chunk, passed on block by block. A ChunkStream."""

    def __init__(self, chunks: Chunks, chunk: PlacedChunk, start: int, length: int) -> None:
        self._chunks = chunks
        self._blocks = _Blocks(chunks, chunk)
        self._at = start
        self._end = start + length
        self._fetch_end = _blocks_end(self._end, chunk.stored)
        self._unit: Lease | None = None

    async def prepare(self) -> None:
        if self._at < self._end:
            await self._blocks.prepare(self._at - self._at % BLOCK_SIZE, self._fetch_end)

    async def next(self, *, slow: bool) -> bytes | memoryview | None:
        if self._at >= self._end:
            return None
        if self._unit is None and not slow:
            self._unit = _lease_unit(self._chunks.units, UNIT_SIZE, UNIT_SIZE_MIN)
        if self._unit is None:
            return await self._next_slice()
        begin = self._at - self._at % BLOCK_SIZE
        view = self._unit.view[: min(len(self._unit.view), self._fetch_end - begin)]
        await self._blocks.fetch(begin, view, self._fetch_end)
        found = view[self._at - begin : self._end - begin]
        self._at += len(found)
        return found

    async def put_back(self, count: int) -> bool:
        if self._unit is None or not _is_wanted(self._chunks.units):
            return False
        self._at -= count
        await self.close()
        return True

    async def close(self) -> None:
        await self._blocks.close()
        _release(self._unit)
        self._unit = None

    async def _next_slice(self) -> bytes:
        begin = self._at - self._at % BLOCK_SIZE
        with await self._chunks.blocks.lease(REREAD_SIZE) as scratch:
            view = scratch.view[: min(BLOCK_SIZE, self._fetch_end - begin)]
            await self._blocks.fetch(begin, view, begin + len(view))
            found = bytes(view[self._at - begin : min(self._end - begin, self._at - begin + SLICE_SIZE)])
        self._at += len(found)
        return found


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
        self._blocks = _Blocks(chunks, chunk)
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
            self._unit = _lease_unit(self._chunks.units, FRAMES_UNIT_SIZE, FRAMES_UNIT_SIZE_MIN)
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
        if self._unit is None or not _is_wanted(self._chunks.units):
            return False
        self._at -= count
        await self.close()
        return True

    async def close(self) -> None:
        await self._blocks.close()
        _release(self._unit)
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
        while last > first + 1 and _blocks_end(self._frames[last - 1].end, self._chunk.stored) > window_end:
            last -= 1
        return self._frames[first:last]

    async def _gather(self, window: _Window, end: int, start: int, stream_end: int) -> None:
        """Have the stored bytes from ``start`` to ``end`` in the window, as whole blocks."""
        room = window.move_to(start - start % BLOCK_SIZE)
        fetch_end = _blocks_end(end, self._chunk.stored)
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
        return _blocks_end(self._frames[(self._end - 1) // FRAME_SIZE].end, self._chunk.stored)


class WholeStream:
    """A part of a chunk that must be had as a whole before its first byte is known: small, or an old ``lz4``, or of a
    scheme that needs several pieces.

    The plain bytes are in one place, which the lease pays for, and what is handed out is a copy in the lease's buffer:
    so they go when the lease goes, even if a slice is still referred to. A ChunkStream.
    """

    def __init__(self, chunks: Chunks, chunk: PlacedChunk, start: int, length: int) -> None:
        self._chunks = chunks
        self._chunk = chunk
        self._at = start
        self._end = start + length
        self._lease: Lease | None = None
        self._plain: bytes | memoryview = b""
        self._spill: Spill | None = None
        self._spill_at = 0
        """Where in the chunk the spill begins."""
        self._small = chunk.size <= BLOCK_SIZE
        scheme = parse_scheme(chunk.scheme)
        self._amount = scheme.gathered_size(chunk.stored)
        # A small piece is made by the batch that it came with; several pieces are made into one.
        is_made = chunk.stored < LARGE_SIZE or scheme.needed > 1
        self._beside = chunk.size + (self._amount if is_made else 0)

    async def prepare(self) -> None:
        """Nothing: it would take memory before its turn."""

    async def next(self, *, slow: bool) -> bytes | memoryview | None:
        if self._at >= self._end:
            return None
        if self._spill is not None:
            return await self._next_spilled(self._spill)
        if slow:
            return await (self._next_reread() if self._small else self._next_slow())
        if self._lease is None:
            self._lease = await self._lease_unit()
            if self._lease is None:
                return await self._next_reread()
            self._plain = await self._read(self._lease)
        view = self._lease.view[: min(UNIT_SIZE, self._end - self._at)]
        view[:] = self._plain[self._at : self._at + len(view)]
        self._at += len(view)
        return view

    async def put_back(self, count: int) -> bool:
        if self._lease is None or not _is_wanted(self._chunks.units):
            return False
        self._at -= count
        if not self._small:
            await self._set_aside()
        self._drop()
        return True

    async def close(self) -> None:
        self._drop()
        if self._spill is not None:
            self._spill.close()
            self._spill = None

    async def _lease_unit(self) -> Lease | None:
        """A small chunk does not wait behind large ones: it is cheap to read again."""
        units = self._chunks.units
        if self._small:
            return units.lease_nowait(self._amount, beside=self._beside)
        return await units.lease(self._amount, beside=self._beside)

    async def _read(self, lease: Lease) -> bytes | memoryview:
        try:
            if self._chunk.stored < LARGE_SIZE:
                return await read_small(self._chunks, self._chunk)
            return await read_whole(self._chunks, self._chunk, lease.view)
        except BaseException:
            self._drop()
            raise

    async def _set_aside(self) -> bool:
        """Spill the rest of the plain bytes; return False if they find no room."""
        spill: Spill | None = None
        try:
            spill = await self._chunks.spills.open()
            await spill.append(memoryview(self._plain)[self._at : self._end])
            self._spill, self._spill_at, spill = spill, self._at, None
        except Busy:
            return False
        finally:
            if spill is not None:
                spill.close()
        return True

    async def _next_slow(self) -> bytes:
        """Read everything and spill it; or, if that cannot be, read it for one slice. One or two readers at a time do,
        so that the slow wait for each other and not the others for them."""
        async with self._chunks.rereads:
            self._lease = await self._chunks.units.lease(self._amount, beside=self._beside)
            self._plain = await self._read(self._lease)
            spilled = await self._set_aside()
            found = b"" if spilled else self._take_slice(self._plain)
            self._drop()
        return await self._next_spilled(self._spill) if self._spill else found

    async def _next_reread(self) -> bytes:
        self._lease = await self._chunks.blocks.lease(self._amount, beside=self._beside)
        plain = await self._read(self._lease)
        found = self._take_slice(plain)
        self._drop()
        return found

    async def _next_spilled(self, spill: Spill) -> bytes:
        number, skip = divmod(self._at - self._spill_at, SLICE_SIZE)
        found = (await spill.read_unit(number))[skip:]
        self._at += len(found)
        return found

    def _take_slice(self, plain: bytes | memoryview) -> bytes:
        found = bytes(plain[self._at : min(self._end, self._at + SLICE_SIZE)])
        self._at += len(found)
        return found

    def _drop(self) -> None:
        self._plain = b""
        _release(self._lease)
        self._lease = None


def _lease_unit(units: MemoryBudget, large: int, small: int) -> Lease | None:
    """A large unit while half of them are free, then small ones, then none."""
    statistics = units.statistics()
    lease = units.lease_nowait(large) if 2 * statistics.leased < statistics.total else None
    return lease or units.lease_nowait(small)


def _is_wanted(units: MemoryBudget) -> bool:
    """Return whether other clients get less than they ask for, or wait."""
    statistics = units.statistics()
    return bool(statistics.waiting) or 2 * statistics.leased >= statistics.total


def _release(lease: Lease | None) -> None:
    if lease is not None:
        lease.release()


def _blocks_end(end: int, stored: int) -> int:
    """The end of the block that holds the byte before ``end``."""
    return min(-(-end // BLOCK_SIZE) * BLOCK_SIZE, stored)
