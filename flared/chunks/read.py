"""Read one chunk: ask a node, verify, fall back to another piece; never a byte before its block's checksum held.

A piece found missing or wrong is noted in the DamageList and the read goes on elsewhere. Here a chunk is read as a
whole; ``stream`` passes on what need not be gathered first.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import trio

from flared.chunks.chunk import INLINE_DIGEST_MAX
from flared.chunks.codec import check_stored, decode
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
)
from flared.names import NodeName, PieceName, chunk_digest, piece_name

if TYPE_CHECKING:
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
    search = Search(chunks, chunk)
    while True:
        source = search.best()
        try:
            if chunk.stored < LARGE_SIZE:
                return (await _read_small_piece(chunks, chunk, source, search.has_spare))[2]
            piece, view = await _gather_large(chunk, source, buffer)
            if piece.codec == CODEC_PLAIN:
                return view
            return await chunks.threads.run(decode, piece.codec, view, chunk.size)
        except FlareError as error:
            search.fail(source, error)


async def read_stored(
    chunks: Chunks, chunk: PlacedChunk, buffer: memoryview | None = None
) -> tuple[Piece, bytes | memoryview]:
    """A piece of the chunk and its stored bytes, verified, and seen to decode. As ``read_whole``."""
    search = Search(chunks, chunk)
    while True:
        source = search.best()
        try:
            if chunk.stored < LARGE_SIZE:
                return (await _read_small_piece(chunks, chunk, source, search.has_spare))[:2]
            piece, view = await _gather_large(chunk, source, buffer)
            await chunks.threads.run(check_stored, piece.codec, view, chunk.size)
            return piece, view
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
            await _gather_large(chunk, source, buffer)
    except FlareError:
        return False
    return True


async def _read_small_piece(
    chunks: Chunks, chunk: PlacedChunk, source: Source, hedged: bool
) -> tuple[Piece, bytes, bytes | memoryview]:
    piece, stored = await _ask_small(chunk, source, hedged)
    if chunk.size <= INLINE_DIGEST_MAX:
        return piece, stored, decode_whole(chunk, piece, stored)
    return piece, stored, await chunks.threads.run(decode_whole, chunk, piece, stored)


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


async def _gather_large(chunk: PlacedChunk, source: Source, buffer: memoryview | None) -> tuple[Piece, memoryview]:
    assert buffer is not None, "a large piece needs a buffer"
    view = buffer[: chunk.stored]
    async with source.store.open(source.name) as stream:
        compare(chunk, source.name, stream.piece)
        await fill(stream, source, view)
        verify_blocks(stream.piece, source, 0, view)
        return stream.piece, view


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


async def fill(stream: PieceStream, source: Source, view: memoryview) -> None:
    """Receive until ``view`` is full; raises NodeUnreachable."""
    filled = 0
    while filled < len(view):
        received = await stream.receive_into(view[filled:])
        if not received:
            raise NodeUnreachable(source.node, "the piece ended early")
        filled += received


def verify_blocks(piece: Piece, source: Source, first_block: int, view: memoryview) -> None:
    """Compare whole blocks, of which ``view`` begins with number ``first_block``; raises PieceCorrupt."""
    for start in range(0, len(view), BLOCK_SIZE):
        number = first_block + start // BLOCK_SIZE
        if not block_is_good(piece, number, view[start : start + BLOCK_SIZE]):
            raise PieceCorrupt(f"block {number} of piece {source.name} on {source.node} has a wrong checksum")
