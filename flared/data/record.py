"""The segment format: every record can be verified alone, wherever a reader found it.

    segment  := head record*                     one file, append-only; the name of the file is {id:016x}.{kind}
    head     := fixed source* zero*              4096 bytes
    fixed    := "FlSg" format:u8 kind:u8 sources:u16 check:u64 id:u64 salt:u64 volume:16
    kind     := 1 small (records follow each other, 8-byte aligned)
              | 2 large (header and payload each begin at a multiple of 4096)
    source   := id:u64                           segments whose living records this one was made of (compaction)
    check    := xxh3-64 of the head's bytes from 16 on, seed 0

    record   := header zero* payload zero*       zeros up to the alignment of the segment's kind
    header   := "FlRc" length:u32 check:u64 body
    length   := bytes of the header, a multiple of 8
    check    := xxh3-64 of body, seeded with the segment's salt
    body     := format:u8 kind:u8 flags:u8 codec:u8 name_length:u16 blocks:u16
                segment:u64 offset:u64 sequence:u64 plain_size:u64 size:u64 checksum:16 scheme:16 name block* zero*
    kind     := 1 piece      size bytes of payload follow
              | 2 tombstone  every record of this name with a smaller sequence is dead
              | 3 skip       size bytes mean nothing
              | 4 journal    reserved; stepped over
              | 5 quarantine the piece of this name with a smaller sequence is hidden since plain_size, in ms since
                           1970; 0: it is not hidden any more. Of all records of a name the highest sequence counts
    flags    := bit 0: header and payload are aligned to 4096 (segments of kind large)
    checksum := xxh3-128 of the payload, big-endian
    scheme   := ASCII, zero-filled
    block    := xxh3-64 of 256 KiB of the payload, big-endian; the last may be shorter

Integers are little-endian unless said otherwise. The salt is random, so no stored user bytes can pose as a record.
``sequence`` grows over the whole volume; of several records with one name the highest sequence counts. The piece
number is part of the name. Compaction copies a record with its sequence and packs segment, offset and check anew.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import xxhash

from flared.data.pieces import BLOCK_SIZE, Piece
from flared.errors import SegmentCorrupt

if TYPE_CHECKING:
    from collections.abc import Iterable

FORMAT = 1
BLOCK = 4096
"""Unit of O_DIRECT, of holes, and of the heads of segments."""

SMALL = 1
LARGE = 2
KIND_NAMES = {SMALL: "small", LARGE: "large"}

PIECE = 1
TOMBSTONE = 2
SKIP = 3
JOURNAL = 4
QUARANTINE = 5
TORN = 0
"""Never written: the kind in a replay of a piece whose payload is incomplete on the disk, or was punched out."""

ALIGNED = 1
SOURCES_MAX = 400

_PREFIX = struct.Struct("<4sIQ")
_BODY = struct.Struct("<BBBBHHQQQQQ16s16s")
_HEADER = struct.Struct("<4sIQBBBBHHQQQQQ16s16s")
_HEAD = struct.Struct("<4sBBHQQQ16s")
MAGIC = b"FlRc"
_SEGMENT_MAGIC = b"FlSg"
_FIXED = _PREFIX.size + _BODY.size
_ZEROS = tuple(bytes(n) for n in range(8))
_NO_CHECKSUM = bytes(16)
HEADER_MIN = _FIXED
HEADER_MAX = BLOCK


class Record(NamedTuple):
    """The fields of a header."""

    kind: int
    codec: int
    segment: int
    offset: int
    sequence: int
    plain_size: int
    size: int
    checksum: bytes
    scheme: str
    name: str
    blocks: bytes
    payload_offset: int
    """Where the payload begins in the segment."""
    length: int
    """Bytes from this record to the next."""

    def piece(self) -> Piece:
        return Piece(self.name, self.codec, self.scheme, self.plain_size, self.size, self.checksum, self.blocks)


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a segment."""

    id: int
    kind: int
    salt: int
    volume: bytes
    sources: tuple[int, ...] = ()


def pack_head(head: Head) -> bytes:
    """Return the first 4096 bytes of a segment."""
    body = struct.pack(f"<QQ16s{len(head.sources)}Q", head.id, head.salt, head.volume, *head.sources).ljust(
        BLOCK - 16, b"\0"
    )
    check = xxhash.xxh3_64_intdigest(body)
    return struct.pack("<4sBBHQ", _SEGMENT_MAGIC, FORMAT, head.kind, len(head.sources), check) + body


def parse_head(block: bytes | memoryview) -> Head:
    """Parse the head of a segment. Raise SegmentCorrupt if it is not one, or has an unknown format."""
    if len(block) < BLOCK:
        raise SegmentCorrupt("the segment is shorter than its head")
    magic, form, kind, sources, check, segment, salt, volume = _HEAD.unpack_from(block)
    if magic != _SEGMENT_MAGIC or check != xxhash.xxh3_64_intdigest(block[16:BLOCK]):
        raise SegmentCorrupt("the segment's head is damaged, or is not one")
    if form != FORMAT or kind not in KIND_NAMES or sources > SOURCES_MAX:
        raise SegmentCorrupt(f"segment {segment} has format {form}, kind {kind}, which this version does not know")
    return Head(segment, kind, salt, volume, struct.unpack_from(f"<{sources}Q", block, _HEAD.size))


