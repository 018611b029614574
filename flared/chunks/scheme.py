"""Scheme: how a chunk's stored bytes become pieces, and back from any sufficient set of them.

One code path for every scheme: ``encode`` makes ``pieces`` payloads of one size, any ``needed`` of them suffice, and
``decode`` makes the stored bytes of these. ``replica:N`` is the scheme there is: N equal pieces, any one suffices.
Another one is a class here and a line in ``KINDS``.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from flared.cluster.quorum import write_quorum
from flared.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

REPLICAS_MAX = 9

_REPLICA = re.compile(r"replica:([1-9])")


@dataclass(frozen=True, slots=True)
class Scheme(ABC):
    text: str
    pieces: int
    needed: int
    quorum: int
    """Pieces that must be durable before a put is answered."""

    @abstractmethod
    def encode(self, stored: bytes | memoryview) -> list[bytes | memoryview]:
        """The payloads of piece 0, 1, …, each of ``piece_size(len(stored))`` bytes."""

    @abstractmethod
    def piece_size(self, stored: int) -> int:
        """Bytes of each piece of a chunk with so many stored bytes."""

    @abstractmethod
    def decode(self, payloads: Mapping[int, bytes | memoryview], stored: int) -> bytes | memoryview:
        """The ``stored`` bytes, from exactly ``needed`` verified payloads by piece number."""

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


def _parse_replica(text: str) -> Scheme | None:
    match = _REPLICA.fullmatch(text)
    if match is None:
        return None
    pieces = int(match[1])
    return Replica(text, pieces, needed=1, quorum=write_quorum(pieces, 1))


Parse = Callable[[str], Scheme | None]
KINDS: list[tuple[str, Parse]] = [(f"replica:N with N from 1 to {REPLICAS_MAX}", _parse_replica)]
"""The form of each kind of scheme, and its parser, which returns None for a text of another kind."""


@lru_cache(maxsize=64)
def parse_scheme(text: str) -> Scheme:
    """Parse a scheme such as ``replica:3``; raises BadRequest with what is allowed."""
    for _, parse in KINDS:
        if scheme := parse(text):
            return scheme
    raise BadRequest(f"{text!r} is not a scheme: use {' or '.join(form for form, _ in KINDS)}")
