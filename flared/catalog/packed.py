"""Packed rows: a small object's manifest and the record of its only chunk in one row, as bytes.

    row       = mark chunk sizes times codec lengths etag type placement *field       numbers are big-endian
    mark      = %x02 | %x03           3: the chunk has a record of its own, because a copy shares it; no placement
    chunk     = 46OCTET               of its id: time and random bits, which are the row's alias (14), the digest (32)
    sizes     = u32 u32               plain; after the codec
    times     = i64 f64               version, ms; modified, s
    codec     = u8
    lengths   = u8 u16 u16            of etag, type and placement
    placement = scheme *node          each a u8 of length, then so many bytes; an empty node: none yet
    field     = tag length *OCTET     tag u8, length u32
    tag       = %x01 | %x02 | ...     1: user metadata, JSON; 2: a byte for each piece that is known missing;
                                      3: details, JSON (``details``)

Fields with other tags are kept as they are, whatever else of the row changes. When the object goes, its row is moved to
the key of the chunk's garbage item, without what only the object had: so the chunk has a record until it is condemned.
"""

from __future__ import annotations

import json
import struct
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from flared.meta.alias import ALIAS_BYTES, ALIASED
from flared.names import ChunkId, NodeName

if TYPE_CHECKING:
    from flared.meta.kv import Snapshot

ALONE = b"\x03"
"""The mark of a row whose chunk has a record of its own."""
MARKS = (ALIASED, ALONE)

CHUNK_ALIASES_END = b"\xff" * ALIAS_BYTES

_HEAD = struct.Struct(">c46sIIqdBBHH")
_FIELD = struct.Struct(">BI")
_SIZES = struct.Struct(">II")
_SIZES_AT = 1 + 46
_ID_END = 1 + 46
_GENERATION_DIGITS = 2 * ALIAS_BYTES
_TIMED = "t"
_USER = 1
_MISSING = 2
_DETAILS = 3

Nodes = tuple[NodeName | None, ...]


class Packed(NamedTuple):
    """The content of a row."""

    chunk: ChunkId
    size: int
    """Plain bytes, of the chunk and of the object."""
    stored: int
    """Bytes after the codec, before the scheme."""
    version: int
    modified: float
    codec: int
    etag: str
    content_type: str
    scheme: str
    nodes: Nodes
    user: dict[str, str]
    missing: tuple[int, ...]
    alone: bool
    """The chunk has a record of its own: codec, scheme, nodes and missing pieces stand there."""
    details: bytes = b""
    """Not decoded; empty if the object has none."""


def encode(
    chunk: ChunkId,
    size: int,
    stored: int,
    version: int,
    modified: float,
    codec: int,
    etag: str,
    content_type: str,
    scheme: str,
    nodes: Nodes,
    user: dict[str, str],
    missing: tuple[int, ...],
    details: bytes = b"",
) -> bytes:
    """Return the row of a packed object."""
    tag, kind, placement = etag.encode(), content_type.encode(), _encode_placement(scheme, nodes)
    head = _HEAD.pack(
        ALIASED, _id_bytes(chunk), size, stored, version, modified, codec, len(tag), len(kind), len(placement)
    )
    fields = _field(_USER, json.dumps(user, separators=(",", ":")).encode()) if user else b""
    if missing:
        fields += _field(_MISSING, bytes(missing))
    if details:
        fields += _field(_DETAILS, details)
    return head + tag + kind + placement + fields


def decode(value: bytes) -> Packed:
    """Raises what a record that is not one of ours makes a decoder raise (``records.UNDECODABLE``)."""
    mark, identity, size, stored, version, modified, codec, tag, kind, placement = _unpack(value)
    type_at = _HEAD.size + tag
    placement_at = type_at + kind
    end = placement_at + placement
    scheme, nodes = _decode_placement(value[placement_at:end])
    user: dict[str, str] = {}
    missing: tuple[int, ...] = ()
    details = b""
    if len(value) != end:
        if len(value) < end:
            raise ValueError("it is cut short")
        for number, content in _fields(value, end):
            if number == _USER:
                user = json.loads(content)
            elif number == _MISSING:
                missing = tuple(content)
            elif number == _DETAILS:
                details = content
    digits = identity.hex()
    return Packed(
        ChunkId(f"{_TIMED}{digits[:_GENERATION_DIGITS]}.{digits[_GENERATION_DIGITS:]}"),
        size,
        stored,
        version,
        modified,
        codec,
        value[_HEAD.size : type_at].decode(),
        value[type_at:placement_at].decode(),
        scheme,
        nodes,
        user,
        missing,
        mark == ALONE,
        details,
    )


