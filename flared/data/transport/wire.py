"""Wire: the format of the calls to a data node in HTTP, for client and server. Pure.

Many small pieces travel in one body. ``POST /chunks/put`` sends a batch and is answered with statuses;
``POST /chunks/get`` sends names and is answered with a batch; ``POST /chunks/delete`` sends names and is answered with
statuses, and so is ``POST /chunks/quarantine``. Answers are in the order asked. Integers are little-endian::

    batch    := count:4 names_size:4 head{count} names payloads
    head     := status:2 codec:1 zero:1 plain_size:4 size:4 checksum:16 block:8 scheme:16
                status: 0 in a put. checksum, block: of ``Piece``; block is zero when size is. scheme: padded with NUL
                when a got record's status is not 200 the rest of its head is zero
    names    := (name LF){count}
    payloads := the stored bytes, one after the other
    statuses := status:2 {count}

The fixed heads lie together, and so do the names, because each is then taken apart by one call for the whole batch.
A piece from LARGE_SIZE on travels alone, as ``PUT /chunk/{name}`` and ``GET /chunk/{name}``, its Piece in fields.
The same text, for people, is in ``docs/chunk-api.md``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from struct import Struct
from typing import TypeVar

from flared.data.pieces import BLOCK_SIZE, LARGE_SIZE, PIECE_SIZE_MAX, SCHEME_BYTES_MAX, Piece
from flared.data.transport.statuses import GOT
from flared.errors import (
    BadRange,
    BadRequest,
    RemoteProtocolError,
    TooLarge,
)
from flared.names import PIECE_NAME_BYTES_MAX

Buffer = bytes | bytearray | memoryview
B = TypeVar("B", bytes, memoryview)
Fields = Sequence[tuple[str, str]]

PATH_ONE = "/chunk/"
PATH_LIST = "/chunks"
WORKING_QUERY = "working"
"""Requests the inventory of the working volumes when some have failed; the answer names those in ``left_out``."""
PATH_PUT = "/chunks/put"
PATH_GET = "/chunks/get"
PATH_DELETE = "/chunks/delete"
PATH_QUARANTINE = "/chunks/quarantine"
QUARANTINED_QUERY = "quarantined"
"""Requests the inventory of the quarantine, which is in no other: [name, size, hidden since in ms]."""

RECORDS_MAX = 512
"""Most records of one batch: their answer is one line of statuses, their sync one sync."""

BATCH_BYTES_MAX = 4 * 1024 * 1024
"""Most payload bytes of one batch: about 2 ms of copying, so that nothing else on the loop waits longer."""

NAMES_BYTES_MAX = RECORDS_MAX * (PIECE_NAME_BYTES_MAX + 1)

LIST_MAX = 10_000
"""Names on one page of the inventory: about a MiB of JSON."""

LIST_BYTES_MAX = LIST_MAX * (PIECE_NAME_BYTES_MAX + 32)

VERIFIES_FIELD = "x-flare-reader-verifies"
"""Sent by readers that check every block themselves; for others the data node does so before it sends."""

PIECE_FIELD = "x-flare-piece"
SIZE_FIELD = "x-flare-size"

_make = tuple.__new__
"""Makes a Piece at half the price of its class; a batch has hundreds."""

_COUNTS = Struct("<II")
_HEAD = Struct("<HBxII16s8s16s")
_ALL_NAMES = re.compile(rb"(?:[A-Za-z0-9][A-Za-z0-9._-]{0,199}\n)*")
_SCHEME = re.compile(rb"[ -~]{0,15}")
_NUMBER = re.compile(r"[0-9]{1,10}")
_HEX = re.compile(r"(?:[0-9a-f]{2})*")
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")

PUT_BODY_BYTES_MAX = _COUNTS.size + RECORDS_MAX * _HEAD.size + NAMES_BYTES_MAX + BATCH_BYTES_MAX
GET_BODY_BYTES_MAX = PUT_BODY_BYTES_MAX


def pack_pieces(pieces: Sequence[Piece], payloads: Sequence[Buffer]) -> bytes:
    """Return the batch that stores these pieces, each smaller than LARGE_SIZE."""
    pack = _HEAD.pack
    heads: list[Buffer] = [
        pack(0, piece.codec, piece.plain_size, piece.size, piece.checksum, piece.blocks, _scheme_bytes(piece.scheme))
        for piece in pieces
    ]
    return _join(heads, [piece.name for piece in pieces], payloads)


def pack_answers(names: Sequence[str], answers: Sequence[tuple[Piece, Buffer] | int]) -> bytes:
    """Return the batch that answers a get: for each name the piece and its bytes, or the status of the failure."""
    pack = _HEAD.pack
    heads: list[Buffer] = []
    payloads: list[Buffer] = []
    for answer in answers:
        if isinstance(answer, int):
            heads.append(pack(answer, 0, 0, 0, b"", b"", b""))
            continue
        (_, codec, scheme, plain_size, size, checksum, blocks), payload = answer
        payloads.append(payload)
        heads.append(pack(GOT, codec, plain_size, size, checksum, blocks, _scheme_bytes(scheme)))
    return _join(heads, names, payloads)


def parse_pieces(body: B) -> list[tuple[Piece, B]]:
    """Parse the batch of ``pack_pieces``; payloads are slices of ``body``. Raise BadRequest if it is not one, TooLarge
    if a piece of it is not small."""
    heads, names, at = _open(body)
    items: list[tuple[Piece, B]] = []
    for (_, codec, plain_size, size, checksum, block, scheme), name in zip(heads, names, strict=True):
        if size >= LARGE_SIZE:
            raise TooLarge(f"a piece in a batch is smaller than {LARGE_SIZE} bytes")
        end = at + size
        fields = (name, codec, _scheme_text(scheme), plain_size, size, checksum, block if size else b"")
        items.append((_make(Piece, fields), body[at:end]))
        at = end
    if at != len(body):
        raise BadRequest("the batch's sizes do not add up to its length")
    return items


def parse_answers(body: bytes, asked: Sequence[str]) -> list[tuple[Piece, bytes] | int]:
    """Parse the batch of ``pack_answers`` for these names. Raise RemoteProtocolError if it is not one."""
    try:
        heads, names, at = _open(body)
        if names != asked:
            raise RemoteProtocolError("the batch answers other names than requested")
        answers: list[tuple[Piece, bytes] | int] = []
        for (status, codec, plain_size, size, checksum, block, scheme), name in zip(heads, names, strict=True):
            if status != GOT:
                answers.append(status)
                continue
            end = at + size
            fields = (name, codec, _scheme_text(scheme), plain_size, size, checksum, block if size else b"")
            answers.append((_make(Piece, fields), body[at:end]))
            at = end
    except BadRequest as error:
        raise RemoteProtocolError(str(error)) from error
    if at != len(body):
        raise RemoteProtocolError("the batch's sizes do not add up to its length")
    return answers


def pack_names(names: Sequence[str]) -> bytes:
    """Return the body that requests these names."""
    return ("\n".join(names) + "\n").encode("ascii") if names else b""


def parse_names(body: bytes) -> list[str]:
    """Parse the body of ``pack_names`` and check each name. Raise BadRequest if it is not one."""
    if not _ALL_NAMES.fullmatch(body):
        raise BadRequest("expected one piece name a line: 1 to 200 of A-Z, a-z, 0-9, '.', '_' and '-'")
    names = body.decode("ascii").split("\n")
    names.pop()
    if len(names) > RECORDS_MAX:
        raise BadRequest(f"{len(names)} records in one batch; at most {RECORDS_MAX} are allowed")
    return names


def parse_page(answer: object) -> tuple[list[tuple[str, int]], tuple[str, ...]] | None:
    """Return names, sizes and failed volumes of one page of the inventory, as JSON has it; None if it is not one."""
    rows = answer.get("pieces") if isinstance(answer, dict) else None
    left_out = answer.get("left_out", []) if isinstance(answer, dict) else None
    if not isinstance(rows, list) or not isinstance(left_out, list):
        return None
    page: list[tuple[str, int]] = []
    for row in rows:
        match row:
            case [str(name), int(size)]:
                page.append((name, size))
            case _:
                return None
    return page, tuple(map(str, left_out))


def pack_statuses(statuses: Sequence[int]) -> bytes:
    return _statuses(len(statuses)).pack(*statuses)


def parse_statuses(body: bytes, count: int) -> tuple[int, ...]:
    """Parse ``count`` statuses. Raise RemoteProtocolError if there are more or fewer."""
    if len(body) != 2 * count:
        raise RemoteProtocolError(f"{len(body)} bytes are not the statuses of {count} records")
    return _statuses(count).unpack(body)


def piece_fields(piece: Piece) -> list[tuple[str, str]]:
    """Return the fields that carry a Piece beside its bytes."""
    return [
        (PIECE_FIELD, piece.name),
        (SIZE_FIELD, str(piece.size)),
        ("x-flare-codec", str(piece.codec)),
        ("x-flare-scheme", piece.scheme),
        ("x-flare-plain-size", str(piece.plain_size)),
        ("x-flare-checksum", piece.checksum.hex()),
        ("x-flare-blocks", piece.blocks.hex()),
    ]


def piece_lines(piece: Piece) -> bytes:
    """As ``piece_fields``, encoded at once: a small GET spends a tenth of its time on them."""
    return (
        f"{PIECE_FIELD}: {piece.name}\r\n{SIZE_FIELD}: {piece.size}\r\nx-flare-codec: {piece.codec}\r\n"
        f"x-flare-scheme: {piece.scheme}\r\nx-flare-plain-size: {piece.plain_size}\r\n"
        f"x-flare-checksum: {piece.checksum.hex()}\r\nx-flare-blocks: {piece.blocks.hex()}\r\n"
    ).encode("ascii")


def says_piece(fields: Mapping[str, str]) -> bool:
    """Return whether the sender of a single piece described it; if not, the data node computes the Piece itself."""
    return "x-flare-checksum" in fields


def parse_piece_fields(fields: Mapping[str, str], name: str, size: int | None = None) -> Piece:
    """Return the Piece in the fields, of this name, and this size if known. Raise BadRequest with what is wrong."""
    if fields.get(PIECE_FIELD, name) != name:
        raise BadRequest(f"{PIECE_FIELD} names another piece than the path")
    said = _number(fields, SIZE_FIELD, size)
    if size is not None and said != size:
        raise BadRequest(f"{SIZE_FIELD} says {said} bytes, the body has {size}")
    blocks = _hex(fields, "x-flare-blocks")
    if said > PIECE_SIZE_MAX or len(blocks) != 8 * -(-said // BLOCK_SIZE):
        raise BadRequest("x-flare-blocks needs 16 hex digits for each 256 KiB of at most 64 MiB")
    checksum = _hex(fields, "x-flare-checksum")
    if len(checksum) != 16:
        raise BadRequest("x-flare-checksum needs 32 hex digits")
    codec = _number(fields, "x-flare-codec", 0)
    plain_size = _number(fields, "x-flare-plain-size", said)
    if codec > 255 or plain_size > 0xFFFFFFFF:
        raise BadRequest("x-flare-codec or x-flare-plain-size is out of bounds")
    return Piece(name, codec, parse_scheme_field(fields), plain_size, said, checksum, blocks)


def parse_scheme_field(fields: Mapping[str, str]) -> str:
    """Return the scheme in the fields, or that of a single piece."""
    scheme = fields.get("x-flare-scheme")
    if scheme is None:
        return "replica:1"
    if not _SCHEME.fullmatch(scheme.encode("utf-8")):
        raise BadRequest("x-flare-scheme is longer than 15 bytes of ASCII")
    return scheme


def parse_range(field: str | None, size: int) -> tuple[int, int] | None:
    """Return start and end of a single ``Range``; None for the whole, also for a field that may be ignored.

    Raise BadRange if no part of it is within ``size``.
    """
    match = _RANGE.fullmatch(field) if field else None
    if match is None or match[1] == match[2] == "":
        return None
    if not match[1]:
        start, end = max(0, size - int(match[2])), size
    elif not match[2]:
        start, end = int(match[1]), size
    else:
        start, end = int(match[1]), min(int(match[2]) + 1, size)
        if int(match[2]) < start:
            return None
    if start >= end:
        raise BadRange("the range is outside the piece", size=size)
    return start, end


Heads = Sequence[tuple[int, int, int, int, bytes, bytes, bytes]]


def _open(body: bytes | memoryview) -> tuple[Heads, list[str], int]:
    """Return the heads and names of a batch, and where its payloads begin."""
    if len(body) < _COUNTS.size:
        raise BadRequest("the batch is shorter than its counts")
    count, names_size = _COUNTS.unpack_from(body)
    names_at = _COUNTS.size + count * _HEAD.size
    at = names_at + names_size
    if count > RECORDS_MAX or at > len(body):
        raise BadRequest(f"the batch is cut short, or has more than {RECORDS_MAX} records")
    names = parse_names(bytes(body[names_at:at]))
    if len(names) != count:
        raise BadRequest("the batch has a different number of names than heads")
    return list(_HEAD.iter_unpack(body[_COUNTS.size : names_at])), names, at


def _join(heads: list[Buffer], names: Sequence[str], payloads: Sequence[Buffer]) -> bytes:
    text = pack_names(names)
    return b"".join([_COUNTS.pack(len(heads), len(text)), *heads, text, *payloads])


@lru_cache(64)
def _scheme_bytes(text: str) -> bytes:
    raw = text.encode("ascii")
    assert len(raw) <= SCHEME_BYTES_MAX
    return raw


@lru_cache(64)
def _scheme_text(raw: bytes) -> str:
    stripped = raw.rstrip(b"\0")
    if not _SCHEME.fullmatch(stripped):
        raise BadRequest("a record's scheme is not at most 15 bytes of ASCII")
    return stripped.decode("ascii")


@lru_cache(RECORDS_MAX)
def _statuses(count: int) -> Struct:
    return Struct(f"<{count}H")


def _number(fields: Mapping[str, str], name: str, otherwise: int | None) -> int:
    text = fields.get(name)
    if text is None and otherwise is not None:
        return otherwise
    if text is None or not _NUMBER.fullmatch(text):
        raise BadRequest(f"{name} is not a number")
    return int(text)


def _hex(fields: Mapping[str, str], name: str) -> bytes:
    text = fields.get(name, "")
    if not _HEX.fullmatch(text):
        raise BadRequest(f"{name} is not lower-case hex")
    return bytes.fromhex(text)


assert LARGE_SIZE <= BLOCK_SIZE  # a head has room for one block's checksum
