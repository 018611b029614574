"""Scheme: how a chunk's stored bytes become pieces, and back from any sufficient set of them.

One code path for every scheme: ``encode`` makes n pieces, ``needed`` says how many suffice, ``decode`` takes any
that many. ``replica:N`` is the scheme there is: N equal pieces, any one suffices.
"""

from __future__ import annotations

import re
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
class Scheme:
    text: str
    pieces: int
    needed: int
    quorum: int
    """Pieces that must be durable before a put is answered."""

    def encode(self, stored: bytes | memoryview) -> list[bytes | memoryview]:
        """The payloads of piece 0, 1, …; replicas share one buffer."""
        return [stored] * self.pieces

    def decode(self, payloads: Mapping[int, bytes | memoryview]) -> bytes | memoryview:
        """The stored bytes, from at least ``needed`` verified payloads by piece number."""
        return next(iter(payloads.values()))


@lru_cache(maxsize=64)
def parse_scheme(text: str) -> Scheme:
    """Parse ``replica:N``, N from 1 to 9; raises BadRequest."""
    match = _REPLICA.fullmatch(text)
    if not match:
        raise BadRequest(f"{text!r} is no scheme: use replica:N with N from 1 to {REPLICAS_MAX}")
    pieces = int(match[1])
    return Scheme(text, pieces, needed=1, quorum=write_quorum(pieces, 1))
