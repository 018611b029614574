"""Codecs: how a chunk's bytes are stored. Tried on a sample first, so that random data costs nothing.

``plain`` is the bytes themselves. ``lz4`` is one LZ4 block with its size in front: chunks up to 256 KiB, and larger
ones that an older Flare wrote, which can be decoded only as a whole. ``lz4-blocks`` is for larger chunks. Each of its
frames is decoded by itself, so that a reader needs memory for some frames and never for the chunk:

    stored := head frame*
    head   := "FlB1" plain_size:u32 entry*    one entry for each FRAME_SIZE of the plain bytes, the last may be shorter
    entry  := length:u32 check:u64
    frame  := length bytes: an LZ4 block without its size; or the plain bytes, if length is their number
    check  := xxh3-64 of the frame's plain bytes

Integers are little-endian. Frames follow each other without gaps, so the head says where each one is. What verifies a
decoded byte: the stored bytes, head and frame, are compared with the piece's block checksums before anything is made of
them; what a frame decodes to is compared with the head's check before any of it leaves.
"""

from __future__ import annotations

import mmap
import struct
from typing import NamedTuple

import lz4.block
import xxhash

from flared.data.pieces import BLOCK_SIZE, CODEC_LZ4, CODEC_LZ4_BLOCKS, CODEC_PLAIN
from flared.errors import PieceCorrupt

SAMPLE_SIZE = 64 * 1024
PROBE_SIZE = 64
PROBE_DISTINCT_MAX = 46
"""64 random bytes hold about 57 different values, hardly ever 46; text holds 20 to 35. A look at them costs 1 us, LZ4
on 4 KiB of random bytes 17 us."""
SIZE_MIN = 256
"""Below this nothing is worth compressing."""

FRAME_SIZE = BLOCK_SIZE
"""Plain bytes of one frame. LZ4 looks back 64 KiB at most, so four times that costs hardly any of the ratio."""

CODEC_NAMES = {CODEC_PLAIN: "plain", CODEC_LZ4: "lz4", CODEC_LZ4_BLOCKS: "lz4-blocks"}

_MAGIC = b"FlB1"
_FIXED = struct.Struct("<4sI")
_ENTRY = struct.Struct("<IQ")


class Frame(NamedTuple):
    """Where a frame lies in the stored bytes, and what it decodes to."""

    start: int
    end: int
    plain_size: int
    check: int


def encode(plain: bytes | memoryview, *, compress: bool) -> tuple[int, bytes | memoryview]:
    """The codec chosen and the bytes to store: coded if that saves 1/8, else ``plain``."""
    size = len(plain)
    if not compress or size < SIZE_MIN or not looks_compressible(plain):
        return CODEC_PLAIN, plain
    if size > SAMPLE_SIZE:
        middle = (size - SAMPLE_SIZE) // 2
        sample = plain[middle : middle + SAMPLE_SIZE]
        if len(lz4.block.compress(sample)) > _worth(SAMPLE_SIZE):
            return CODEC_PLAIN, plain
    if size > FRAME_SIZE:
        framed = _encode_frames(memoryview(plain))
        return (CODEC_PLAIN, plain) if framed is None else (CODEC_LZ4_BLOCKS, framed)
    coded: bytes = lz4.block.compress(plain)
    return (CODEC_LZ4, coded) if len(coded) <= _worth(size) else (CODEC_PLAIN, plain)


def decode(codec: int, stored: bytes | memoryview, plain_size: int) -> bytes | memoryview:
    """The chunk's plain bytes; raises PieceCorrupt if they are not ``plain_size`` bytes."""
    if codec == CODEC_PLAIN:
        if len(stored) != plain_size:
            raise PieceCorrupt(f"a plain piece has {len(stored)} bytes, recorded are {plain_size}")
        return stored
    if codec == CODEC_LZ4:
        # The length in front is checked before LZ4 allocates by it, and is what LZ4 makes or refuses.
        if len(stored) < 4 or int.from_bytes(stored[:4], "little") != plain_size:
            raise PieceCorrupt("an lz4 piece names another size than its record")
        return _decompress(stored)
    if codec == CODEC_LZ4_BLOCKS:
        view, frames = memoryview(stored), parse_frames(stored, len(stored), plain_size)
        plain = memoryview(bytearray(plain_size))
        decode_frames(frames, view, 0, plain)
        return plain
    raise PieceCorrupt(f"codec {codec} is unknown")


def check_stored(codec: int, stored: bytes | memoryview, plain_size: int) -> None:
    """Raise PieceCorrupt unless ``stored`` decodes to ``plain_size`` bytes; frames are decoded one after the other."""
    if codec != CODEC_LZ4_BLOCKS:
        decode(codec, stored, plain_size)
        return
    scratch = memoryview(bytearray(FRAME_SIZE))
    for frame in parse_frames(stored, len(stored), plain_size):
        decode_frames([frame], memoryview(stored), 0, scratch)


