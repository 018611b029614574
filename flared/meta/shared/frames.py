"""Frames: what the owner of the metadata and a follower say to each other, packed and checked. Pure.

    frame    u32 length of what follows the kind | u8 kind | payload                    (little-endian)
    HELLO    u16 PROTOCOL | u32 length, JSON: first frame of both ends
    COMMITS  u32 count, each:  u64 id | u8 flags | u32 expected | u32 writes | u32 notes | numbers | lengths | bytes
    ANSWERS  u32 count, each:  u64 id | u8 outcome | u32 length | text
    all else JSON

    numbers  the version that each expected key must have, i64, 0: not there; of each note i64 before, i64 after
    lengths  u32 of each expected key; of key and value of each write, 2^32 - 1: delete; of each note's key
    bytes    the keys and values, in the order of their lengths

What has a fixed size lies together, so that two calls take a commit apart, however many keys it has. Both ends are of
one version (HELLO says so), therefore any frame that does not parse is the end of the connection: BadFrame.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

PROTOCOL = 2
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


_COUNT = struct.Struct("<I")
_COMMIT = struct.Struct("<QBIII")
_ANSWER = struct.Struct("<QBI")
_DELETED = 0xFFFF_FFFF
"""Stands for the length of a value that there is none of."""
_OUTCOMES = {int(outcome): outcome for outcome in Outcome}


def pack_commit(commit: Commit) -> bytes:
    """Return one entry of a COMMITS frame."""
    number, expected, writes, notes, reclaims = commit
    numbers = [*expected.values()]
    blobs = [*expected]
    lengths = [*map(len, expected)]
    for key, value in writes.items():
        blobs += (key, value or b"")
        lengths += (len(key), _DELETED if value is None else len(value))
    for key, before, after in notes:
        blobs.append(key)
        lengths.append(len(key))
        numbers += (before, after)
    head = _COMMIT.pack(number, RECLAIMS if reclaims else 0, len(expected), len(writes), len(notes))
    table = _table(len(numbers), len(lengths)).pack(*numbers, *lengths)
    return b"".join([head, table, *blobs])


def pack_list(entries: list[bytes]) -> bytes:
    """Return a payload of entries that are packed already."""
    return _COUNT.pack(len(entries)) + b"".join(entries)


def pack_answer(answer: Answer) -> bytes:
    """Return one entry of an ANSWERS frame."""
    text = answer.text.encode()
    return _ANSWER.pack(answer.id, answer.outcome, len(text)) + text


def unpack_commits(payload: bytes) -> list[Commit]:
    """Return the commits of a frame. Raises BadFrame."""
    commits, at = [], _COUNT.size
    for _ in range(_count(payload)):
        commit, at = _unpack_commit(payload, at)
        commits.append(commit)
    _finish(payload, at)
    return commits


def unpack_answers(payload: bytes) -> list[Answer]:
    """Return the answers of a frame. Raises BadFrame."""
    answers, at = [], _COUNT.size
    for _ in range(_count(payload)):
        if at + _ANSWER.size > len(payload):
            raise BadFrame("a frame ends too early")
        number, code, length = _ANSWER.unpack_from(payload, at)
        at += _ANSWER.size
        outcome = _OUTCOMES.get(code)
        if outcome is None or at + length > len(payload):
            raise BadFrame(f"an answer has the outcome {code} and a text of {length} bytes")
        try:
            text = payload[at : at + length].decode() if length else ""
        except UnicodeDecodeError as error:
            raise BadFrame(f"an answer is wrong: {error}") from None
        at += length
        answers.append(Answer(number, outcome, text))
    _finish(payload, at)
    return answers


def _unpack_commit(payload: bytes, at: int) -> tuple[Commit, int]:
    """Return the commit at ``at``, and where it ends. Nothing is taken that is not there, even if it is announced."""
    if at + _COMMIT.size > len(payload):
        raise BadFrame("a frame ends too early")
    number, flags, keys, writes_count, notes_count = _COMMIT.unpack_from(payload, at)
    at += _COMMIT.size
    if flags not in (0, RECLAIMS):
        raise BadFrame(f"the flags of a commit are {flags}")
    numbers, blobs = keys + 2 * notes_count, keys + 2 * writes_count + notes_count
    end = at + 8 * numbers + 4 * blobs
    if end > len(payload):
        raise BadFrame(f"a frame of {len(payload)} bytes announces {numbers} numbers and {blobs} lengths")
    table = _table(numbers, blobs).unpack_from(payload, at)
    parts: list[bytes | None] = []
    for length in table[numbers:]:
        if length == _DELETED:
            parts.append(None)
        else:
            parts.append(payload[end : end + length])
            end += length
    if end > len(payload):
        raise BadFrame("a frame ends too early")
    expected = dict(zip(parts[:keys], table, strict=False))
    split = keys + 2 * writes_count
    writes = dict(zip(parts[keys:split:2], parts[keys + 1 : split : 2], strict=True))
    notes = list(zip(parts[split:], table[keys:numbers:2], table[keys + 1 : numbers : 2], strict=True))
    if parts.count(None) != [*writes.values()].count(None):
        raise BadFrame("a key is missing, or one is written twice")
    return Commit(number, expected, writes, notes, bool(flags)), end  # type: ignore[arg-type]  # no key is None


@lru_cache(64)
def _table(numbers: int, lengths: int) -> struct.Struct:
    return struct.Struct(f"<{numbers}q{lengths}I")


def _count(payload: bytes) -> int:
    """Return how many entries follow: each has at least one byte, so no number makes us take memory for it."""
    if len(payload) < _COUNT.size:
        raise BadFrame("a frame ends too early")
    (count,) = _COUNT.unpack_from(payload)
    if count > len(payload) - _COUNT.size:
        raise BadFrame(f"a frame of {len(payload)} bytes announces {count} entries")
    return int(count)


def _finish(payload: bytes, at: int) -> None:
    if at != len(payload):
        raise BadFrame(f"a frame has {len(payload) - at} bytes too many")
