"""Schemes: any sufficient set of pieces gives the stored bytes."""

from __future__ import annotations

import random
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flared.chunks import coding
from flared.chunks.coding import SPAN
from flared.chunks.scheme import DATA_MAX, PARITY_MAX, parse_scheme
from flared.data.pieces import LARGE_SIZE
from flared.errors import BadRequest, Unavailable

coded = st.builds(lambda data, parity: f"rs:{data}+{parity}", st.integers(2, DATA_MAX), st.integers(1, PARITY_MAX))
schemes = coded | st.sampled_from(["replica:1", "replica:3", "xor:2+1", "xor:16+1"])


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@settings(deadline=None)
@given(schemes, st.integers(1, 5000) | st.integers(1, 40 * SPAN), st.randoms(use_true_random=False))
def test_any_sufficient_set_of_pieces_gives_the_stored_bytes(text: str, size: int, chance: random.Random) -> None:
    scheme, stored = parse_scheme(text), noise(size)
    pieces = scheme.encode(stored)
    assert len(pieces) == scheme.pieces
    assert {len(piece) for piece in pieces} == {scheme.piece_size(size)}
    chosen = chance.sample(range(scheme.pieces), scheme.needed)
    assert scheme.decode({number: pieces[number] for number in chosen}, size) == stored


@pytest.mark.parametrize("size", [1, 63, 64, 257, 8 * SPAN, 8 * SPAN + 1, 5 * SPAN - 64])
def test_every_loss_of_two_of_six(size: int) -> None:
    scheme, stored = parse_scheme("rs:4+2"), noise(size)
    pieces = dict(enumerate(scheme.encode(stored)))
    for one in range(6):
        for other in range(one):
            kept = {number: piece for number, piece in pieces.items() if number not in (one, other)}
            assert scheme.decode(kept, size) == stored


def test_parity_on_disk_stays_what_it_is() -> None:
    """Pieces written today must be decoded by any later version of the library, and of this code."""
    parity = coding.encode_parity([bytes(range(64)), bytes(range(64, 128)), b"\xff" * 64], 2)
    assert [bytes(piece[:8]).hex() for piece in parity] == PARITY_OF_THREE


PARITY_OF_THREE = ["dfa52b512a50dea4", "16f6cb2bb1516c8c"]


def test_full_data_pieces_are_not_copied() -> None:
    stored = bytearray(noise(4 * 64_000))
    pieces = parse_scheme("rs:4+2").encode(stored)
    assert all(piece.obj is stored for piece in pieces[:4] if isinstance(piece, memoryview))


def test_all_data_pieces_are_joined_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    scheme, stored = parse_scheme("rs:4+2"), noise(1_000_000)
    pieces = scheme.encode(stored)
    coding.open_driver.cache_clear()
    monkeypatch.setitem(sys.modules, "pyeclib.ec_iface", None)
    assert scheme.decode(dict(enumerate(pieces[:4])), len(stored)) == stored
    with pytest.raises(Unavailable, match="python3-pyeclib"):
        scheme.decode(dict(enumerate(pieces[1:5], 1)), len(stored))
    with pytest.raises(Unavailable, match="python3-pyeclib"):
        scheme.encode(stored)
    with pytest.raises(Unavailable, match="python3-pyeclib"):
        scheme.require()


@pytest.mark.parametrize(("text", "quorum"), [("rs:4+2", 5), ("rs:6+3", 8), ("xor:4+1", 5), ("replica:3", 2)])
def test_quorums(text: str, quorum: int) -> None:
    assert parse_scheme(text).quorum == quorum


@pytest.mark.parametrize(
    ("text", "copies"), [("rs:4+2", "replica:3"), ("xor:4+1", "replica:2"), ("rs:8+8", "replica:9")]
)
def test_small_chunks_are_copied_as_often_as_pieces_may_be_lost(text: str, copies: str) -> None:
    scheme = parse_scheme(text)
    small = scheme.for_size(LARGE_SIZE - 1)
    assert small.text == copies
    assert small.pieces - small.needed == scheme.pieces - scheme.needed
    assert scheme.for_size(LARGE_SIZE) is scheme


@pytest.mark.parametrize(
    "text",
    [
        "",
        "rs",
        "rs:4",
        "rs:1+1",
        "rs:17+1",
        "rs:4+0",
        "rs:4+9",
        "rs:04+2",
        "xor:4+2",
        "rs:4+2 ",
        "raid:5",
        "replica:0",
        "replica:10",
        "replica:3 ",
    ],
)
def test_what_is_not_a_scheme_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="rs:K"):
        parse_scheme(text)


@settings(deadline=None)
@given(coded, st.integers(LARGE_SIZE, 64 * 1024 * 1024))
def test_pieces_are_hardly_larger_than_their_share(text: str, size: int) -> None:
    scheme = parse_scheme(text)
    assert 0 <= scheme.piece_size(size) * scheme.needed - size < 64 * scheme.needed + scheme.needed
