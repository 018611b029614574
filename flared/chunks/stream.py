"""Streams: the verified plain bytes of a part of one chunk, in order, for a client who may be slow.

``PlainStream`` passes on the blocks of a plain piece, ``FrameStream`` decodes frames of ``lz4-blocks``, ``CodedStream``
passes on the data pieces of a coded chunk one after the other, ``WholeStream`` gathers chunks that can only be read as
a whole. Each reads into a unit (``units``); a whole chunk is spilled when its client is slow.

What verifies a byte: the block checksums of the piece it was made of, before anything is made of them; after a codec,
the codec's own check; after a spill, the spill's. Chunks below LARGE_SIZE are compared with their SHA-256.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flared.chunks.blocks import Blocks
from flared.chunks.coded_stream import CodedStream
from flared.chunks.frame_stream import FrameStream
from flared.chunks.plain_stream import PlainStream
from flared.chunks.read import Search
from flared.chunks.scheme import parse_scheme
from flared.chunks.whole_stream import WholeStream
from flared.data.pieces import CODEC_LZ4_BLOCKS, CODEC_PLAIN, LARGE_SIZE

if TYPE_CHECKING:
    from flared.chunks.chunk import Chunks, PlacedChunk
    from flared.chunks.units import ChunkStream


def open_stream(chunks: Chunks, chunk: PlacedChunk, start: int, length: int) -> ChunkStream:
    """The bytes ``start`` to ``start + length`` of a chunk."""
    scheme = parse_scheme(chunk.scheme)
    plain = chunk.codec == CODEC_PLAIN and chunk.stored >= LARGE_SIZE
    if scheme.needed > 1:
        if plain and scheme.systematic:
            return CodedStream(chunks, chunk, start, length)
        return WholeStream(chunks, chunk, start, length)
    if plain:
        blocks = Blocks(Search(chunks, chunk), chunk, chunk.stored)
        return PlainStream(chunks, blocks, chunk.stored, start, length)
    if chunk.codec == CODEC_LZ4_BLOCKS:
        return FrameStream(chunks, chunk, start, length)
    return WholeStream(chunks, chunk, start, length)