def header_length(name_length: int, size: int) -> int:
    """Return the bytes of a piece's header."""
    return (_FIXED + name_length + 8 * ((size + BLOCK_SIZE - 1) // BLOCK_SIZE) + 7) & ~7


def record_length(kind: int, name_length: int, size: int) -> int:
    """Return the bytes that a piece takes in a segment of this kind."""
    if kind == LARGE:
        return BLOCK + ((size + BLOCK - 1) & -BLOCK)
    return header_length(name_length, size) + ((size + 7) & ~7)


def small_lengths(pieces: Iterable[Piece]) -> list[int]:
    """Return the ``record_length`` of each in a small segment."""
    return [
        ((_FIXED + len(name) + 8 * ((size + BLOCK_SIZE - 1) // BLOCK_SIZE) + 7) & ~7) + ((size + 7) & ~7)
        for name, _, _, _, size, _, _ in pieces
    ]


def padding(size: int) -> bytes:
    """Return the zeros after a payload of this size in a small segment."""
    return _ZEROS[-size & 7]


def pack_piece(piece: Piece, segment: int, offset: int, sequence: int, salt: int, flags: int = 0) -> bytes:
    """Return the header of a piece; its payload follows, at the next block if ``flags`` has ALIGNED."""
    name = piece.name.encode()
    blocks = piece.blocks
    body = _BODY.pack(
        FORMAT, PIECE, flags, piece.codec, len(name), len(blocks) >> 3,
        segment, offset, sequence, piece.plain_size, piece.size, piece.checksum, piece.scheme.encode(),
    ) + name + blocks  # fmt: skip
    body += _ZEROS[-len(body) & 7]
    return _PREFIX.pack(MAGIC, len(body) + 16, xxhash.xxh3_64_intdigest(body, salt)) + body


def pack_tombstone(name: str, segment: int, offset: int, sequence: int, salt: int) -> bytes:
    """Return the whole record of a delete (for a small segment)."""
    encoded = name.encode()
    body = _BODY.pack(
        FORMAT, TOMBSTONE, 0, 0, len(encoded), 0, segment, offset, sequence, 0, 0, _NO_CHECKSUM, b""
    ) + encoded  # fmt: skip
    body += _ZEROS[-len(body) & 7]
    return _PREFIX.pack(MAGIC, len(body) + 16, xxhash.xxh3_64_intdigest(body, salt)) + body


def pack_quarantine(name: str, segment: int, offset: int, sequence: int, salt: int, since_ms: int) -> bytes:
    """Return the whole record (for a small segment) that hides a piece from ``since_ms`` on, or with 0 shows it."""
    encoded = name.encode()
    body = _BODY.pack(
        FORMAT, QUARANTINE, 0, 0, len(encoded), 0, segment, offset, sequence, since_ms, 0, _NO_CHECKSUM, b""
    ) + encoded  # fmt: skip
    body += _ZEROS[-len(body) & 7]
    return _PREFIX.pack(MAGIC, len(body) + 16, xxhash.xxh3_64_intdigest(body, salt)) + body


def parse_record(view: memoryview, salt: int, segment: int, offset: int) -> Record | None:
    """Return the record whose header begins ``view``; None if there is no valid header that belongs here."""
    proven = _prove(view, salt, segment, offset)
    if proven is None:
        return None
    _, length, _, _, kind, flags, codec, name_length, blocks, _, _, sequence, plain_size, size, checksum, scheme = (
        proven
    )
    name_end = _FIXED + name_length
    if flags & ALIGNED:
        payload = offset + BLOCK
        whole = BLOCK + ((size + BLOCK - 1) & -BLOCK)
    else:
        payload = offset + length
        whole = length + ((size + 7) & ~7)
    return Record(
        kind, codec, segment, offset, sequence, plain_size, size, checksum, _scheme_text(scheme),
        str(view[_FIXED:name_end], "ascii"), bytes(view[name_end : name_end + 8 * blocks]), payload, whole,
    )  # fmt: skip


def parse_piece(view: memoryview, salt: int, segment: int, offset: int, name: str) -> tuple[Piece, int] | None:
    """Return the piece of this name whose header begins ``view``, and the offset of its payload in the view."""
    proven = _prove(view, salt, segment, offset)
    if proven is None:
        return None
    _, length, _, _, kind, flags, codec, name_length, blocks, _, _, _, plain_size, size, checksum, scheme = proven
    name_end = _FIXED + name_length
    if kind != PIECE or view[_FIXED:name_end].tobytes() != name.encode():
        return None
    block_sums = view[name_end : name_end + 8 * blocks].tobytes()
    fields = (name, codec, _scheme_text(scheme), plain_size, size, checksum, block_sums)
    return tuple.__new__(Piece, fields), BLOCK if flags & ALIGNED else length


@lru_cache(64)
def _scheme_text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode("ascii")


_Fields = tuple[bytes, int, int, int, int, int, int, int, int, int, int, int, int, int, bytes, bytes]


def _prove(view: memoryview, salt: int, segment: int, offset: int) -> _Fields | None:
    """Return the fields of a header if its checksum is right and it belongs here."""
    if len(view) < _FIXED:
        return None
    fields: _Fields = _HEADER.unpack_from(view)
    length = fields[1]
    if fields[0] != MAGIC or length > len(view) or length < _FIXED:
        return None
    if fields[2] != xxhash.xxh3_64_intdigest(view[16:length], salt):
        return None
    if fields[3] != FORMAT or fields[9] != segment or fields[10] != offset:
        return None
    return fields if _FIXED + fields[7] + 8 * fields[8] <= length else None
