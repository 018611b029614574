"""Find the part of a damaged write-ahead log that SQLite would silently drop. Pure: bytes in, a verdict out.

SQLite replays a log up to its first bad frame, and does not say that good ones follow. But a commit is answered only
after all of its frames are synced, and the next one begins only then. So a power cut leaves bad frames in the **last**
transaction of the log and nowhere else; a bad frame with a good one of a **later** transaction behind it was damaged
after its sync, and what follows it was acknowledged.

    log    = header frame*
    header = u32 magic (its last bit: checksums over big-endian words) | u32 version | u32 page size | u32 sequence
             | u32 salt-1 | u32 salt-2 | u32 checksum-1 | u32 checksum-2                              (all big-endian)
    frame  = u32 page number | u32 pages after this commit, 0 in any frame but a transaction's last
             | u32 salt-1 | u32 salt-2 | u32 checksum-1 | u32 checksum-2 | page

A frame's checksum goes on from its predecessor's, over the first eight bytes of the frame and its page
(https://www.sqlite.org/fileformat2.html#walformat). Here each frame is checked from the checksum that *stands* in its
predecessor: so one that is damaged does not make all frames behind it look damaged as well. Frames with other salts are
of an earlier generation of the log, which is overwritten from its beginning and never cut.
"""

from __future__ import annotations

import struct
import sys
from array import array
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from mmap import mmap

HEADER = struct.Struct(">8I")
FRAME = struct.Struct(">6I")
MAGIC = 0x377F0682
VERSION = 3007000
PAGE_BYTES = 4096
"""Of our files; for a header that does not say it any more."""
BATCH_FRAMES = 512
"""Frames checked at once, each in a lane of large integers: 2 MiB, for any size of the log."""
PAIRS_PER_MASK = 16
"""A pair of words adds 1.4 bits to a sum, and a lane has room for 32 bits beyond its word."""
_WORD = 0xFFFFFFFF
_PAGE_SIZES = frozenset(1 << power for power in range(9, 17))


class LogDamage(NamedTuple):
    """Where a log is damaged, and what would be lost."""

    offset: int
    """Of the bad frame, in bytes; 0 for the header."""
    transactions: int
    """Acknowledged ones that SQLite would drop: at least so many."""


class _Header(NamedTuple):
    good: bool
    big_endian: bool
    page_bytes: int
    salts: tuple[int, int]
    checksum: tuple[int, int]

    @property
    def frame_bytes(self) -> int:
        return FRAME.size + self.page_bytes


class _Frame(NamedTuple):
    number: int
    good: bool
    ends: bool
    """It is of this generation, and says that it is the last of its transaction."""


def find_damage(log: bytes | mmap) -> LogDamage | None:
    """Return what SQLite would silently drop; None if the log is sound, cut off, or as a power cut leaves it."""
    if len(log) < HEADER.size:
        return None
    header = _read_header(log)
    frames = _check_frames(log, header)
    if header.good:
        return _judge(frames, header)
    # The header is synced before anything is written behind it.
    if not any(log[HEADER.size :]):
        return None
    return LogDamage(0, max(1, sum(frame.ends for frame in frames)))


def _judge(frames: Iterator[_Frame], header: _Header) -> LogDamage | None:
    """Find the first bad frame, the end of its transaction, and good frames behind that."""
    bad = next((frame for frame in frames if not frame.good), None)
    if bad is None:
        return None
    same_transaction = not bad.ends
    later = commits = 0
    for frame in frames:
        if not frame.good:
            continue
        if same_transaction:
            same_transaction = not frame.ends
        else:
            later += 1
            commits += frame.ends
    return LogDamage(HEADER.size + bad.number * header.frame_bytes, 1 + commits) if later else None


def _read_header(log: bytes | mmap) -> _Header:
    magic, version, page_bytes, _sequence, salt1, salt2, *checksum = HEADER.unpack(log[: HEADER.size])
    big_endian = magic == MAGIC | 1
    words = array("I", log[:24])
    if big_endian != (sys.byteorder == "big"):
        words.byteswap()
    good = (
        magic in (MAGIC, MAGIC | 1)
        and version == VERSION
        and page_bytes in _PAGE_SIZES
        and _add((0, 0), words) == tuple(checksum)
    )
    if not good and page_bytes not in _PAGE_SIZES:
        page_bytes = PAGE_BYTES
    return _Header(good, big_endian, page_bytes, (salt1, salt2), (checksum[0], checksum[1]))


