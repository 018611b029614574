"""The common part of all reads of a chunk: which pieces to request, in which order, and how each must look.

A piece found missing or wrong is noted in the DamageList and the read goes on elsewhere; no byte is used before its
block's checksum held. ``gatherer`` reads a chunk as a whole, ``small_read`` does so in turns, ``stream`` passes on what
need not be gathered first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from flared.chunks.codec import decode
from flared.chunks.scheme import parse_scheme
from flared.cluster.states import NodeState
from flared.data.pieces import BLOCK_SIZE, Piece, block_is_good
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
    from flared.chunks.nodes import PieceNode
    from flared.data.pieces import PieceStream

NOTHING_DENIED: Mapping[int, FlareError] = {}

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

    def __init__(
        self,
        chunks: Chunks,
        chunk: PlacedChunk,
        denied: Mapping[int, FlareError] = NOTHING_DENIED,
        *,
        only: int | None = None,
    ) -> None:
        """``denied``: why pieces could not be had that were asked for just now; their nodes are not asked again.
        ``only``: the number of the one piece that is wanted; others would do in its place, by another search."""
        self._chunks = chunks
        self._chunk = chunk
        self._sources = _sources(chunks, chunk)
        if only is not None:
            self._sources = [source for source in self._sources if source.number == only]
        self._replaceable = only is not None
        self._reasons: list[str] = []
        self.failures: dict[int, FlareError] = {}
        """Why pieces did not serve, by number."""
        self._unreachable = any(node is not None and chunks.nodes.store(node) is None for node in chunk.nodes)
        for source in [one for one in self._sources if one.number in denied]:
            self._sources.remove(source)
            self.fail(source, denied[source.number])

    @property
    def has_spare(self) -> bool:
        """Return whether another piece could be asked for instead of one that was taken."""
        return self._replaceable or bool(self._sources)

    def take(self) -> Source:
        """Return the next piece to ask for; no other call returns it.

        Raises ChunkLost if none is left, or PiecesUnreachable while a silent node may still have one.
        """
        if self._sources:
            return self._sources.pop(0)
        if self._unreachable:
            reasons = "; ".join(self._reasons) or "its nodes are not known yet"
            raise PiecesUnreachable(f"chunk {self._chunk.id} cannot be read now: {reasons}")
        raise ChunkLost(
            f"no good piece of chunk {self._chunk.id} is left: {'; '.join(self._reasons) or 'none recorded'}"
        )

    def fail(self, source: Source, error: FlareError) -> None:
        """Note why ``source`` did not serve. Damage goes on the DamageList; after any other failure another may have
        the piece."""
        self.failures[source.number] = error
        if isinstance(error, (NoSuchPiece, PieceCorrupt)):
            if source.number not in self._chunk.missing:
                corrupt = isinstance(error, PieceCorrupt)
                self._chunks.damage.add(self._chunk.id, source.number, source.node, str(error), corrupt=corrupt)
        else:
            self._unreachable = True
        self._reasons.append(str(error))


def decode_whole(chunk: PlacedChunk, stored: bytes | memoryview) -> bytes | memoryview:
    """Return the plain bytes of a small chunk: their digest says more than any checksum that came along.

    Raises PieceCorrupt if they do not have the chunk's.
    """
    plain = decode(chunk.codec, stored, chunk.size)
    if hashlib.sha256(plain).digest() != chunk_digest(chunk.id):
        raise PieceCorrupt(f"what was read of chunk {chunk.id} does not have its digest")
    return plain


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
    """Raise PieceCorrupt unless this is what was asked for: data nodes are assumed honest, not assumed correct."""
    size = parse_scheme(chunk.scheme).piece_size(chunk.stored)
    if piece.name != asked or piece.size != size or piece.codec != chunk.codec:
        raise PieceCorrupt(f"asked for {asked} with {size} bytes, got {piece.name} with {piece.size}")


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
