"""Bodies that no store can compress or has seen before, made again at will from a seed."""

from __future__ import annotations

import hashlib
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

UNIT_SIZE = 1024 * 1024


def body(seed: object, size: int) -> bytes:
    """``size`` bytes that depend only on ``seed`` (by its ``str``)."""
    return Random(str(seed)).randbytes(size)


def digest(data: bytes | bytearray | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()


class Stream:
    """A long body, made unit by unit at memory speed; two with one seed and size are equal.

    Units are windows on 2 MiB of noise, numbered: each is unlike every other, and LZ4 (which looks back 64 KiB)
    finds nothing in them.
    """

    def __init__(self, seed: object, size: int) -> None:
        self.size = size
        self._noise = body(seed, 2 * UNIT_SIZE)

    def units(self) -> Iterator[bytearray]:
        """The body in order; each unit is valid until the next one is asked for."""
        unit = bytearray(UNIT_SIZE)
        for number in range(-(-self.size // UNIT_SIZE)):
            start = number * 104729 % UNIT_SIZE
            unit[:] = self._noise[start : start + UNIT_SIZE]
            unit[:8] = number.to_bytes(8, "big")
            left = self.size - number * UNIT_SIZE
            yield unit if left >= UNIT_SIZE else unit[:left]

    def digest(self) -> str:
        whole = hashlib.sha256()
        for unit in self.units():
            whole.update(unit)
        return whole.hexdigest()
