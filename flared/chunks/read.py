"""Read one chunk: ask a node, verify, fall back to another piece; never a byte before its block's checksum held.

A piece found missing or wrong is noted in the DamageList and the read goes on elsewhere. Two shapes: ``PlainStream``
passes a large plain piece on block by block; ``read_whole`` gathers everything else (small, or coded) at once.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import trio

from flared.chunks.chunk import INLINE_DIGEST_MAX
from flared.chunks.codec import decode
from flared.chunks.delays import HEDGE_SECONDS
from flared.cluster.states import NodeState
from flared.data.pieces import BLOCK_SIZE, CODEC_PLAIN, LARGE_SIZE, Piece, block_is_good
from flared.errors import (
    ChunkLost,
    FlareError,
    NodeUnreachable,
    NoSuchPiece,
    PieceCorrupt,
    PiecesUnreachable,
    Unavailable,
)
from flared.names import NodeName, PieceName, chunk_digest, piece_name

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from flared.chunks.chunk import Chunks, PlacedChunk
    from flared.chunks.nodes import PieceNode, PieceStream

_TRUST = {NodeState.ONLINE: 0, NodeState.FULL: 0, NodeState.SUSPECT: 1, NodeState.OFFLINE: 2}


class Source:
    """One piece that may serve a read."""

    __slots__ = ("name", "node", "number", "store")

    def __init__(self, name: PieceName, number: int, node: NodeName, store: PieceNode) -> None:
        self.name = name
        self.number = number
        self.node = node
        self.store = store


class Search:
    """The pieces of one chunk still worth asking, best first, and why the others failed."""

    def __init__(self, chunks: Chunks, chunk: PlacedChunk) -> None:
        self._chunks = chunks
        self._chunk = chunk
        self._sources = _sources(chunks, chunk)
        self._reasons: list[str] = []
        self._unreachable = any(node is not None and chunks.nodes.store(node) is None for node in chunk.nodes)

    @property
    def has_spare(self) -> bool:
        return len(self._sources) > 1

    def best(self) -> Source:
        """The next piece to ask; raises ChunkLost, or PiecesUnreachable while a silent node may still have one."""
        if self._sources:
            return self._sources[0]
        if self._unreachable:
            reasons = "; ".join(self._reasons) or "its nodes are not known yet"
            raise PiecesUnreachable(f"chunk {self._chunk.id} cannot be read now: {reasons}")
        raise ChunkLost(
            f"no good piece of chunk {self._chunk.id} is left: {'; '.join(self._reasons) or 'none recorded'}"
        )

    def fail(self, source: Source, error: FlareError) -> None:
        """Take ``source`` out. Damage goes on the DamageList; whatever else a node says, another may have the piece."""
        if isinstance(error, (NoSuchPiece, PieceCorrupt)):
            if source.number not in self._chunk.missing:
                corrupt = isinstance(error, PieceCorrupt)
                self._chunks.damage.add(self._chunk.id, source.number, source.node, str(error), corrupt=corrupt)
        else:
            self._unreachable = True
        self._reasons.append(str(error))
        self._sources.remove(source)


async def read_whole(chunks: Chunks, chunk: PlacedChunk, buffer: memoryview | None = None) -> bytes | memoryview:
    """All plain bytes of a chunk, verified. ``buffer`` holds the stored bytes of a large piece meanwhile (at least
    ``stored`` long); a plain result may be a view of it. Raises ChunkLost or Unavailable."""
    return (await read_both(chunks, chunk, buffer))[2]


async def read_both(
    chunks: Chunks, chunk: PlacedChunk, buffer: memoryview | None = None
) -> tuple[Piece, bytes | memoryview, bytes | memoryview]:
    """A piece of the chunk, its stored bytes and the plain bytes, all verified. As ``read_whole``."""
    search = Search(chunks, chunk)
    while True:
        source = search.best()
        try:
            if chunk.stored < LARGE_SIZE:
                piece, stored = await _ask_small(chunk, source, search.has_spare)
                if chunk.size <= INLINE_DIGEST_MAX:
                    return piece, stored, decode_whole(chunk, piece, stored)
                return piece, stored, await chunks.threads.run(decode_whole, chunk, piece, stored)
            assert buffer is not None, "a large piece needs a buffer"
            piece, view = await _gather(chunk, source, buffer[: chunk.stored])
            if piece.codec == CODEC_PLAIN:
                return piece, view, view
            return piece, view, await chunks.threads.run(decode, piece.codec, view, chunk.size)
        except FlareError as error:
            search.fail(source, error)


async def verify_piece(chunks: Chunks, chunk: PlacedChunk, number: int, buffer: memoryview) -> bool:
    """Whether piece ``number`` is where the record says, whole and unchanged: read in full. ``buffer`` as in
    ``read_whole``."""
    node = chunk.nodes[number]
    store = chunks.nodes.store(node) if node is not None else None
    if node is None or store is None:
        return False
    source = Source(piece_name(chunk.id, number), number, node, store)
    try:
        if chunk.stored < LARGE_SIZE:
            piece, stored = await _ask_small(chunk, source, hedged=False)
            await chunks.threads.run(decode_whole, chunk, piece, stored)
        else:
            await _gather(chunk, source, buffer[: chunk.stored])
    except FlareError:
        return False
    return True


async def _ask_small(chunk: PlacedChunk, source: Source, hedged: bool) -> tuple[Piece, bytes]:
    if not hedged:
        piece, stored = await source.store.get_small(source.name)
    else:
        with trio.move_on_after(HEDGE_SECONDS) as scope:
            piece, stored = await source.store.get_small(source.name)
        if scope.cancelled_caught:
            raise NodeUnreachable(source.node, f"no answer within {HEDGE_SECONDS} s")
    compare(chunk, source.name, piece)
    return piece, stored


def decode_whole(chunk: PlacedChunk, piece: Piece, stored: bytes) -> bytes | memoryview:
    """One block: the digest of the plain bytes says more than any checksum that came along."""
    plain = decode(piece.codec, stored, chunk.size)
    if hashlib.sha256(plain).digest() != chunk_digest(chunk.id):
        raise PieceCorrupt(f"piece {piece.name} does not have its chunk's digest")
    return plain


async def _gather(chunk: PlacedChunk, source: Source, buffer: memoryview) -> tuple[Piece, memoryview]:
    async with source.store.open(source.name) as stream:
        compare(chunk, source.name, stream.piece)
        await _fill(stream, source, buffer)
        _verify(stream.piece, source, 0, buffer)
        return stream.piece, buffer


class PlainStream:
    """The bytes ``start`` to ``start + length`` of a large plain chunk, verified block by block, in order."""

    def __init__(self, chunks: Chunks, chunk: PlacedChunk, start: int, length: int) -> None:
        self._search = Search(chunks, chunk)
        self._chunk = chunk
        self._at = start
        self._end = start + length
        self._fetch_end = min(-(-self._end // BLOCK_SIZE) * BLOCK_SIZE, chunk.stored)
        self._source: Source | None = None
        self._context: AbstractAsyncContextManager[PieceStream] | None = None
        self._stream: PieceStream | None = None
        self._stream_at = 0

    async def prepare(self) -> None:
        """Ask for the bytes, so that they are under way while the chunk before is still being sent."""
        if self._stream is None and self._at < self._end:
            await self._open_best(self._at - self._at % BLOCK_SIZE, self._fetch_end)

    async def next(self, unit: memoryview) -> memoryview | None:
        """The next verified bytes, as a view of ``unit`` (a multiple of BLOCK_SIZE long); None at the end.

        Raises ChunkLost or Unavailable when no piece can serve the rest.
        """
        if self._at >= self._end:
            return None
        begin = self._at - self._at % BLOCK_SIZE
        view = unit[: min(len(unit), self._fetch_end - begin)]
        await self._fetch(begin, view, self._fetch_end)
        found = view[self._at - begin : self._end - begin]
        self._at += len(found)
        return found

    async def next_slice(self, block: memoryview, limit: int) -> bytes | None:
        """At most ``limit`` of the next bytes, for a reader that may take long over them: nothing is held meanwhile.

        The whole block is fetched into ``block`` and verified each time.
        """
        if self._at >= self._end:
            return None
        begin = self._at - self._at % BLOCK_SIZE
        view = block[: min(BLOCK_SIZE, self._fetch_end - begin)]
        await self._fetch(begin, view, begin + len(view))
        found = bytes(view[self._at - begin : min(self._end - begin, self._at - begin + limit)])
        self._at += len(found)
        return found

    async def close(self) -> None:
        context, self._context, self._stream = self._context, None, None
        if context is not None:
            await context.__aexit__(None, None, None)

    async def _fetch(self, begin: int, view: memoryview, end: int) -> None:
        """Fill ``view`` with the verified blocks from ``begin`` on, from a stream that goes on to ``end``."""
        while True:
            opened = self._stream is None or self._stream_at != begin
            if opened:
                await self.close()
                await self._open_best(begin, end)
            assert self._stream is not None
            assert self._source is not None
            try:
                await _fill(self._stream, self._source, view)
                _verify(self._stream.piece, self._source, begin // BLOCK_SIZE, view)
                break
            except trio.Cancelled:
                self._stream_at = -1  # it stands somewhere inside a block: the next call asks anew
                raise
            except FlareError as error:
                await self.close()
                # A stream that rested while a slow client read may have been cut, and that is no node's fault.
                if opened or not isinstance(error, Unavailable):
                    self._search.fail(self._source, error)
        self._stream_at = begin + len(view)
        if self._stream_at >= end:
            await self.close()

    async def _open_best(self, begin: int, end: int) -> None:
        while True:
            self._source = self._search.best()
            try:
                await self._open(self._source, begin, end)
                return
            except FlareError as error:
                await self.close()
                self._search.fail(self._source, error)

    async def _open(self, source: Source, begin: int, end: int) -> None:
        context = source.store.open(source.name, offset=begin, length=end - begin)
        if self._search.has_spare:
            with trio.move_on_after(HEDGE_SECONDS) as scope:
                stream = await context.__aenter__()
            if scope.cancelled_caught:
                raise NodeUnreachable(source.node, f"no answer within {HEDGE_SECONDS} s")
        else:
            stream = await context.__aenter__()
        self._context, self._stream, self._stream_at = context, stream, begin
        compare(self._chunk, source.name, stream.piece)


def _sources(chunks: Chunks, chunk: PlacedChunk) -> list[Source]:
    """Every piece that may be had, best first. One that is recorded as missing comes last: the record is a suspicion
    (a node that was silent for long, a read that failed once), and what is read is verified anyway."""
    nodes = chunks.nodes
    found = [
        Source(piece_name(chunk.id, number), number, node, store)
        for number, node in enumerate(chunk.nodes)
        if node is not None and (store := nodes.store(node)) is not None
    ]
    if len(found) > 1:
        damage = chunks.damage
        found.sort(
            key=lambda source: (
                source.number in chunk.missing,
                damage.holds(chunk.id, source.number),
                _TRUST[nodes.state(source.node)],
            )
        )
    return found


def compare(chunk: PlacedChunk, asked: PieceName, piece: Piece) -> None:
    """A data node is trusted against malice, not against error: is this what was asked for?"""
    if piece.name != asked or piece.size != chunk.stored or piece.codec != chunk.codec:
        raise PieceCorrupt(f"asked for {asked} with {chunk.stored} bytes, got {piece.name} with {piece.size}")


async def _fill(stream: PieceStream, source: Source, view: memoryview) -> None:
    filled = 0
    while filled < len(view):
        received = await stream.receive_into(view[filled:])
        if not received:
            raise NodeUnreachable(source.node, "the piece ended early")
        filled += received


def _verify(piece: Piece, source: Source, first_block: int, view: memoryview) -> None:
    for start in range(0, len(view), BLOCK_SIZE):
        number = first_block + start // BLOCK_SIZE
        if not block_is_good(piece, number, view[start : start + BLOCK_SIZE]):
            raise PieceCorrupt(f"block {number} of piece {source.name} on {source.node} has a wrong checksum")
