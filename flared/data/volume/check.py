"""The check of a piece that is to be stored: before it is written, it has to be what it says it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import xxhash

from flared.data.pieces import BLOCK_SIZE, SCHEME_BYTES_MAX, Piece, block_checksums
from flared.errors import BadDigest, BadRequest, FlareError
from flared.names import PIECE_NAME_BYTES_MAX

if TYPE_CHECKING:
    from flared.data.disk.disk import Buffer


def check_piece(piece: Piece, payload: Buffer) -> FlareError | None:
    """Return why the piece cannot be stored: its payload does not have its checksums, or a record cannot hold it."""
    if len(payload) != piece.size or xxhash.xxh3_128_digest(payload) != piece.checksum:
        return BadDigest(f"{piece.name}: the payload does not have the checksum that came with it")
    if (xxhash.xxh3_64_digest(payload) if 0 < piece.size <= BLOCK_SIZE else block_checksums(payload)) != piece.blocks:
        return BadDigest(f"{piece.name}: the payload does not have the block checksums that came with it")
    if len(piece.scheme) > SCHEME_BYTES_MAX or len(piece.name) > PIECE_NAME_BYTES_MAX or not piece.name.isascii():
        return BadRequest("the piece's name or scheme is too long")
    return None
