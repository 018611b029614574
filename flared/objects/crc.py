"""CRCs of bodies: CRC32, CRC32C and CRC64NVME, going on from part to part, and joined from those of the parts.

    crc         width  polynomial, reflected   a library, if it is installed              else
    CRC32       32     EDB88320                zlib (comes with Python)
    CRC32C      32     82F63B78                crc32c, awscrt, crcmod                     the table below
    CRC64NVME   64     9A6C9329AC4BC9B5        awscrt 0.23 or newer, crcmod               the table below

All three are reflected, begin with ones and are inverted at the end (Rocksoft model), so that one combination fits all.
The libraries are compared with the table before they are trusted. The table makes some 15 MiB/s, crcmod 340, the others
gigabytes.
"""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Callable
from functools import cache, lru_cache
from importlib import import_module
from typing import NamedTuple

Data = bytes | bytearray | memoryview
Update = Callable[[Data, int], int]
"""From more bytes and the CRC of all before them to the CRC of all."""

SLICE_BYTES = 256 * 1024
"""So much at a time goes to what keeps the interpreter to itself: below a millisecond in C."""
TABLE_SLICE_BYTES = 8 * 1024
REST_SECONDS = 0.00005
"""Between two of these slices: without it the event loop would wait five milliseconds for its turn, each time."""

CHECKED = bytes(range(251)) * 3
"""What a library is tried with: longer than any block that it works by, and no multiple of one."""


class Crc(NamedTuple):
    width: int
    polynomial: int
    """Reflected: the coefficient of the highest power is the lowest bit."""

    @property
    def size(self) -> int:
        """Of the value, in bytes."""
        return self.width // 8

    @property
    def ones(self) -> int:
        return (1 << self.width) - 1


CRC32 = Crc(32, 0xEDB88320)
CRC32C = Crc(32, 0x82F63B78)
CRC64NVME = Crc(64, 0x9A6C9329AC4BC9B5)


@cache
def updating(crc: Crc) -> Update:
    """Return the fastest way to compute it that is installed."""
    if crc == CRC32:
        return zlib.crc32
    for find in _LIBRARIES.get(crc, ()):
        try:
            update = find()
            if update(CHECKED[9:], update(CHECKED[:9], 0)) == by_table(crc, CHECKED, 0):
                return update
        except (ImportError, AttributeError, TypeError):  # not installed, or one that is too old for this
            continue
    return _sliced(lambda data, value: by_table(crc, data, value), TABLE_SLICE_BYTES)


def combine(crc: Crc, first: int, second: int, second_bytes: int) -> int:
    """Return the CRC of two parts, one behind the other, from theirs and the length of the second one."""
    return _multiply(crc, _power(crc, second_bytes), first) ^ second


def by_table(crc: Crc, data: Data, value: int) -> int:
    """The CRC by eight tables, eight bytes a step (Kounavis and Berry, "slicing-by-8")."""
    t0, t1, t2, t3, t4, t5, t6, t7 = _tables(crc)
    value ^= crc.ones
    view = memoryview(data).cast("B")
    whole = len(view) & ~7
    for (word,) in struct.iter_unpack("<Q", view[:whole]):
        word ^= value
        value = (
            t7[word & 255]
            ^ t6[word >> 8 & 255]
            ^ t5[word >> 16 & 255]
            ^ t4[word >> 24 & 255]
            ^ t3[word >> 32 & 255]
            ^ t2[word >> 40 & 255]
            ^ t1[word >> 48 & 255]
            ^ t0[word >> 56]
        )
    for byte in view[whole:]:
        value = t0[(value ^ byte) & 255] ^ value >> 8
    return value ^ crc.ones


@cache
def _tables(crc: Crc) -> tuple[tuple[int, ...], ...]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (crc.polynomial if value & 1 else 0)
        table.append(value)
    tables = [tuple(table)]
    for _ in range(7):
        tables.append(tuple(value >> 8 ^ table[value & 255] for value in tables[-1]))
    return tuple(tables)


# Libraries


def _crc32c_of_crc32c() -> Update:
    function: Update = import_module("crc32c").crc32c
    return lambda data, value: function(data, value)


def _crc32c_of_awscrt() -> Update:
    function: Callable[[bytes, int], int] = import_module("awscrt.checksums").crc32c
    return _sliced(lambda data, value: function(bytes(data), value), SLICE_BYTES)


def _crc64_of_awscrt() -> Update:
    function: Callable[[bytes, int], int] = import_module("awscrt.checksums").crc64nvme
    return _sliced(lambda data, value: function(bytes(data), value), SLICE_BYTES)


def _of_crcmod(crc: Crc) -> Update:
    import_module("crcmod._crcfunext")  # without it crcmod is slower than our table
    polynomial = 1 << crc.width | int(f"{crc.polynomial:0{crc.width}b}"[::-1], 2)
    function: Update = import_module("crcmod").mkCrcFun(polynomial, initCrc=0, rev=True, xorOut=crc.ones)
    return _sliced(function, SLICE_BYTES)


_LIBRARIES: dict[Crc, tuple[Callable[[], Update], ...]] = {
    CRC32C: (_crc32c_of_crc32c, _crc32c_of_awscrt, lambda: _of_crcmod(CRC32C)),
    CRC64NVME: (_crc64_of_awscrt, lambda: _of_crcmod(CRC64NVME)),
}


def _sliced(update: Update, size: int) -> Update:
    def update_in_slices(data: Data, value: int) -> int:
        if len(data) <= size:
            return update(data, value)
        view = memoryview(data)
        for start in range(0, len(view), size):
            value = update(view[start : start + size], value)
            time.sleep(REST_SECONDS)
        return value

    return update_in_slices


# Polynomials over GF(2), modulo that of the CRC, reflected


def _multiply(crc: Crc, one: int, other: int) -> int:
    product = 0
    for bit in range(crc.width - 1, -1, -1):  # the lowest power is the highest bit
        if one >> bit & 1:
            product ^= other
        other = other >> 1 ^ (crc.polynomial if other & 1 else 0)
    return product


@lru_cache(1024)  # the parts of an upload have one size, but for the last
def _power(crc: Crc, length: int) -> int:
    """x to the power of ``8 * length``."""
    result, base = 1 << crc.width - 1, 1 << crc.width - 9  # x ** 0 and x ** 8
    while length:
        if length & 1:
            result = _multiply(crc, result, base)
        base = _multiply(crc, base, base)
        length >>= 1
    return result
