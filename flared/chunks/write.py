"""Write one chunk: encode, place, send its pieces, count to the quorum.

The order is: pieces durable, then (by the caller) the record. A crash in between leaves pieces that no record
names; ``upkeep.deletion.reconcile`` collects them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from flared.chunks.chunk import Chunk, Chunks
from flared.chunks.codec import encode
from flared.chunks.fanout import FanOut
from flared.data.pieces import LARGE_SIZE, Piece, describe_piece
from flared.log import current_request
from flared.names import ChunkId, NodeName, chunk_id, piece_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flared.chunks.fanout import Outgoing
    from flared.chunks.scheme import Scheme


@dataclass(slots=True)
class ChunkWrite:
    """A chunk on its way to its nodes, under a fresh generation."""

    id: ChunkId
    size: int
    stored: int
    codec: int
    scheme: Scheme
    fan: FanOut

    def finish(self, chunks: Chunks) -> Chunk:
        """Return what was stored, once the fan is decided. Raise QuorumNotReached, or VolumeFull if that is why; the
        pieces that were sent are handed to the sweep."""
        error = self.fan.error()
        if error is not None:
            self.abandon(chunks)
            raise error
        fan = self.fan
        missing = tuple(fan.tally.missing)
        return Chunk(self.id, self.size, self.stored, self.codec, self.scheme.text, tuple(fan.nodes), missing)

    def abandon(self, chunks: Chunks) -> None:
        """Give it up: what a node holds of it, or will hold, is for the sweep."""
        self.fan.abandon()
        chunks.in_flight.abandon(self.id, placed_pieces(self.fan.nodes), trio.current_time())


def begin_small(
    chunks: Chunks, plain: bytes, digest: bytes, *, scheme: Scheme, compress: bool, request: int | str
) -> ChunkWrite:
    """Encode a chunk smaller than LARGE_SIZE and choose its nodes. Its ``fan`` is to be started, and the write ended in
    ``chunks.in_flight`` as ``write_chunk`` says. Raises NoPlacement or VolumeFull; then nothing has happened.
    ``plain`` must stay as it is for good: a straggler keeps it queued after the put was answered."""
    id_ = _draw_id(chunks, digest)
    codec, stored, outgoing = _encode(plain, id_, scheme, compress)
    fan = FanOut(chunks, id_, outgoing, scheme, request=request)
    chunks.in_flight.claim(id_)
    return ChunkWrite(id_, len(plain), stored, codec, scheme, fan)


async def write_chunk(
    chunks: Chunks, plain: bytes | memoryview, digest: bytes, *, scheme: Scheme, compress: bool
) -> Chunk:
    """Store ``plain`` (whose SHA-256 is ``digest``) under a fresh generation.

    Returns when at least the scheme's write quorum of pieces is durable. Raises QuorumNotReached, NoPlacement, or
    VolumeFull if that is why; then, and when cancelled, the pieces that were sent are handed to the sweep.
    The caller ends the write in ``chunks.in_flight``: settled when it recorded the chunk, abandoned if not.
    """
    request = current_request.get()
    if len(plain) < LARGE_SIZE:
        write = begin_small(chunks, bytes(plain), digest, scheme=scheme, compress=compress, request=request)
    else:
        id_ = _draw_id(chunks, digest)
        codec, stored, outgoing = await chunks.threads.run(_encode, plain, id_, scheme, compress)
        fan = FanOut(chunks, id_, outgoing, scheme, request=request)
        chunks.in_flight.claim(id_)
        write = ChunkWrite(id_, len(plain), stored, codec, scheme, fan)
    try:
        await write.fan.send()
    except BaseException:
        write.abandon(chunks)
        raise
    return write.finish(chunks)


def _draw_id(chunks: Chunks, digest: bytes) -> ChunkId:
    return chunk_id(digest, int(chunks.now() * 1000), chunks.random_bits(64))


def placed_pieces(nodes: Sequence[NodeName | None]) -> tuple[tuple[int, NodeName], ...]:
    """(piece number, node) of every piece that a node may hold."""
    return tuple((number, node) for number, node in enumerate(nodes) if node is not None)


def _encode(plain: bytes | memoryview, chunk: ChunkId, scheme: Scheme, compress: bool) -> tuple[int, int, Outgoing]:
    """The codec, the stored bytes after it, and what of them each piece carries."""
    codec, stored = encode(plain, compress=compress)
    return codec, len(stored), make_pieces(chunk, stored, scheme, codec=codec, plain_size=len(plain))


def make_pieces(chunk: ChunkId, stored: bytes | memoryview, scheme: Scheme, *, codec: int, plain_size: int) -> Outgoing:
    """Return what each piece of a chunk carries, and its description; the payloads may be views of ``stored``."""
    payloads = scheme.encode(stored)
    outgoing: list[tuple[Piece, bytes | memoryview]] = []
    for number, payload in enumerate(payloads):
        name = piece_name(chunk, number)
        if number and payload is payloads[0]:  # a copy: its checksums are known
            piece = outgoing[0][0]._replace(name=name)
        else:
            piece = describe_piece(name, payload, codec=codec, scheme=scheme.text, plain_size=plain_size)
        outgoing.append((piece, payload))
    return outgoing
