"""The names users and nodes give to things: parse, print, order.

A name is a plain ``str`` behind a ``NewType``: it is checked once, where it enters, and costs nothing after.
"""

from __future__ import annotations

import re
from typing import NamedTuple, NewType

from flared.errors import BadName

BucketName = NewType("BucketName", str)
ObjectKey = NewType("ObjectKey", str)
NodeName = NewType("NodeName", str)
ChunkId = NewType("ChunkId", str)
"""``{generation}.{SHA-256 of the plain bytes, 64 hex}``, where the generation is ``t{milliseconds since 1970, 12
hex}{64 random bits, 16 hex}``. As bytes, ids order by the time they were made at: new rows are appended to every tree.

Ids from before format 2 of the metadata are ``{SHA-256, 64 hex}.{generation, 16 hex}``. They stay as they are, and
order before all others, because ``t`` follows every hex digit.
"""
PieceName = NewType("PieceName", str)
"""``{chunk id}.{piece number}``; an opaque string to the data node that keeps it."""

DEFAULT_BUCKET = BucketName("default")
KEY_BYTES_MAX = 1024
PIECE_NAME_BYTES_MAX = 200
REQUEST_FIELD = "x-flare-request"
"""The HTTP field with the id of a request: from clients that chose one, and on to the data nodes."""

# The rules of S3, so that every bucket can be shown through an S3 face later.
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+")
_NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_PIECE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_REQUEST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_REQUESTS = re.compile(r"[A-Za-z0-9][A-Za-z0-9.,_-]{0,4095}")
_CHUNK = re.compile(r"t[0-9a-f]{28}\.[0-9a-f]{64}|[0-9a-f]{64}\.[0-9a-f]{16}")
_TIMED = "t"
_TIME_MAX_MS = (1 << 48) - 1
_DIGEST_DIGITS = 64


class ObjectName(NamedTuple):
    """Where an object lives; orders by bucket, then by key."""

    bucket: BucketName
    key: ObjectKey


def parse_bucket(text: str) -> BucketName:
    """Check a bucket's name; raises BadName with the rule that it breaks."""
    if not _BUCKET.fullmatch(text) or ".." in text or _ADDRESS.fullmatch(text):
        raise BadName(
            f"{text!r} is not a valid bucket name: use 3 to 63 of a-z, 0-9, '-' and '.', "
            "beginning and ending with a letter or digit, without '..' and not shaped like an IP address",
            of="bucket",
        )
    return BucketName(text)


def parse_key(text: str) -> ObjectKey:
    """Check an object's key: 1 to 1024 bytes of UTF-8 without NUL; raises BadName."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise BadName("the key is not valid UTF-8") from None
    if not size:
        raise BadName("the key is empty")
    if size > KEY_BYTES_MAX:
        raise BadName(f"the key has {size} bytes; at most {KEY_BYTES_MAX} are allowed", of="long key")
    if "\0" in text:
        raise BadName("the key contains a NUL byte (%00)")
    return ObjectKey(text)


def parse_node(text: str) -> NodeName:
    """Check a node's name; raises BadName."""
    if not _NODE.fullmatch(text):
        raise BadName(f"{text!r} is not a valid node name: use 1 to 63 of A-Z, a-z, 0-9, '.', '_' and '-'")
    return NodeName(text)


def parse_piece(text: str) -> PieceName:
    """Check a piece's name as a data node does: an opaque, harmless string; raises BadName."""
    if not _PIECE.fullmatch(text):
        raise BadName(f"{text[:80]!r} is not a valid piece name: use 1 to 200 of A-Z, a-z, 0-9, '.', '_' and '-'")
    return PieceName(text)


def parse_chunk(text: str) -> ChunkId:
    """Check a chunk id; raises BadName."""
    if not _CHUNK.fullmatch(text):
        raise BadName(
            f"{text[:100]!r} is not a chunk id: use 't', 28 hex digits, a dot and 64 hex digits, "
            "or (the older form) 64 hex digits, a dot and 16 hex digits"
        )
    return ChunkId(text)


def chunk_id(digest: bytes, now_ms: int, random_bits: int) -> ChunkId:
    """Name one storing of a chunk: ``digest`` is its SHA-256, ``now_ms`` the wall clock, ``random_bits`` 64 of them.

    Only the random bits make it unique. A clock that is wrong or jumps back costs nothing but the order; one outside
    of 1970 to 10889 counts as the nearer end, so that the form stays.
    """
    if not 0 <= now_ms <= _TIME_MAX_MS:
        now_ms = min(max(now_ms, 0), _TIME_MAX_MS)
    return ChunkId(f"{_TIMED}{now_ms:012x}{random_bits:016x}.{digest.hex()}")


def chunk_time(now_ms: int) -> str:
    """Return the beginning of ids made at this time; it sorts after all ids made earlier."""
    return f"{_TIMED}{min(max(now_ms, 0), _TIME_MAX_MS):012x}"


def chunk_digest(chunk: ChunkId) -> bytes:
    """The SHA-256 of the chunk's plain bytes."""
    return bytes.fromhex(chunk_digest_hex(chunk))


def chunk_digest_hex(chunk: ChunkId) -> str:
    """The same as 64 hex digits: what placement goes by."""
    return chunk[-_DIGEST_DIGITS:] if chunk[0] == _TIMED else chunk[:_DIGEST_DIGITS]


def piece_name(chunk: ChunkId, number: int) -> PieceName:
    """Name piece ``number`` (from 0) of a chunk."""
    return PieceName(f"{chunk}.{number}")


def piece_parts(piece: PieceName) -> tuple[ChunkId, int]:
    """The chunk and the number of a piece; raises BadName if the name is not one of ours."""
    chunk, dot, number = piece.rpartition(".")
    if not dot or not number.isascii() or not number.isdigit() or len(number) > 3:
        raise BadName(f"{piece[:90]!r} is not the name of a chunk's piece")
    return parse_chunk(chunk), int(number)


def is_request_id(text: str) -> bool:
    """Return whether a client may use this id for its request: it must not look like anything else in a log."""
    return _REQUEST.fullmatch(text) is not None


def are_request_ids(text: str) -> bool:
    """Return whether these are the ids of one or several requests, comma-separated."""
    return _REQUESTS.fullmatch(text) is not None