def placed(value: bytes, nodes: Nodes, missing: tuple[int, ...]) -> bytes:
    """Return the row with other nodes and missing pieces; what a client sees of the object stays."""
    mark, identity, size, stored, version, modified, codec, tag, kind, placement = _unpack(value)
    placement_at = _HEAD.size + tag + kind
    scheme, _ = _decode_placement(value[placement_at : placement_at + placement])
    new = _encode_placement(scheme, nodes)
    kept = b"".join(
        _field(number, content) for number, content in _fields(value, placement_at + placement) if number != _MISSING
    )
    head = _HEAD.pack(mark, identity, size, stored, version, modified, codec, tag, kind, len(new))
    lacking = _field(_MISSING, bytes(missing)) if missing else b""
    return head + value[_HEAD.size : placement_at] + new + kept + lacking


def alone(value: bytes) -> bytes:
    """Return the row of the object when its chunk has got a record of its own."""
    _, identity, size, stored, version, modified, codec, tag, kind, placement = _unpack(value)
    placement_at = _HEAD.size + tag + kind
    kept = b"".join(
        _field(number, content) for number, content in _fields(value, placement_at + placement) if number != _MISSING
    )
    head = _HEAD.pack(ALONE, identity, size, stored, version, modified, codec, tag, kind, 0)
    return head + value[_HEAD.size : placement_at] + kept


def described(value: bytes, details: bytes) -> bytes:
    """Return the row with other details, or none; all else stays, and so does what is not known of it."""
    _, _, _, _, _, _, _, tag, kind, placement = _unpack(value)
    end = _HEAD.size + tag + kind + placement
    kept = b"".join(_field(number, content) for number, content in _fields(value, end) if number != _DETAILS)
    return value[:end] + kept + (_field(_DETAILS, details) if details else b"")


def find(snapshot: Snapshot, chunk: ChunkId) -> tuple[bytes, bytes] | None:
    """The key and the value of the row that holds the record of the chunk, if it is packed."""
    if chunk[0] != _TIMED:  # no chunk with an id of format 1 was ever packed
        return None
    found = snapshot.find(alias_of_chunk(chunk))
    return found if found is not None and found[1][1:_ID_END] == _id_bytes(chunk) else None


def is_packed(value: bytes) -> bool:
    """Return whether a row holds the record of a chunk."""
    return value[:1] == ALIASED


def size_of(value: bytes) -> int:
    """The plain size, without decoding the rest; 0 where that cannot be read."""
    return _read_sizes(value)[0]


def stored_of(value: bytes) -> int:
    """The size after the codec, likewise."""
    return _read_sizes(value)[1]


def alias_of_chunk(chunk: ChunkId) -> bytes:
    """The alias of the row that holds the record of the chunk, if it is packed. Aliases order as ids do."""
    return bytes.fromhex(chunk[1:29])


def first_alias(position: str) -> bytes:
    """The first alias at or behind a position in the order of chunk ids: an id, or what ids begin with."""
    if position < _TIMED:
        return b""  # ids of format 1 order before all others
    if position[0] > _TIMED:
        return CHUNK_ALIASES_END
    return bytes.fromhex(position[1:29])


def _id_bytes(chunk: ChunkId) -> bytes:
    return bytes.fromhex(chunk[1:29] + chunk[30:])


def _unpack(value: bytes) -> tuple[bytes, bytes, int, int, int, float, int, int, int, int]:
    head = _HEAD.unpack_from(value)
    if head[0] not in (ALIASED, ALONE):
        raise ValueError(f"its format is {value[:1]!r}")
    return head


def _read_sizes(value: bytes) -> tuple[int, int]:
    try:
        return _SIZES.unpack_from(value, _SIZES_AT)
    except struct.error:
        return 0, 0


def _field(tag: int, content: bytes) -> bytes:
    return _FIELD.pack(tag, len(content)) + content


def _fields(value: bytes, position: int) -> list[tuple[int, bytes]]:
    fields = []
    while position < len(value):
        tag, length = _FIELD.unpack_from(value, position)
        position += _FIELD.size + length
        if position > len(value):
            raise ValueError(f"its field {tag} is longer than the rest of it")
        fields.append((tag, value[position - length : position]))
    return fields


@lru_cache(4096)  # a cluster has few sets of nodes, and every put encodes one of them
def _encode_placement(scheme: str, nodes: Nodes) -> bytes:
    names = [name.encode() for name in (scheme, *(node or "" for node in nodes))]
    return b"".join(bytes((len(name),)) + name for name in names)


@lru_cache(4096)
def _decode_placement(data: bytes) -> tuple[str, Nodes]:
    names = []
    position = 0
    while position < len(data):
        end = position + 1 + data[position]
        if end > len(data):
            raise ValueError("its placement is longer than it says")
        names.append(data[position + 1 : end].decode())
        position = end
    if not names:
        return "", ()
    return names[0], tuple(NodeName(name) if name else None for name in names[1:])
