"""Scheme: how a chunk's stored bytes become pieces, and back from any sufficient set of them.

One code path for every scheme: ``encode`` makes ``pieces`` payloads of one size, any ``needed`` of them suffice, and
``decode`` makes the stored bytes of these.

    replica:N            N equal pieces, any one suffices
    rs:K+M, xor:K+1      K data pieces, each a K-th of the stored bytes (the last ones filled up with zeros), and M
                         pieces of parity (``coding``); any K suffice, and the K data pieces need no arithmetic

Another one is a class here and a line in ``KINDS``.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

from flared.chunks.coding import ALIGNMENT, SPAN, decode_data, encode_parity, open_driver
from flared.cluster.quorum import write_quorum
from flared.data.pieces import LARGE_SIZE
from flared.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

REPLICAS_MAX = 9
DATA_MIN, DATA_MAX = 2, 16
PARITY_MAX = REPLICAS_MAX - 1
"""A small chunk is kept as one copy more than a large one has pieces of parity."""

_REPLICA = re.compile(r"replica:([1-9])")
_CODED = re.compile(r"(rs|xor):([1-9]\d?)\+([1-9])")


@dataclass(frozen=True, slots=True)
class Scheme(ABC):
    text: str
    pieces: int
    needed: int
    quorum: int
    """Pieces that must be durable before a put is answered."""
    systematic: ClassVar[bool] = False
    """The first ``needed`` pieces are the stored bytes, in order."""

    @abstractmethod
    def encode(self, stored: bytes | memoryview) -> list[bytes | memoryview]:
        """The payloads of piece 0, 1, …, each of ``piece_size(len(stored))`` bytes."""

    @abstractmethod
    def piece_size(self, stored: int) -> int:
        """Bytes of each piece of a chunk with so many stored bytes."""

    @abstractmethod
    def decode(self, payloads: Mapping[int, bytes | memoryview], stored: int) -> bytes | memoryview:
        """The ``stored`` bytes, from exactly ``needed`` verified payloads by piece number."""

    def require(self) -> None:
        """Raise Unavailable if this host lacks what coding takes."""
        return

    def for_size(self, size: int) -> Scheme:
        """Return the scheme of a chunk of ``size`` plain bytes, in a bucket that has this one."""
        return self

    def extra_size(self, stored: int) -> int:
        """Bytes that ``encode`` takes for a while, beside the stored ones."""
        return 0

    def gathered_size(self, stored: int) -> int:
        """Bytes of the pieces that a read of the whole chunk gathers."""
        return self.needed * self.piece_size(stored)


@dataclass(frozen=True, slots=True)
class Replica(Scheme):
    def encode(self, stored: bytes | memoryview) -> list[bytes | memoryview]:
        """Replicas share one buffer."""
        return [stored] * self.pieces

    def piece_size(self, stored: int) -> int:
        return stored

    def decode(self, payloads: Mapping[int, bytes | memoryview], stored: int) -> bytes | memoryview:
        (payload,) = payloads.values()
        return payload


@dataclass(frozen=True, slots=True)
class Coded(Scheme):
    systematic: ClassVar[bool] = True

    @property
    def parity(self) -> int:
        return self.pieces - self.needed

    def require(self) -> None:
        open_driver(self.needed, self.parity)

    def for_size(self, size: int) -> Scheme:
        """Small chunks are copied: copies survive the same losses, and one node answers a read."""
        return _replicas(self.parity + 1) if size < LARGE_SIZE else self

    def piece_size(self, stored: int) -> int:
        share = -(-stored // self.needed)
        return -(-share // ALIGNMENT) * ALIGNMENT

    def extra_size(self, stored: int) -> int:
        """Parity, a data piece that is filled up, and a span of all pieces twice."""
        size = self.piece_size(stored)
        return (self.parity + 1) * size + 2 * self.pieces * min(SPAN, size)

    def encode(self, stored: bytes | memoryview) -> list[bytes | memoryview]:
        """Data pieces are views of ``stored``, but for those that are filled up. Raises Unavailable without ISA-L."""
        view, size = memoryview(stored), self.piece_size(len(stored))
        data: list[bytes | memoryview] = []
        for start in range(0, self.needed * size, size):
            part = view[start : start + size]
            data.append(part if len(part) == size else bytes(part).ljust(size, b"\0"))
        return [*data, *encode_parity(data, self.parity)]

    def decode(self, payloads: Mapping[int, bytes | memoryview], stored: int) -> bytes | memoryview:
        """Raises Unavailable without ISA-L, if a data piece lacks."""
        data = dict(payloads)
        if any(number not in payloads for number in range(self.needed)):
            data.update(decode_data(payloads, self.needed, self.parity))
        return memoryview(b"".join(data[number] for number in range(self.needed)))[:stored]


def _parse_replica(text: str) -> Scheme | None:
    match = _REPLICA.fullmatch(text)
    return _replicas(int(match[1])) if match else None


def _replicas(count: int) -> Scheme:
    return Replica(f"replica:{count}", count, needed=1, quorum=write_quorum(count, 1))


def _parse_coded(text: str) -> Scheme | None:
    match = _CODED.fullmatch(text)
    if match is None:
        return None
    data, parity = int(match[2]), int(match[3])
    if not DATA_MIN <= data <= DATA_MAX or parity > PARITY_MAX or (match[1] == "xor" and parity != 1):
        return None
    return Coded(text, data + parity, data, write_quorum(data + parity, data))


Parse = Callable[[str], Scheme | None]
KINDS: list[tuple[str, Parse]] = [
    (f"replica:N with N from 1 to {REPLICAS_MAX}", _parse_replica),
    (f"rs:K+M or xor:K+1 with K from {DATA_MIN} to {DATA_MAX} and M from 1 to {PARITY_MAX}", _parse_coded),
]
"""The form of each kind of scheme, and its parser, which returns None for a text of another kind."""


@lru_cache(maxsize=64)
def parse_scheme(text: str) -> Scheme:
    """Parse a scheme such as ``replica:3``; raises BadRequest with what is allowed."""
    for _, parse in KINDS:
        if scheme := parse(text):
            return scheme
    raise BadRequest(f"{text!r} is not a scheme: use {' or '.join(form for form, _ in KINDS)}")