def head_size(plain_size: int) -> int:
    """Bytes of the head of ``lz4-blocks``: 3,080 for the largest chunk, so it lies in the first block of the piece."""
    return _FIXED.size + _ENTRY.size * -(-plain_size // FRAME_SIZE)


def parse_frames(head: bytes | memoryview, stored_size: int, plain_size: int) -> list[Frame]:
    """The frames that a verified ``head`` (which may be followed by anything) lists, in order.

    Raises PieceCorrupt unless they make up ``stored_size`` stored and ``plain_size`` plain bytes exactly.
    """
    at = head_size(plain_size)
    if len(head) < at or _FIXED.unpack_from(head) != (_MAGIC, plain_size):
        raise PieceCorrupt("an lz4-blocks piece does not begin with the head of its record's size")
    frames: list[Frame] = []
    left = plain_size
    for length, check in _ENTRY.iter_unpack(head[_FIXED.size : at]):
        size = min(FRAME_SIZE, left)
        if not 0 < length <= size:
            raise PieceCorrupt(f"a frame of an lz4-blocks piece has {length} bytes for {size}")
        frames.append(Frame(at, at + length, size, check))
        at, left = at + length, left - size
    if at != stored_size:
        raise PieceCorrupt(f"the frames of an lz4-blocks piece end at {at}, the piece at {stored_size}")
    return frames


def decode_frames(frames: list[Frame], stored: memoryview, stored_start: int, plain: memoryview) -> None:
    """Decode ``frames`` one behind the other into ``plain``; ``stored`` holds their bytes, from ``stored_start`` on.

    Raises PieceCorrupt if one is not what its check says. No other memory is used than that of one frame.
    """
    at = 0
    for frame in frames:
        coded = stored[frame.start - stored_start : frame.end - stored_start]
        into = plain[at : at + frame.plain_size]
        if len(coded) == frame.plain_size:
            into[:] = coded
        else:
            _decompress_into(coded, into)
        if xxhash.xxh3_64_intdigest(into) != frame.check:
            raise PieceCorrupt("a frame of an lz4-blocks piece does not decode to what was written")
        at += frame.plain_size


def looks_compressible(plain: bytes | memoryview) -> bool:
    """A look at a few hundred bytes: whether trying is worth it."""
    middle = (len(plain) - PROBE_SIZE) // 2
    if len(set(plain[middle : middle + PROBE_SIZE])) < PROBE_DISTINCT_MAX:
        return True
    # A large body may have a random spot in the middle of text; ask at two more places before giving up.
    return len(plain) > SAMPLE_SIZE and (
        len(set(plain[:PROBE_SIZE])) < PROBE_DISTINCT_MAX or len(set(plain[-PROBE_SIZE:])) < PROBE_DISTINCT_MAX
    )


def _encode_frames(plain: memoryview) -> memoryview | None:
    """``plain`` as lz4-blocks; None as soon as that is seen to save less than 1/8."""
    size = len(plain)
    limit, at = _worth(size), head_size(size)
    # A mapping of its own, which goes back to the kernel with its last reference, regardless of the heap.
    stored = memoryview(mmap.mmap(-1, limit, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    _FIXED.pack_into(stored, 0, _MAGIC, size)
    for number, start in enumerate(range(0, size, FRAME_SIZE)):
        part = plain[start : start + FRAME_SIZE]
        coded: bytes | memoryview = lz4.block.compress(part, store_size=False)
        if len(coded) >= len(part):
            coded = part
        if at + len(coded) > limit:
            return None
        stored[at : at + len(coded)] = coded
        _ENTRY.pack_into(stored, _FIXED.size + _ENTRY.size * number, len(coded), xxhash.xxh3_64_intdigest(part))
        at += len(coded)
    return stored[:at]


def _decompress(stored: bytes | memoryview) -> bytes:
    try:
        plain: bytes = lz4.block.decompress(stored)
    except lz4.block.LZ4BlockError as error:
        raise PieceCorrupt(f"an lz4 piece cannot be decoded: {error}") from None
    return plain


def _decompress_into(coded: memoryview, into: memoryview) -> None:
    try:
        into[:] = lz4.block.decompress(coded, uncompressed_size=len(into))
    except (lz4.block.LZ4BlockError, ValueError) as error:  # ValueError: it has fewer bytes than it should
        raise PieceCorrupt(f"a frame of an lz4-blocks piece cannot be decoded: {error}") from None


def _worth(plain_size: int) -> int:
    """So many coded bytes at most are worth the decoding."""
    return plain_size - plain_size // 8