def _check_frames(log: bytes | mmap, header: _Header) -> Iterator[_Frame]:
    """Check each frame from the checksum that stands in its predecessor, a batch at a time.

    Behind a bad header, whose salts may be what is wrong, the first frame's salts are those of this generation.
    """
    size = header.frame_bytes
    count = (len(log) - HEADER.size) // size
    salts, before = header.salts, header.checksum
    computed: tuple[int, int] | None = None
    for first in range(0, count, BATCH_FRAMES):
        batch = log[HEADER.size + first * size : HEADER.size + min(count, first + BATCH_FRAMES) * size]
        heads = [FRAME.unpack_from(batch, offset) for offset in range(0, len(batch), size)]
        if not header.good and not first:
            salts = heads[0][2:4]
        if not any(head[2:4] == salts for head in heads):
            yield from (_Frame(first + number, False, False) for number in range(len(heads)))
            before, computed = heads[-1][4:], None
            continue
        seeds = [before, *(head[4:] for head in heads[:-1])]
        sums = _add_all(seeds, batch, header)
        for number, (head, total) in enumerate(zip(heads, sums, strict=True)):
            current = head[2:4] == salts
            good = current and total == head[4:]
            if current and not good and computed is not None:
                # The bad one before it may have had nothing wrong but the checksum that stands in it.
                good = _add(computed, _words(batch[number * size : (number + 1) * size], header)) == head[4:]
            computed = None if good else total
            # Another generation differs in both salts, a flipped bit only in one.
            related = head[2] == salts[0] or head[3] == salts[1]
            yield _Frame(first + number, good, related and head[1] != 0)
        before = heads[-1][4:]


def _words(frames: bytes, header: _Header) -> array[int]:
    """Return the bytes that the checksum of one frame covers."""
    words = array("I", frames)
    if header.big_endian != (sys.byteorder == "big"):
        words.byteswap()
    return words[:2] + words[FRAME.size // 4 :]


def _add(seed: tuple[int, int], words: Sequence[int]) -> tuple[int, int]:
    """SQLite's checksum, word for word."""
    one, two = seed
    for position in range(0, len(words), 2):
        one = (one + words[position] + two) & _WORD
        two = (two + words[position + 1] + one) & _WORD
    return one, two


def _add_all(seeds: list[tuple[int, int]], frames: bytes, header: _Header) -> list[tuple[int, int]]:
    """The same for many frames at once, each from its own seed.

    A word of all frames is one large integer, with 64 bits for each second frame: the even ones in one, the odd ones in
    another. So a few operations add a word to all sums: some forty times as fast as a loop over the words.
    """
    stride, count = header.frame_bytes // 4, len(seeds)
    odd = count % 2
    words = array("I", frames + bytes(odd * header.frame_bytes))
    if header.big_endian:
        words.byteswap()  # from here on the bytes are little-endian, on any machine
    mask = int.from_bytes(b"\xff\xff\xff\xff\0\0\0\0" * ((count + odd) // 2), "little")

    def split(column: bytes) -> tuple[int, int]:
        both = int.from_bytes(column, "little")
        return both & mask, both >> 32 & mask

    padded = seeds + [(0, 0)] * odd
    (one_even, one_odd), (two_even, two_odd) = (
        split(b"".join(seed[place].to_bytes(4, "little") for seed in padded)) for place in (0, 1)
    )
    for turn, position in enumerate(chain((0,), range(FRAME.size // 4, stride, 2))):
        even, odd_ = split(words[position::stride].tobytes())
        one_even += even + two_even
        one_odd += odd_ + two_odd
        even, odd_ = split(words[position + 1 :: stride].tobytes())
        two_even += even + one_even
        two_odd += odd_ + one_odd
        if turn % PAIRS_PER_MASK == 0:
            one_even, one_odd, two_even, two_odd = (lanes & mask for lanes in (one_even, one_odd, two_even, two_odd))
    ones, twos = (
        struct.unpack(f"<{count + odd}I", ((even & mask) | (odd_ & mask) << 32).to_bytes(4 * (count + odd), "little"))
        for even, odd_ in ((one_even, one_odd), (two_even, two_odd))
    )
    return list(zip(ones, twos, strict=True))[:count]
