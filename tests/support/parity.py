"""A scheme for tests: two halves and their exclusive or, of which any two suffice. Nothing in the rooms knows it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flared.chunks import scheme
from flared.chunks.scheme import Scheme, parse_scheme
from flared.cluster.quorum import write_quorum

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PARITY = "parity:2+1"


@dataclass(frozen=True, slots=True)
class Parity(Scheme):
    def encode(self, stored: bytes | memoryview) -> list[bytes | memoryview]:
        size = self.piece_size(len(stored))
        padded = bytes(stored).ljust(2 * size, b"\0")
        return [padded[:size], padded[size:], _xor(padded[:size], padded[size:])]

    def piece_size(self, stored: int) -> int:
        return -(-stored // 2)

    def decode(self, payloads: Mapping[int, bytes | memoryview], stored: int) -> bytes | memoryview:
        assert len(payloads) == 2
        halves = {number: bytes(payload) for number, payload in payloads.items()}
        for half in (0, 1):
            if half not in halves:
                halves[half] = _xor(halves[1 - half], halves[2])
        return (halves[0] + halves[1])[:stored]


def _xor(one: bytes, other: bytes) -> bytes:
    return (int.from_bytes(one) ^ int.from_bytes(other)).to_bytes(len(one))


@contextmanager
def known_parity() -> Iterator[None]:
    """The scheme exists inside the block."""
    made = Parity(PARITY, 3, 2, write_quorum(3, 2))
    kind = (PARITY, lambda text: made if text == PARITY else None)
    scheme.KINDS.append(kind)
    parse_scheme.cache_clear()
    try:
        yield
    finally:
        scheme.KINDS.remove(kind)
        parse_scheme.cache_clear()
