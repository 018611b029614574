from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flared.data import record
from flared.data.pieces import BLOCK_SIZE, Piece
from flared.data.record import (
    ALIGNED,
    BLOCK,
    LARGE,
    PIECE,
    SMALL,
    SOURCES_MAX,
    TOMBSTONE,
    Head,
    header_length,
    pack_head,
    pack_piece,
    pack_tombstone,
    padding,
    parse_head,
    parse_piece,
    parse_record,
    record_length,
    small_lengths,
)
from flared.errors import SegmentCorrupt

u64 = st.integers(0, 2**64 - 1)
sizes = st.integers(0, 64 << 20)
names = st.text("abcdef0123456789._-", min_size=1, max_size=200)


@st.composite
def pieces(draw: st.DrawFn) -> Piece:
    size = draw(sizes)
    count = -(-size // BLOCK_SIZE)
    return Piece(
        draw(names),
        draw(st.integers(0, 255)),
        draw(st.text("abcrs:+0123456789", max_size=15)),
        draw(u64),
        size,
        draw(st.binary(min_size=16, max_size=16)),
        draw(st.binary(min_size=8, max_size=8)) * count,
    )


@given(st.lists(pieces(), max_size=5))
def test_lengths_of_many_are_those_of_each(some: list[Piece]) -> None:
    assert small_lengths(some) == [record_length(SMALL, len(piece.name), piece.size) for piece in some]


@given(pieces(), u64, u64, u64, u64, st.booleans())
def test_what_is_packed_is_parsed(
    piece: Piece, segment: int, offset: int, sequence: int, salt: int, aligned: bool
) -> None:
    packed = pack_piece(piece, segment, offset, sequence, salt, ALIGNED if aligned else 0)
    assert len(packed) == header_length(len(piece.name), piece.size)
    assert len(packed) <= BLOCK
    assert len(packed) % 8 == 0
    parsed = parse_record(memoryview(packed + b"payload"), salt, segment, offset)
    assert parsed
    assert parsed.piece() == piece
    assert (parsed.kind, parsed.sequence) == (PIECE, sequence)
    assert parsed.length == record_length(LARGE if aligned else SMALL, len(piece.name), piece.size)
    start = BLOCK if aligned else len(packed)
    assert parsed.payload_offset == offset + start
    assert parse_piece(memoryview(packed), salt, segment, offset, piece.name) == (piece, start)
    assert parse_piece(memoryview(packed), salt, segment, offset, piece.name + "x") is None


@given(names, u64, u64, u64, u64)
def test_tombstones_too(name: str, segment: int, offset: int, sequence: int, salt: int) -> None:
    packed = pack_tombstone(name, segment, offset, sequence, salt)
    parsed = parse_record(memoryview(packed), salt, segment, offset)
    assert parsed
    assert (parsed.kind, parsed.name, parsed.sequence, parsed.length) == (TOMBSTONE, name, sequence, len(packed))
    assert parse_piece(memoryview(packed), salt, segment, offset, name) is None


@given(pieces(), st.data())
def test_a_record_that_was_changed_or_moved_proves_nothing(piece: Piece, data: st.DataObject) -> None:
    packed = bytearray(pack_piece(piece, 5, 4096, 7, 99))
    assert parse_record(memoryview(packed), 98, 5, 4096) is None
    assert parse_record(memoryview(packed), 99, 6, 4096) is None
    assert parse_record(memoryview(packed), 99, 5, 4104) is None
    assert parse_record(memoryview(packed)[:-1], 99, 5, 4096) is None
    packed[data.draw(st.integers(0, len(packed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert parse_record(memoryview(packed), 99, 5, 4096) is None


@given(
    u64, st.sampled_from([SMALL, LARGE]), u64, st.binary(min_size=16, max_size=16), st.lists(u64, max_size=SOURCES_MAX)
)
def test_heads(segment: int, kind: int, salt: int, volume: bytes, sources: list[int]) -> None:
    head = Head(segment, kind, salt, volume, tuple(sources))
    packed = pack_head(head)
    assert len(packed) == BLOCK
    assert parse_head(packed) == head
    for at in (0, 5, 8, 20, BLOCK - 1):
        changed = bytearray(packed)
        changed[at] ^= 1
        with pytest.raises(SegmentCorrupt):
            parse_head(bytes(changed))


@given(st.integers(0, 1000))
def test_padding_ends_on_eight(size: int) -> None:
    assert (size + len(padding(size))) % 8 == 0
    assert not any(padding(size))


def test_the_grammar_in_the_documents_is_the_one_in_the_code() -> None:
    document = (Path(__file__).parents[3] / "docs" / "segment-format.md").read_text()
    grammar = textwrap.indent(document.split("```")[1].strip("\n"), "    ", lambda line: bool(line.strip()))
    assert record.__doc__
    assert grammar in record.__doc__
