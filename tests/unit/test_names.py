"""Ids of chunks: their order is that of time, both forms are read, nothing else is."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flared.errors import BadName
from flared.names import (
    PieceName,
    chunk_digest,
    chunk_digest_hex,
    chunk_id,
    chunk_time,
    parse_chunk,
    parse_piece,
    piece_name,
    piece_parts,
)
from tests.support.old_ids import old_chunk_id

TIMES = st.integers(0, (1 << 48) - 1)
BITS = st.integers(0, (1 << 64) - 1)
DIGESTS = st.binary(min_size=32, max_size=32)


@given(DIGESTS, st.integers(-(1 << 60), 1 << 60), BITS, st.integers(0, 999))
def test_an_id_is_read_back_and_harmless_with_any_clock(digest: bytes, now: int, bits: int, piece: int) -> None:
    chunk = chunk_id(digest, now, bits)
    assert parse_chunk(chunk) == chunk
    assert (len(chunk), chunk_digest(chunk), chunk_digest_hex(chunk)) == (94, digest, digest.hex())
    name = piece_name(chunk, piece)
    assert parse_piece(name) == name
    assert piece_parts(name) == (chunk, piece)


@given(st.tuples(DIGESTS, TIMES, BITS), st.tuples(DIGESTS, TIMES, BITS))
def test_the_order_of_ids_is_the_order_of_their_times(one: tuple[bytes, int, int], two: tuple[bytes, int, int]) -> None:
    first, second = chunk_id(*one).encode(), chunk_id(*two).encode()
    if one[1] != two[1]:
        assert (first < second) == (one[1] < two[1])
    assert (first == second) == (one == two)
    assert chunk_time(one[1]).encode() <= first < chunk_time(one[1] + 1).encode() or one[1] == (1 << 48) - 1


@given(DIGESTS, BITS, TIMES)
def test_an_older_id_is_read_and_comes_before_all_others(digest: bytes, generation: int, now: int) -> None:
    old = old_chunk_id(digest, generation)
    assert parse_chunk(old) == old
    assert (chunk_digest(old), chunk_digest_hex(old)) == (digest, digest.hex())
    assert piece_parts(piece_name(old, 7)) == (old, 7)
    assert old.encode() < chunk_id(digest, now, generation).encode()


GOOD = chunk_id(hashlib.sha256(b"").digest(), 1_700_000_000_000, 1)


@pytest.mark.parametrize(
    "text",
    ["", "t", GOOD[1:], GOOD + "0", GOOD[:-1], GOOD.upper(), "u" + GOOD[1:], GOOD.replace(".", "-"), GOOD + "\n"],
)
def test_nothing_else_is_an_id(text: str) -> None:
    with pytest.raises(BadName, match="is not a chunk id"):
        parse_chunk(text)
    with pytest.raises(BadName):
        piece_parts(PieceName(text + ".0"))
