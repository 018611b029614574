"""RecentChunks: the plain bytes of the small chunks last read, in memory.

A copy of pieces, never of the records that name them: the caller has just looked up the chunk's record. A chunk id
never means other bytes, so nothing here goes stale; and as memory can rot too, every hit is compared with the digest
in the chunk's name, like what comes from a node.
"""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flared.names import chunk_digest_hex

if TYPE_CHECKING:
    from flared.names import ChunkId

log = logging.getLogger(__name__)

ENTRY_OVERHEAD_BYTES = 350
"""The memory of a chunk beyond its bytes, measured on CPython 3.11."""

SIZE_MAX = 64 * 1024
"""Larger ones would push many small ones out, which gain most, and take long to verify on the event loop."""


@dataclass(frozen=True, slots=True)
class RecentStatistics:
    chunks: int
    bytes: int
    hits: int
    misses: int


class RecentChunks:
    """At most ``limit_bytes`` of them, least recently read out first; 0 keeps none."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._bytes = 0
        self._hits = 0
        self._misses = 0
        self._chunks: OrderedDict[ChunkId, bytes] = OrderedDict()

    def find(self, chunk: ChunkId) -> bytes | None:
        """Its plain bytes, verified just now; None if they must be read."""
        plain = self._chunks.get(chunk)
        if plain is None:
            self._misses += 1
            return None
        if hashlib.sha256(plain).hexdigest() != chunk_digest_hex(chunk):
            log.error("event=memory_corrupt chunk=%s", chunk)
            self._drop(chunk)
            return None
        self._hits += 1
        self._chunks.move_to_end(chunk)
        return plain

    def add(self, chunk: ChunkId, plain: bytes | memoryview) -> None:
        """Remember what was read and verified just now."""
        cost = len(plain) + ENTRY_OVERHEAD_BYTES
        if chunk in self._chunks or len(plain) > SIZE_MAX or cost > self._limit:
            return
        self._chunks[chunk] = bytes(plain)
        self._bytes += cost
        while self._bytes > self._limit:
            self._drop(next(iter(self._chunks)))

    def resize(self, limit_bytes: int) -> None:
        """From now on keep no more than this."""
        self._limit = limit_bytes
        while self._bytes > limit_bytes:
            self._drop(next(iter(self._chunks)))

    def statistics(self) -> RecentStatistics:
        return RecentStatistics(len(self._chunks), self._bytes, self._hits, self._misses)

    def _drop(self, chunk: ChunkId) -> None:
        self._bytes -= len(self._chunks.pop(chunk)) + ENTRY_OVERHEAD_BYTES
