"""Streams of chunks that must be had as a whole before the first byte is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flared.chunks.gatherer import read_whole
from flared.chunks.read import NOTHING_DENIED
from flared.chunks.scheme import parse_scheme
from flared.chunks.small_read import read_small
from flared.chunks.units import SLICE_SIZE, UNIT_SIZE, is_wanted, release
from flared.data.pieces import BLOCK_SIZE, LARGE_SIZE
from flared.errors import Busy, FlareError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flared.chunks.budget import Lease
    from flared.chunks.chunk import Chunks, PlacedChunk
    from flared.chunks.spill import Spill


class WholeStream:
    """A part of a chunk that must be had as a whole before its first byte is known: small, or an old ``lz4``, or of a
    coded scheme, when it is compressed or one of its data pieces lacks.

    The plain bytes are in one place, which the lease pays for, and what is handed out is a copy in the lease's buffer:
    so they go when the lease goes, even if a slice is still referred to. A ChunkStream.
    """

    def __init__(
        self,
        chunks: Chunks,
        chunk: PlacedChunk,
        start: int,
        length: int,
        *,
        denied: Mapping[int, FlareError] = NOTHING_DENIED,
    ) -> None:
        """``denied`` as in Search."""
        self._chunks = chunks
        self._chunk = chunk
        self._denied = denied
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
        if self._lease is None or not is_wanted(self._chunks.units):
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
            return await read_whole(self._chunks, self._chunk, lease.view, denied=self._denied)
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
        release(self._lease)
        self._lease = None
