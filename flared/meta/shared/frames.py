"""Frames: what the owner of the metadata and a follower say to each other, packed and checked. Pure.

    frame    u32 length of what follows the kind | u8 kind | payload                    (little-endian)
    HELLO    u16 PROTOCOL | u32 length, JSON: first frame of both ends
    COMMITS  u32 count, each:  u64 id | u8 flags | u32 count of (key, i64 version that it must have, 0: not there)
             | u32 count of (key, u8 1 and value, or u8 0: delete) | u32 count of notes (key, i64 before, i64 after)
    ANSWERS  u32 count, each:  u64 id | u8 outcome | text
    all else JSON

A key, a value and a text are a u32 length and its bytes. Both ends are of one version (HELLO says so), therefore any
frame that does not parse is the end of the connection: BadFrame.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

PROTOCOL = 1
FRAME_BYTES_MAX = 64 * 1024 * 1024
HEAD = struct.Struct("<IB")

RECLAIMS = 1
"""The flag of a commit that leads to space coming back (``Transaction.reclaim``)."""


class Kind(IntEnum):
    HELLO = 1
    COMMITS = 2
    ANSWERS = 3
    PING = 4
    """The owner's; a number that PONG returns, after all that the follower had to say."""
    PONG = 5
    STATE = 6
    """The owner's: health of the metadata, and the data nodes."""
    PINS = 7
    """A follower's: chunks and extents that it began or ceased to read or to write, and puts that it gave up."""
    FOUND = 8
    """A follower's: damaged pieces, damaged rows, chunks recorded with pieces missing."""
    COUNTS = 9
    """A follower's: what /metrics sums."""
    RELOAD = 10
    """The owner's: the settings have changed."""
    STOP = 11
    """The owner's: finish what runs, then end."""


class Outcome(IntEnum):
    DONE = 0
    CONFLICT = 1
    """A version is not the one that was read: decide again."""
    ERROR = 2
    """The text is the name of the error, a line feed, and its message."""


class BadFrame(Exception):
    """A frame is not valid in this protocol: the other end is broken."""


class Commit(NamedTuple):
    """A follower's decision, to be applied if the keys still have the versions that it read."""

    id: int
    expected: dict[bytes, int]
    writes: dict[bytes, bytes | None]
    notes: list[tuple[bytes, int, int]]
    reclaims: bool


class Answer(NamedTuple):
    id: int
    outcome: Outcome
    text: str = ""


_U32 = struct.Struct("<I")
_COMMIT = struct.Struct("<QB")
_VERSION = struct.Struct("<q")
_NOTE = struct.Struct("<qq")


def _pack_bytes(data: bytes, parts: list[bytes]) -> None:
    parts.append(_U32.pack(len(data)))
    parts.append(data)


def pack_commit(commit: Commit) -> bytes:
    """Return one entry of a COMMITS frame."""
    parts = [_COMMIT.pack(commit.id, RECLAIMS if commit.reclaims else 0), _U32.pack(len(commit.expected))]
    for key, version in commit.expected.items():
        _pack_bytes(key, parts)
        parts.append(_VERSION.pack(version))
    parts.append(_U32.pack(len(commit.writes)))
    for key, value in commit.writes.items():
        _pack_bytes(key, parts)
        parts.append(b"\0" if value is None else b"\1")
        if value is not None:
            _pack_bytes(value, parts)
    parts.append(_U32.pack(len(commit.notes)))
    for key, before, after in commit.notes:
        _pack_bytes(key, parts)
        parts.append(_NOTE.pack(before, after))
    return b"".join(parts)


def pack_list(entries: list[bytes]) -> bytes:
    """Return a payload of entries that are packed already."""
    return _U32.pack(len(entries)) + b"".join(entries)


def pack_answer(answer: Answer) -> bytes:
    """Return one entry of an ANSWERS frame."""
    text = answer.text.encode()
    return _COMMIT.pack(answer.id, answer.outcome) + _U32.pack(len(text)) + text


def unpack_commits(payload: bytes) -> list[Commit]:
    """Return the commits of a frame. Raises BadFrame."""
    reader = _Reader(payload)
    commits = []
    for _ in range(reader.count()):
        number, flags = reader.unpack(_COMMIT)
        if flags not in (0, RECLAIMS):
            raise BadFrame(f"the flags of a commit are {flags}")
        expected: dict[bytes, int] = {}
        for _ in range(reader.count()):
            key = reader.bytes()
            (expected[key],) = reader.unpack(_VERSION)
        writes: dict[bytes, bytes | None] = {}
        for _ in range(reader.count()):
            key = reader.bytes()
            writes[key] = reader.bytes() if reader.flag() else None
        notes = []
        for _ in range(reader.count()):
            key = reader.bytes()
            before, after = reader.unpack(_NOTE)
            notes.append((key, before, after))
        commits.append(Commit(number, expected, writes, notes, bool(flags)))
    reader.finish()
    return commits


def unpack_answers(payload: bytes) -> list[Answer]:
    """Return the answers of a frame. Raises BadFrame."""
    reader = _Reader(payload)
    answers = []
    for _ in range(reader.count()):
        number, outcome = reader.unpack(_COMMIT)
        try:
            answers.append(Answer(number, Outcome(outcome), reader.bytes().decode()))
        except ValueError as error:
            raise BadFrame(f"an answer is wrong: {error}") from None
    reader.finish()
    return answers


class _Reader:
    """Takes values off a payload; never more than is there."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._at = 0

    def unpack(self, form: struct.Struct) -> tuple[int, ...]:
        end = self._at + form.size
        if end > len(self._payload):
            raise BadFrame("a frame ends too early")
        values = form.unpack_from(self._payload, self._at)
        self._at = end
        return values

    def count(self) -> int:
        """Return how many entries follow: each has at least one byte, so no number makes us take memory for it."""
        (count,) = self.unpack(_U32)
        if count > len(self._payload) - self._at:
            raise BadFrame(f"a frame of {len(self._payload)} bytes announces {count} entries")
        return count

    def bytes(self) -> bytes:
        length = self.count()
        data = self._payload[self._at : self._at + length]
        self._at += length
        return data

    def flag(self) -> bool:
        if self._at >= len(self._payload):
            raise BadFrame("a frame ends too early")
        value = self._payload[self._at]
        self._at += 1
        if value > 1:
            raise BadFrame(f"a flag has the value {value}")
        return bool(value)

    def finish(self) -> None:
        if self._at != len(self._payload):
            raise BadFrame(f"a frame has {len(self._payload) - self._at} bytes too many")
