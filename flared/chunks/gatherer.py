"""Gatherer: the stored bytes of one chunk, from any sufficient set of its pieces.

As many pieces are asked for at once as the scheme needs, best first; one that fails, or is slow while there are others,
is replaced by the next, and no node is asked again for what it has just denied. ``small_read`` is the same in turns.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import trio

from flared.background import first_of
from flared.chunks.chunk import INLINE_DIGEST_MAX
from flared.chunks.codec import check_stored, decode
from flared.chunks.delays import HEDGE_SECONDS
from flared.chunks.read import NOTHING_DENIED, Search, Source, compare, decode_whole, fill, verify_blocks
from flared.chunks.scheme import parse_scheme
from flared.data.pieces import CODEC_PLAIN, LARGE_SIZE, Span
from flared.errors import FlareError, NodeUnreachable, PieceCorrupt
from flared.names import piece_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flared.chunks.chunk import Chunks, PlacedChunk


class Gathered(NamedTuple):
    stored: bytes | memoryview
    """Verified by the checksums of the pieces. May be a view of the gatherer's buffer."""
    sources: tuple[int, ...]
    """The numbers of the pieces it was made of."""


class Gatherer:
    """One read of a whole chunk."""

    def __init__(
        self,
        chunks: Chunks,
        chunk: PlacedChunk,
        buffer: memoryview | None = None,
        *,
        denied: Mapping[int, FlareError] = NOTHING_DENIED,
    ) -> None:
        """``buffer`` holds large pieces meanwhile: ``scheme.gathered_size(stored)`` bytes. ``denied`` as in Search."""
        self._chunks = chunks
        self._chunk = chunk
        self._buffer = buffer
        self._scheme = parse_scheme(chunk.scheme)
        self._size = self._scheme.piece_size(chunk.stored)
        self._search = Search(chunks, chunk, denied)
        self._used: dict[int, Source] = {}
        self._payloads: dict[int, bytes | memoryview] = {}

    async def gather(self) -> Gathered:
        """Return the stored bytes. Raises ChunkLost, or PiecesUnreachable while a silent node may have what lacks."""
        self._used, self._payloads = {}, {}
        needed = self._scheme.needed
        if needed == 1:
            await self._fill_slot(0)
        else:
            try:
                async with trio.open_nursery() as nursery:
                    for slot in range(needed):
                        nursery.start_soon(self._fill_slot, slot)
            except BaseExceptionGroup as group:
                raise first_of(group) from None
        stored = await self._decode()
        return Gathered(stored, tuple(self._used))

    def fail(self, error: PieceCorrupt) -> None:
        """Gather from other pieces: the last ones did not make the chunk, though each is what was written."""
        for source in self._used.values():
            self._search.fail(source, error)

    async def _decode(self) -> bytes | memoryview:
        scheme, stored = self._scheme, self._chunk.stored
        if scheme.needed == 1 or stored <= INLINE_DIGEST_MAX:
            return scheme.decode(self._payloads, stored)
        return await self._chunks.threads.run(scheme.decode, self._payloads, stored)

    async def _fill_slot(self, slot: int) -> None:
        """Read one piece, the first that can be had."""
        while True:
            source = self._search.take()
            try:
                view = _room(self._size, slot, self._buffer)
                await _read_piece(self._chunk, source, view, hedged=self._search.has_spare)
            except FlareError as error:
                self._search.fail(source, error)
                continue
            self._used[source.number], self._payloads[source.number] = source, view
            return


async def read_whole(
    chunks: Chunks,
    chunk: PlacedChunk,
    buffer: memoryview | None = None,
    *,
    denied: Mapping[int, FlareError] = NOTHING_DENIED,
) -> bytes | memoryview:
    """Return all plain bytes of a chunk, verified; a plain result may be a view of ``buffer``, which is the gatherer's.

    Raises ChunkLost or Unavailable.
    """
    gatherer = Gatherer(chunks, chunk, buffer, denied=denied)
    while True:
        stored = (await gatherer.gather()).stored
        try:
            return await _decode_plain(chunks, chunk, stored)
        except PieceCorrupt as error:
            gatherer.fail(error)


async def read_stored(
    chunks: Chunks,
    chunk: PlacedChunk,
    buffer: memoryview | None = None,
    *,
    denied: Mapping[int, FlareError] = NOTHING_DENIED,
) -> Gathered:
    """Return the stored bytes, verified, and seen to decode. As ``read_whole``."""
    gatherer = Gatherer(chunks, chunk, buffer, denied=denied)
    while True:
        gathered = await gatherer.gather()
        try:
            if chunk.stored < LARGE_SIZE:
                await _decode_plain(chunks, chunk, gathered.stored)
            else:
                await chunks.threads.run(check_stored, chunk.codec, gathered.stored, chunk.size)
        except PieceCorrupt as error:
            gatherer.fail(error)
        else:
            return gathered


async def verify_piece(chunks: Chunks, chunk: PlacedChunk, number: int, buffer: memoryview) -> None:
    """Read piece ``number`` in full from where the record says. Raises NoSuchPiece or PieceCorrupt if it is not there,
    whole and unchanged, and Unavailable if that cannot be known. ``buffer`` has room for one large piece."""
    node = chunk.nodes[number]
    assert node is not None
    store = chunks.nodes.store(node)
    if store is None:
        raise NodeUnreachable(node, "it is not known")
    source = Source(piece_name(chunk.id, number), number, node, store)
    scheme = parse_scheme(chunk.scheme)
    size = scheme.piece_size(chunk.stored)
    payload = _room(size, 0, buffer)
    await _read_piece(chunk, source, payload, hedged=False)
    if scheme.needed == 1 and size < LARGE_SIZE:
        await _decode_plain(chunks, chunk, scheme.decode({number: payload}, chunk.stored))


async def _decode_plain(chunks: Chunks, chunk: PlacedChunk, stored: bytes | memoryview) -> bytes | memoryview:
    """Raises PieceCorrupt."""
    if chunk.size <= INLINE_DIGEST_MAX:
        return decode_whole(chunk, stored)
    if chunk.stored < LARGE_SIZE:
        return await chunks.threads.run(decode_whole, chunk, stored)
    if chunk.codec == CODEC_PLAIN:
        return stored
    return await chunks.threads.run(decode, chunk.codec, stored, chunk.size)


def _room(size: int, slot: int, buffer: memoryview | None) -> memoryview:
    """Where a piece goes: a small one gets memory of its own, which may be kept."""
    if size < LARGE_SIZE:
        return memoryview(bytearray(size))
    assert buffer is not None, "large pieces need a buffer"
    return buffer[slot * size : (slot + 1) * size]


async def _read_piece(chunk: PlacedChunk, source: Source, view: memoryview, *, hedged: bool) -> None:
    """Fill ``view`` with a piece, verified. ``hedged``: its node has to begin the answer within HEDGE_SECONDS."""
    span = Span(0, len(view), len(view))
    began = trio.CancelScope(deadline=trio.current_time() + HEDGE_SECONDS if hedged else math.inf)
    with began:
        async with source.store.read(source.name, span) as stream:
            began.deadline = math.inf
            compare(chunk, source.name, stream.piece)
            await fill(stream, source, view)
            verify_blocks(stream.piece, source, 0, view)
    if began.cancelled_caught:
        raise NodeUnreachable(source.node, f"no answer within {HEDGE_SECONDS} s")
