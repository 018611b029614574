"""Details: what an object carries beside its bytes, its type and its user metadata. Most objects have none.

    object = {["h": {name: value}]         response fields that the writer chose: cache-control, expires, ...
              ["k": {algorithm: base64}]   checksums of the body, as they are returned
              ["y": 1]                     the checksums are composite: of the checksums of parts, not of the body
              ["g": {key: value}]          tags
              ["i": 1]                     the version has an id of its own; else its id is "null"
              ["q": compliance, 1 or 0]    object lock ...
              ["b": until ms]              ... and how long the version is kept
              ["o": 1]                     it is under legal hold
              ["a": canned ACL]            what it allows to everybody, if it is not private
              ["z": 1]}                    it is a delete marker (``versions``), which has nothing else

It stands in a packed row as a field, in a row of JSON under ``d`` (``manifest``).
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import NamedTuple, TypedDict

FIELDS = ("cache-control", "content-disposition", "content-encoding", "content-language", "expires")
"""The response fields of RFC 9110 and RFC 6266 that a put may set and a get returns."""
FIELD_NAMES = frozenset(FIELDS)

FIELD_BYTES_MAX = 2 * 1024
FIELDS_BYTES_MAX = 4 * 1024
"""Of all of them, names and values. With tags and user metadata a row stays small enough for pages of a listing."""

_NONE: dict[str, str] = {}


class Record(TypedDict, total=False):
    """The parsed JSON."""

    h: dict[str, str]
    k: dict[str, str]
    y: int
    g: dict[str, str]
    i: int
    q: int
    b: int
    o: int
    z: int
    a: str


class Details(NamedTuple):
    fields: dict[str, str] = _NONE
    """Names in lower case, of FIELDS; values as they were sent."""
    checksums: dict[str, str] = _NONE
    """By algorithm (``objects.digests``), base64; composite ones end in ``-`` and the number of parts."""
    composite: bool = False
    tags: dict[str, str] = _NONE
    versioned: bool = False
    """Put while its bucket had versioning enabled, so that it has an id of its own."""
    compliance: bool = False
    """The mode of the retention; if not, it is governance."""
    retained_until_ms: int = 0
    """0: the version is not retained."""
    legal_hold: bool = False
    deletes: bool = False
    """The version is a delete marker."""
    acl: str = ""
    """A canned ACL of ``access.bucket_access``; empty: private."""


EMPTY = Details()


def some(details: Details) -> Details | None:
    """Return the details, or None if they say nothing: then the row has none."""
    return None if details == EMPTY else details


def encode(details: Details) -> str:
    """As compact JSON."""
    record: Record = {
        "h": details.fields,
        "k": details.checksums,
        "y": int(details.composite),
        "g": details.tags,
        "i": int(details.versioned),
        "q": int(details.compliance),
        "b": details.retained_until_ms,
        "o": int(details.legal_hold),
        "z": int(details.deletes),
        "a": details.acl,
    }
    return json.dumps({key: value for key, value in record.items() if value}, separators=(",", ":"))


@lru_cache(256)  # a walk or a cluster that writes one kind of objects meets the same few
def decode_packed(content: bytes) -> Details:
    """The details in a packed row. Raises what ``records.UNDECODABLE`` lists."""
    return decode(json.loads(content))


def decode(record: Record) -> Details:
    """Likewise."""
    return Details(
        record.get("h", _NONE),
        record.get("k", _NONE),
        bool(record.get("y")),
        record.get("g", _NONE),
        bool(record.get("i")),
        bool(record.get("q")),
        record.get("b", 0),
        bool(record.get("o")),
        bool(record.get("z")),
        record.get("a", ""),
    )
