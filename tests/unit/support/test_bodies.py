"""Bodies come again from their seed, and no part of them repeats."""

from __future__ import annotations

import pytest

from tests.support.bodies import UNIT_SIZE, Stream, body, digest


def whole(stream: Stream) -> bytes:
    return b"".join(bytes(unit) for unit in stream.units())


@pytest.mark.parametrize("size", [0, 1, UNIT_SIZE - 1, UNIT_SIZE, 3 * UNIT_SIZE + 5])
def test_a_stream_is_the_same_again_and_as_long_as_asked(size: int) -> None:
    content = whole(Stream("seed", size))
    assert len(content) == size
    assert content == whole(Stream("seed", size))
    assert digest(content) == Stream("seed", size).digest()


def test_no_unit_of_a_stream_is_like_another() -> None:
    content = whole(Stream("seed", 8 * UNIT_SIZE))
    blocks = [content[at : at + 4096] for at in range(0, len(content), UNIT_SIZE)]
    assert len(set(blocks)) == len(blocks)
    assert whole(Stream("other", UNIT_SIZE)) != content[:UNIT_SIZE]


def test_bodies_depend_on_their_seed() -> None:
    assert body("a", 100) == body("a", 100)
    assert body("a", 100) != body("b", 100)
