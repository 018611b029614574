from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flared.data.pieces import BLOCK_SIZE, LARGE_SIZE, Piece, describe_piece
from flared.data.transport import wire
from flared.errors import (
    BadRange,
    BadRequest,
    RemoteProtocolError,
)
from flared.http.messages import encode_fields

names = st.text("abcXYZ019._-", max_size=199).map("n".__add__)
schemes = st.sampled_from(["", "replica:1", "rs:6+3", "fifteen_letters"])


@st.composite
def items(draw: st.DrawFn) -> tuple[Piece, bytes]:
    payload = draw(st.binary(max_size=300))
    piece = describe_piece(
        draw(names),
        payload,
        codec=draw(st.integers(0, 255)),
        scheme=draw(schemes),
        plain_size=draw(st.integers(0, 2**32 - 1)),
    )
    return piece, payload


def item(name: str = "a", payload: bytes = b"hello") -> tuple[Piece, bytes]:
    return describe_piece(name, payload, codec=1, scheme="replica:3", plain_size=99), payload


def pack(batch: list[tuple[Piece, bytes]]) -> bytes:
    return wire.pack_pieces([piece for piece, _ in batch], [payload for _, payload in batch])


@given(st.lists(items(), max_size=8))
def test_what_is_packed_is_parsed(batch: list[tuple[Piece, bytes]]) -> None:
    packed = pack(batch)
    assert wire.parse_pieces(packed) == batch
    assert [(piece, bytes(view)) for piece, view in wire.parse_pieces(memoryview(packed))] == batch


@given(st.lists(st.one_of(items(), st.sampled_from([404, 206, 503])), max_size=8))
def test_answers_come_back_in_order(answers: list[tuple[Piece, bytes] | int]) -> None:
    asked = [f"missing-{i}" if isinstance(answer, int) else answer[0].name for i, answer in enumerate(answers)]
    assert wire.parse_answers(wire.pack_answers(asked, answers), asked) == answers


@given(st.binary(max_size=400))
def test_anything_else_is_refused_and_never_breaks_the_parser(body: bytes) -> None:
    for parse in (wire.parse_pieces, wire.parse_names):
        with suppress(BadRequest):
            parse(body)


@given(st.lists(items(), min_size=1, max_size=4), st.data())
def test_a_batch_cut_short_is_refused(batch: list[tuple[Piece, bytes]], data: st.DataObject) -> None:
    packed = pack(batch)
    cut = data.draw(st.integers(0, len(packed) - 1))
    with pytest.raises(BadRequest):
        wire.parse_pieces(packed[:cut])


def test_an_answer_to_another_question_is_refused() -> None:
    packed = wire.pack_answers(["a"], [item("a")])
    with pytest.raises(RemoteProtocolError):
        wire.parse_answers(packed, ["b"])
    with pytest.raises(RemoteProtocolError):
        wire.parse_answers(packed, ["a", "b"])
    with pytest.raises(RemoteProtocolError):
        wire.parse_answers(packed + b"x", ["a"])


def test_a_batch_has_no_more_records_than_allowed() -> None:
    batch = [item(f"a{i}", b"") for i in range(wire.RECORDS_MAX + 1)]
    assert len(wire.parse_pieces(pack(batch[:-1]))) == wire.RECORDS_MAX
    with pytest.raises(BadRequest):
        wire.parse_pieces(pack(batch))
    with pytest.raises(BadRequest):
        wire.parse_names(wire.pack_names([piece.name for piece, _ in batch]))


@given(st.lists(names, max_size=20))
def test_names_come_back(asked: list[str]) -> None:
    assert wire.parse_names(wire.pack_names(asked)) == asked


@pytest.mark.parametrize(
    "body", [b"a", b"a\n\n", b"../x\n", b".a\n", b"a b\n", b"a\r\n", b"x" * 201 + b"\n", b"\xc3\xa4\n"]
)
def test_a_bad_name_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        wire.parse_names(body)


@given(st.lists(st.integers(0, 999), max_size=wire.RECORDS_MAX))
def test_statuses_come_back(codes: list[int]) -> None:
    packed = wire.pack_statuses(codes)
    assert list(wire.parse_statuses(packed, len(codes))) == codes
    with pytest.raises(RemoteProtocolError):
        wire.parse_statuses(packed, len(codes) + 1)


@pytest.mark.parametrize("size", [0, 1, LARGE_SIZE, BLOCK_SIZE, BLOCK_SIZE + 1, 3 * BLOCK_SIZE])
def test_a_single_piece_travels_in_fields(size: int) -> None:
    piece = describe_piece("a.b", bytes(size), codec=1, scheme="rs:6+3", plain_size=3 * size)
    fields = dict(wire.piece_fields(piece))
    assert wire.says_piece(fields)
    assert wire.piece_lines(piece) == encode_fields(wire.piece_fields(piece))
    assert wire.parse_piece_fields(fields, "a.b", size) == piece
    assert wire.parse_piece_fields(fields, "a.b") == piece


@pytest.mark.parametrize(
    "change",
    [
        {"x-flare-piece": "other"},
        {"x-flare-size": "4"},
        {"x-flare-checksum": "ff"},
        {"x-flare-checksum": "FF" * 16},
        {"x-flare-blocks": ""},
        {"x-flare-codec": "256"},
        {"x-flare-codec": "-1"},
        {"x-flare-plain-size": "1" * 11},
        {"x-flare-scheme": "longer than fifteen"},
    ],
)
def test_fields_that_contradict_the_piece_are_refused(change: dict[str, str]) -> None:
    fields = dict(wire.piece_fields(item("a.b")[0])) | change
    with pytest.raises(BadRequest):
        wire.parse_piece_fields(fields, "a.b", 5)


@pytest.mark.parametrize(
    ("field", "found"),
    [
        (None, None),
        ("bytes=0-", (0, 10)),
        ("bytes=3-5", (3, 6)),
        ("bytes=3-99", (3, 10)),
        ("bytes=-4", (6, 10)),
        ("bytes=-40", (0, 10)),
        ("bytes=5-3", None),
        ("bytes=-", None),
        ("bytes=0-1,4-5", None),
        ("lines=0-1", None),
    ],
)
def test_range(field: str | None, found: tuple[int, int] | None) -> None:
    assert wire.parse_range(field, 10) == found


@pytest.mark.parametrize("field", ["bytes=10-", "bytes=99-", "bytes=-0", "bytes=99-100"])
def test_a_range_beyond_the_piece(field: str) -> None:
    with pytest.raises(BadRange):
        wire.parse_range(field, 10)
