"""Write one chunk: encode, place, send its pieces, count to the quorum.

The order is: pieces durable, then (by the caller) the record. A crash in between leaves pieces that no record
names; ``upkeep.deletion.reconcile`` collects them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flared.chunks.codec import encode
from flared.chunks.fanout import FanOut
from flared.data.pieces import LARGE_SIZE, Piece, describe_piece
from flared.log import current_request
from flared.names import chunk_id, piece_name

if TYPE_CHECKING:
    from flared.chunks.chunk import ChunkRecord, Chunks
    from flared.chunks.fanout import Outgoing
    from flared.chunks.scheme import Scheme
    from flared.names import ChunkId


def begin_small(
    chunks: Chunks, plain: bytes, digest: bytes, *, scheme: Scheme, compress: bool, request: int | str
) -> FanOut:
    """Encode a chunk smaller than LARGE_SIZE and choose its nodes; the caller starts it. Raises NoPlacement or
    VolumeFull; then nothing has happened. ``plain`` must stay as it is for good: a straggler keeps it queued after the
    put was answered."""
    id_ = chunk_id(digest, int(chunks.now() * 1000), chunks.random_bits(64))
    size = len(plain)
    codec, stored = encode(plain, compress=compress)
    outgoing = make_pieces(id_, stored, scheme, codec=codec, plain_size=size)
    return FanOut(chunks, id_, outgoing, scheme, codec=codec, size=size, stored=len(stored), request=request)


async def write_chunk(
    chunks: Chunks, plain: bytes | memoryview, digest: bytes, *, scheme: Scheme, compress: bool
) -> ChunkRecord:
    """Store ``plain`` (whose SHA-256 is ``digest``) under a fresh generation.

    Returns when at least the scheme's write quorum of pieces is durable. Raises QuorumNotReached, NoPlacement, or
    VolumeFull if that is why; then, and when cancelled, the pieces that were sent are handed to the sweep.
    The caller ends the write in ``chunks.in_flight``: settled when it recorded the chunk, abandoned if not.
    """
    request = current_request.get()
    size = len(plain)
    if size < LARGE_SIZE:
        fan = begin_small(chunks, bytes(plain), digest, scheme=scheme, compress=compress, request=request)
    else:
        id_ = chunk_id(digest, int(chunks.now() * 1000), chunks.random_bits(64))
        codec, stored, outgoing = await chunks.threads.run(_encode, plain, id_, scheme, compress)
        fan = FanOut(chunks, id_, outgoing, scheme, codec=codec, size=size, stored=stored, request=request)
    try:
        await fan.send()
    except BaseException:
        fan.abandon()
        raise
    return fan.finish()


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
            piece = Piece(name, *outgoing[0][0][1:])
        else:
            piece = describe_piece(name, payload, codec=codec, scheme=scheme.text, plain_size=plain_size)
        outgoing.append((piece, payload))
    return outgoing
