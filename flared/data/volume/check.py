"""The check of a piece that is to be stored: before it is written, it has to be what it says it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import xxhash

from flared.data.pieces import BLOCK_SIZE, SCHEME_BYTES_MAX, Piece, block_checksums
from flared.errors import BadDigest, BadRequest, FlareError
from flared.names import PIECE_NAME_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flared.data.disk.disk import Buffer


def check_piece(piece: Piece, payload: Buffer) -> FlareError | None:
    """Return why the piece cannot be stored: its payload does not have its checksums, or a record cannot hold it."""
    if len(payload) != piece.size or xxhash.xxh3_128_digest(payload) != piece.checksum:
        return BadDigest(f"{piece.name}: the payload does not have the checksum that came with it")
    if block_checksums(payload) != piece.blocks:
        return BadDigest(f"{piece.name}: the payload does not have the block checksums that came with it")
    if len(piece.scheme) > SCHEME_BYTES_MAX or len(piece.name) > PIECE_NAME_BYTES_MAX or not piece.name.isascii():
        return BadRequest("the piece's name or scheme is too long")
    return None


def check_pieces(items: Sequence[tuple[Piece, Buffer]]) -> dict[int, FlareError]:
    """Return why pieces cannot be stored, by their number: what ``check_piece`` says, at a third of its price for the
    good ones."""
    refused: dict[int, FlareError] = {}
    digest, block_digest = xxhash.xxh3_128_digest, xxhash.xxh3_64_digest
    for number, (piece, payload) in enumerate(items):
        name, _, scheme, _, size, checksum, blocks = piece
        if not (
            0 < size == len(payload) <= BLOCK_SIZE
            and digest(payload) == checksum
            and block_digest(payload) == blocks
            and len(scheme) <= SCHEME_BYTES_MAX
            and len(name) <= PIECE_NAME_BYTES_MAX
            and name.isascii()
        ):
            error = check_piece(piece, payload)
            if error is not None:
                refused[number] = error
    return refused
