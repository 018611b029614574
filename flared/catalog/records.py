"""How records are encoded: one byte of format, then compact JSON with short keys.

Encoders write the JSON by hand, which is three times faster than ``json.dumps``; only strings that users chose
need escaping. A record of a newer format is refused, never guessed at.
"""

from __future__ import annotations

import json
from json.encoder import encode_basestring_ascii

from flared.errors import ManifestCorrupt

FORMAT = ord("1")

DECODED_MAX = 2048
"""Records of a kind that stay decoded: what is read again costs a tenth. With 8 KiB of user metadata in each they
are 16 MiB; 2 MiB is usual."""

quote = encode_basestring_ascii
"""A string as JSON."""

parse = json.JSONDecoder().raw_decode
"""``parse(text, 1)[0]`` is what follows the format byte."""

# What a record that is not one of ours makes a decoder raise.
UNDECODABLE = (ValueError, KeyError, TypeError, AttributeError, IndexError)


def text_of(value: bytes) -> str:
    """The record as text, if its format is the one we know; ValueError if not."""
    if not value or value[0] != FORMAT:
        raise ValueError(f"its format is {value[:1]!r}")
    return value.decode()


def corrupt(what: str, error: Exception) -> ManifestCorrupt:
    return ManifestCorrupt(f"the record of {what} cannot be read: {error!r}")


def leading_number(value: bytes) -> int:
    """The first field of a record that begins ``1{"x":123,``: what listings that only count need of it."""
    return int(value[6 : value.index(b",", 6)])
