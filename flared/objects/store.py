"""Store: the handles that the verbs work with. A value; it has no methods."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from flared.chunks.chunk import CHUNK_SIZE_DEFAULT, Chunks

if TYPE_CHECKING:
    from collections.abc import Callable

    from flared.catalog.totals import Totals
    from flared.meta.kv import KV

OBJECT_SIZE_MAX = 5 * 1024**4
PART_SIZE_MIN = 5 * 1024**2


@dataclass(frozen=True, slots=True)
class Defaults:
    """The defaults for new buckets."""

    scheme: str = "replica:3"
    chunk_size: int = CHUNK_SIZE_DEFAULT
    compress: bool = True


@dataclass(slots=True)
class Limits:
    """The settings that may change while the node runs."""

    object_size_max: int = OBJECT_SIZE_MAX
    part_size_min: int = PART_SIZE_MIN
    """Of every part of an upload but the last."""


@dataclass(slots=True)
class MissingMarks:
    """How many pieces were noted as missing since the start: a search for copies elsewhere sees that there are
    more to look for."""

    count: int = 0


@dataclass(frozen=True, slots=True)
class Store:
    kv: KV
    chunks: Chunks
    totals: Totals
    now: Callable[[], float]
    """The wall clock, seconds since the epoch: for versions, times of modification and due times."""
    random_bits: Callable[[int], int]
    defaults: Defaults = Defaults()
    limits: Limits = field(default_factory=Limits)
    missing_marks: MissingMarks = field(default_factory=MissingMarks)
    garbage_grace_seconds: float = 15 * 60.0
    upload_ttl_seconds: float = 24 * 3600.0
    multipart_ttl_seconds: float = 7 * 24 * 3600.0
    copying: trio.Lock = field(default_factory=trio.Lock)
    """Held by the one copy that reads and writes at once."""
    degraded: Callable[[], None] = lambda: None
    """Called when a chunk was recorded with pieces missing, so that heal need not look for it."""


def now_ms(store: Store) -> int:
    """The wall clock in milliseconds: what versions and due times are made of."""
    return int(store.now() * 1000)


def due_ms(store: Store) -> int:
    """When garbage that is made now may be collected."""
    return now_ms(store) + int(store.garbage_grace_seconds * 1000)
