"""A row of the embedded engine, and the checksum that stands in it.

    checksum = xxh3-64 of  u32 length of the key | i64 version | key | value     (little-endian), as a signed integer

It is over the key that was asked for, so a damaged index that leads to another key's row is noticed as well.
"""

from __future__ import annotations

import struct

import xxhash

_HEAD = struct.Struct("<Iq")


def checksum(key: bytes, value: bytes, version: int) -> int:
    """Return what stands in the checksum column of this row: SQLite's integers are signed."""
    digest = xxhash.xxh3_64_intdigest(_HEAD.pack(len(key), version) + key + value)
    return digest if digest < 1 << 63 else digest - (1 << 64)
