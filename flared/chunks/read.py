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
from flared.names import NodeName, PieceName, chunk_digest_hex, piece_name

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
        self._left, self._unreachable = _find_pieces(chunks, chunk)
        if only is not None:
            self._left = [piece for piece in self._left if piece[0] == only]
        self._replaceable = only is not None
        self._reasons: list[str] = []
        self.failures: dict[int, FlareError] = {}
        """Why pieces did not serve, by number."""
        if denied:
            pieces, self._left = self._left, []
            for piece in pieces:
                if piece[0] in denied:
                    self.fail(self._source(*piece), denied[piece[0]])
                else:
                    self._left.append(piece)

    @property
    def has_spare(self) -> bool:
        """Return whether another piece could be asked for instead of one that was taken."""
        return self._replaceable or bool(self._left)

    def take(self) -> Source:
        """Return the next piece to ask for; no other call returns it.

        Raises ChunkLost if none is left, or PiecesUnreachable while a silent node may still have one.
        """
        if self._left:
            return self._source(*self._left.pop(0))
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

    def _source(self, number: int, node: NodeName, store: PieceNode) -> Source:
        return Source(piece_name(self._chunk.id, number), number, node, store)


def decode_whole(chunk: PlacedChunk, stored: bytes | memoryview) -> bytes | memoryview:
    """Return the plain bytes of a small chunk: their digest says more than any checksum that came along.

    Raises PieceCorrupt if they do not have the chunk's.
    """
    plain = decode(chunk.codec, stored, chunk.size)
    if hashlib.sha256(plain).hexdigest() != chunk_digest_hex(chunk.id):
        raise PieceCorrupt(f"what was read of chunk {chunk.id} does not have its digest")
    return plain


def _find_pieces(chunks: Chunks, chunk: PlacedChunk) -> tuple[list[tuple[int, NodeName, PieceNode]], bool]:
    """Return every piece that may be had, best first, by number and node; and whether one is at a node not known yet.

    One that is recorded as missing comes last: the record is a suspicion (a node that was silent for long, a read that
    failed once), and what is read is verified anyway.
    """
    nodes, damage = chunks.nodes, chunks.damage
    found: list[tuple[int, NodeName, PieceNode]] = []
    unreachable = False
    for number, node in enumerate(chunk.nodes):
        if node is not None:
            store = nodes.store(node)
            if store is None:
                unreachable = True
            else:
                found.append((number, node, store))
    # Nearly always nothing speaks against any of them.
    if len(found) > 1 and (chunk.missing or damage.waiting or not nodes.all_online(chunk.nodes)):
        found.sort(
            key=lambda piece: (
                piece[0] in chunk.missing,
                damage.holds(chunk.id, piece[0]),
                _TRUST[nodes.state(piece[1])],
            )
        )
    return found, unreachable


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
