"""How records are encoded: one byte of format, then compact JSON with short keys. Rows of small objects are binary
(``packed``).

Encoders write the JSON by hand, which is three times faster than ``json.dumps``; only strings that users chose
need escaping. A record of a newer format is refused, never guessed at.
"""

from __future__ import annotations

import json
import logging
import struct
from json.encoder import encode_basestring_ascii
from typing import TYPE_CHECKING, TypeVar

from flared.errors import ManifestCorrupt
from flared.meta import keys
from flared.meta.kv import DAMAGED

if TYPE_CHECKING:
    from collections.abc import Callable

    from flared.meta.kv import KV

R = TypeVar("R")

log = logging.getLogger(__name__)

FORMAT = ord("1")

DECODED_MAX = 2048
"""Records of a kind that stay decoded: what is read again costs a tenth. With 8 KiB of user metadata in each they
are 16 MiB; 2 MiB is usual."""

quote = encode_basestring_ascii
"""A string as JSON."""

parse = json.JSONDecoder().raw_decode
"""``parse(text, 1)[0]`` is what follows the format byte."""

# What a record that is not one of ours makes a decoder raise.
UNDECODABLE = (ValueError, KeyError, TypeError, AttributeError, IndexError, struct.error)


def text_of(value: bytes) -> str:
    """The record as text, if its format is the one we know; ValueError if not."""
    if not value or value[0] != FORMAT:
        raise ValueError(f"its format is {value[:1]!r}")
    return value.decode()


def corrupt(what: str, error: Exception) -> ManifestCorrupt:
    return ManifestCorrupt(f"the record of {what} cannot be read: {error!r}")


def leading_number(value: bytes) -> int:
    """The first field of a record that begins ``1{"x":123,``: what listings that only count need of it. 0 where that
    cannot be read."""
    try:
        return int(value[6 : value.index(b",", 6)])
    except ValueError:
        return 0


async def scan_readable(kv: KV, start: bytes, end: bytes, limit: int, read: Callable[[bytes, bytes], R]) -> list[R]:
    """The first ``limit`` records of a range that can be read; what cannot is logged. Fewer only at the range's end."""
    found: list[R] = []
    while len(found) < limit:
        wanted = limit - len(found)
        rows = await kv.scan(start, end, wanted)
        for key, value in rows:
            if value == DAMAGED:  # its key cannot be relied on either; the engine has reported it
                continue
            try:
                found.append(read(key, value))
            except ManifestCorrupt as error:
                log.error("event=record_unreadable key=%r message=%r", key, str(error))
        if len(rows) < wanted:
            break
        start = keys.after(rows[-1][0])
    return found
