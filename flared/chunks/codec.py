"""Codecs: how a chunk's bytes are stored. Tried on a sample first, so that random data costs nothing."""

from __future__ import annotations

import lz4.block

from flared.data.pieces import CODEC_LZ4, CODEC_PLAIN
from flared.errors import PieceCorrupt

SAMPLE_SIZE = 64 * 1024
PROBE_SIZE = 64
PROBE_DISTINCT_MAX = 46
"""64 random bytes hold about 57 different values, hardly ever 46; text holds 20 to 35. A look at them costs 1 us, LZ4
on 4 KiB of random bytes 17 us."""
SIZE_MIN = 256
"""Below this nothing is worth compressing."""

CODEC_NAMES = {CODEC_PLAIN: "plain", CODEC_LZ4: "lz4"}


def encode(plain: bytes | memoryview, *, compress: bool) -> tuple[int, bytes | memoryview]:
    """The codec chosen and the bytes to store: LZ4 block with the size in front if it saves 1/8, else ``plain``."""
    size = len(plain)
    if not compress or size < SIZE_MIN or not looks_compressible(plain):
        return CODEC_PLAIN, plain
    if size > SAMPLE_SIZE:
        middle = (size - SAMPLE_SIZE) // 2
        sample = plain[middle : middle + SAMPLE_SIZE]
        if not _saves_enough(len(lz4.block.compress(sample)), SAMPLE_SIZE):
            return CODEC_PLAIN, plain
    coded: bytes = lz4.block.compress(plain)
    return (CODEC_LZ4, coded) if _saves_enough(len(coded), size) else (CODEC_PLAIN, plain)


def decode(codec: int, stored: bytes | memoryview, plain_size: int) -> bytes | memoryview:
    """The chunk's plain bytes; raises PieceCorrupt if they are not ``plain_size`` bytes."""
    if codec == CODEC_PLAIN:
        plain: bytes | memoryview = stored
    elif codec == CODEC_LZ4:
        # The length in front is checked before LZ4 allocates by it.
        if len(stored) < 4 or int.from_bytes(stored[:4], "little") != plain_size:
            raise PieceCorrupt("an lz4 piece names another size than its record")
        try:
            plain = lz4.block.decompress(stored)
        except lz4.block.LZ4BlockError as error:
            raise PieceCorrupt(f"an lz4 piece cannot be decoded: {error}") from None
    else:
        raise PieceCorrupt(f"codec {codec} is unknown")
    if len(plain) != plain_size:
        raise PieceCorrupt(f"a piece decodes to {len(plain)} bytes, recorded are {plain_size}")
    return plain


def looks_compressible(plain: bytes | memoryview) -> bool:
    """A look at a few hundred bytes: whether trying is worth it."""
    middle = (len(plain) - PROBE_SIZE) // 2
    if len(set(plain[middle : middle + PROBE_SIZE])) < PROBE_DISTINCT_MAX:
        return True
    # A large body may have a random spot in the middle of text; ask at two more places before giving up.
    return len(plain) > SAMPLE_SIZE and (
        len(set(plain[:PROBE_SIZE])) < PROBE_DISTINCT_MAX or len(set(plain[-PROBE_SIZE:])) < PROBE_DISTINCT_MAX
    )


def _saves_enough(coded_size: int, plain_size: int) -> bool:
    return coded_size <= plain_size - plain_size // 8
