from __future__ import annotations

import random
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flared.chunks.codec import FRAME_SIZE, check_stored, decode, decode_frames, encode, head_size, parse_frames
from flared.data.pieces import CODEC_LZ4, CODEC_LZ4_BLOCKS, CODEC_PLAIN
from flared.errors import PieceCorrupt


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
    codec, stored = encode(plain, compress=True)
    assert codec == CODEC_LZ4_BLOCKS
    assert bytes(decode(codec, stored, len(plain))) == plain


@given(st.integers(3 * FRAME_SIZE - 5, 4 * FRAME_SIZE), st.integers(0, 255), st.sampled_from([0, 3]))
@settings(max_examples=30)
def test_large_chunks_are_coded_in_frames_that_decode_by_themselves(size: int, fill: int, noisy: int) -> None:
    """One of them is random, and is kept as it is."""
    parts = [bytes([fill, 7]) * (FRAME_SIZE // 2) for _ in range(4)]
    parts[noisy] = random.Random(size).randbytes(FRAME_SIZE)
    plain = b"".join(parts)[:size]
    codec, stored = encode(plain, compress=True)
    assert codec == CODEC_LZ4_BLOCKS
    view = memoryview(stored)
    frames = parse_frames(view[: head_size(size)], len(view), size)
    check_stored(codec, stored, size)
    got = b""
    for frame in frames:
        scratch = memoryview(bytearray(frame.plain_size))
        decode_frames([frame], view[frame.start : frame.end], frame.start, scratch)
        got += bytes(scratch)
    assert got == plain


@given(st.data())
@settings(max_examples=200)
def test_no_changed_byte_of_a_framed_chunk_decodes_unseen(data: st.DataObject) -> None:
    plain = b"the same words again " * 30_000
    codec, stored = encode(plain, compress=True)
    changed = bytearray(stored)
    near = data.draw(st.sampled_from([(0, head_size(len(plain))), (0, len(stored))]))
    changed[data.draw(st.integers(near[0], near[1] - 1))] ^= data.draw(st.integers(1, 255))
    with suppress(PieceCorrupt):
        assert bytes(decode(codec, bytes(changed), len(plain))) == plain  # LZ4 has several codes for the same bytes


@given(st.integers(0, 2**32 - 1), st.binary(max_size=100))
def test_a_size_that_lies_is_refused_before_memory_is_given_for_it(size: int, rest: bytes) -> None:
    with pytest.raises(PieceCorrupt):
        decode(CODEC_LZ4, size.to_bytes(4, "little") + rest, size ^ 1)


@pytest.mark.parametrize(
    ("codec", "stored"),
    [(CODEC_PLAIN, b"abc"), (CODEC_LZ4, b""), (CODEC_LZ4, b"\4\0\0\0xx"), (CODEC_LZ4_BLOCKS, b"FlB1"), (9, b"abcd")],
)
def test_what_cannot_be_decoded_is_damage(codec: int, stored: bytes) -> None:
    with pytest.raises(PieceCorrupt):
        decode(codec, stored, 4)
