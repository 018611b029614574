"""Piece: the part of a chunk that one node stores, and the checksums that every reader verifies."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import xxhash

BLOCK_SIZE = 256 * 1024
"""A reader may use a block as soon as its checksum is verified, without waiting for the rest of the piece."""

LARGE_SIZE = 128 * 1024
"""Pieces of this stored size or more travel alone and are aligned in segments of their own; smaller ones are packed."""

PIECE_SIZE_MAX = 64 * 1024 * 1024
"""Most stored bytes of one piece: the largest chunk."""

SCHEME_BYTES_MAX = 15
"""The field on disk and on the wire has 16 bytes, the last of them zero."""

CODEC_PLAIN = 0
CODEC_LZ4 = 1
CODEC_LZ4_BLOCKS = 2


class Piece(NamedTuple):
    """Everything about a piece except its bytes. It travels and is stored with them."""

    name: str
    codec: int
    scheme: str
    """At most SCHEME_BYTES_MAX bytes of ASCII, such as ``replica:3``; the data node does not interpret it."""
    plain_size: int
    """Bytes of the whole chunk before codec and scheme."""
    size: int
    """Stored bytes of this piece."""
    checksum: bytes
    """xxh3-128 of the stored bytes, 16 bytes big-endian."""
    blocks: bytes
    """xxh3-64 of each BLOCK_SIZE of the stored bytes, 8 bytes big-endian each. Empty for an empty piece."""


class Span(NamedTuple):
    """The stored bytes from ``begin`` to ``end`` of a piece that has ``size`` of them, as its reader believes."""

    begin: int
    end: int
    size: int


class PieceStream(Protocol):
    """The stored bytes of a piece, or of a span of it, as they come from its node: the reader verifies them."""

    @property
    def piece(self) -> Piece: ...

    async def receive_into(self, buffer: memoryview) -> int:
        """The next 1 to len(buffer) bytes; 0 at the end. Raises NodeUnreachable."""


def block_checksums(payload: bytes | bytearray | memoryview) -> bytes:
    """Return the ``blocks`` of a Piece with these stored bytes."""
    if len(payload) <= BLOCK_SIZE:
        return xxhash.xxh3_64_digest(payload) if len(payload) else b""
    view = memoryview(payload)
    return b"".join(
        xxhash.xxh3_64_digest(view[start : start + BLOCK_SIZE]) for start in range(0, len(view), BLOCK_SIZE)
    )


def block_is_good(piece: Piece, number: int, block: bytes | bytearray | memoryview) -> bool:
    """Return whether ``block`` is block ``number`` of the piece, whole and unchanged."""
    return xxhash.xxh3_64_digest(block) == piece.blocks[8 * number : 8 * number + 8]


def piece_is_good(piece: Piece, payload: bytes | bytearray | memoryview) -> bool:
    """Return whether ``payload`` is the whole piece, unchanged."""
    return len(payload) == piece.size and xxhash.xxh3_128_digest(payload) == piece.checksum


def describe_piece(
    name: str, payload: bytes | bytearray | memoryview, *, codec: int, scheme: str, plain_size: int
) -> Piece:
    """Return the Piece for these stored bytes; computes its checksums (31 GB/s: inline is fine for a MiB)."""
    size = len(payload)
    blocks = xxhash.xxh3_64_digest(payload) if 0 < size <= BLOCK_SIZE else block_checksums(payload)
    return Piece(name, codec, scheme, plain_size, size, xxhash.xxh3_128_digest(payload), blocks)
