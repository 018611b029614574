from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flared.chunks.codec import decode, encode
from flared.chunks.scheme import parse_scheme
from flared.data.pieces import CODEC_LZ4, CODEC_PLAIN
from flared.errors import BadRequest, PieceCorrupt


@given(st.binary(max_size=5000) | st.binary(min_size=1, max_size=50).map(lambda part: part * 2000))
def test_what_is_encoded_decodes_to_the_same(plain: bytes) -> None:
    codec, stored = encode(plain, compress=True)
    assert bytes(decode(codec, stored, len(plain))) == plain
    assert codec == CODEC_PLAIN or len(stored) <= len(plain) - len(plain) // 8


def test_text_is_compressed_and_noise_is_not() -> None:
    assert encode(b"the same words again " * 500, compress=True)[0] == CODEC_LZ4
    assert encode(random.Random(1).randbytes(1_000_000), compress=True)[0] == CODEC_PLAIN
    assert encode(b"the same words again " * 500, compress=False)[0] == CODEC_PLAIN


def test_text_after_a_noisy_middle_is_still_tried() -> None:
    noise = random.Random(1).randbytes(1000)
    plain = b"text " * 100_000 + noise + b"text " * 100_000
    assert encode(plain, compress=True)[0] == CODEC_LZ4


@given(st.integers(0, 2**32 - 1), st.binary(max_size=100))
def test_a_size_that_lies_is_refused_before_memory_is_given_for_it(size: int, rest: bytes) -> None:
    with pytest.raises(PieceCorrupt):
        decode(CODEC_LZ4, size.to_bytes(4, "little") + rest, size ^ 1)


@pytest.mark.parametrize(
    ("codec", "stored"), [(CODEC_PLAIN, b"abc"), (CODEC_LZ4, b""), (CODEC_LZ4, b"\4\0\0\0xx"), (9, b"abcd")]
)
def test_what_cannot_be_decoded_is_damage(codec: int, stored: bytes) -> None:
    with pytest.raises(PieceCorrupt):
        decode(codec, stored, 4)


@pytest.mark.parametrize("text", ["replica:0", "replica:10", "replica", "rs:4+2", "", "replica:3 "])
def test_a_scheme_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadRequest):
        parse_scheme(text)


def test_a_scheme_says_what_it_tolerates() -> None:
    scheme = parse_scheme("replica:3")
    assert (scheme.pieces, scheme.needed, scheme.quorum) == (3, 1, 2)
