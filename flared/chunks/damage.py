"""DamageList: what readers, scrubs and reconciliation found lacking; heal repairs from here.

Bounded and merged: what does not fit is found again by the next scrub, so dropping it loses time, not data.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from flared.names import ChunkId

log = logging.getLogger(__name__)

ENTRIES_MAX = 100_000


@dataclass(frozen=True, slots=True)
class DamageStatistics:
    waiting: int
    found: int


class DamageList:
    def __init__(self) -> None:
        self._entries: dict[tuple[ChunkId, int], str] = {}
        self._corrupt: set[tuple[ChunkId, int]] = set()
        """Of the entries, those that are there and fail their checksum."""
        self._woken = trio.Event()
        self._found = 0

    def add(self, chunk: ChunkId, number: int, node: str, reason: str, *, corrupt: bool = False) -> None:
        """Note that piece ``number`` of ``chunk`` on ``node`` is missing or wrong; ``corrupt`` if it is there and fails
        its checksum."""
        if (chunk, number) in self._entries:
            return
        self._found += 1
        if len(self._entries) >= ENTRIES_MAX:
            return
        log.warning("event=piece_damaged chunk=%s piece=%d node=%s reason=%r", chunk, number, node, reason)
        self._entries[chunk, number] = node
        if corrupt:
            self._corrupt.add((chunk, number))
        self._woken.set()

    def holds(self, chunk: ChunkId, number: int) -> bool:
        return (chunk, number) in self._entries

    @property
    def waiting(self) -> int:
        """How many entries there are."""
        return len(self._entries)

    def is_corrupt(self, chunk: ChunkId, number: int) -> bool:
        """Return whether the piece is there and fails its checksum, as on a disk that decays."""
        return (chunk, number) in self._corrupt

    def oldest(self, limit: int) -> list[tuple[ChunkId, int, str]]:
        """Return the oldest entries as (chunk, piece number, node). They stay until ``settle``."""
        return [(chunk, number, node) for (chunk, number), node in list(self._entries.items())[:limit]]

    def settle(self, chunk: ChunkId, number: int) -> None:
        """Forget one entry: it is recorded in the metadata, or was no damage."""
        self._entries.pop((chunk, number), None)
        self._corrupt.discard((chunk, number))

    async def wait(self) -> None:
        """Return when there is an entry."""
        if not self._entries:
            self._woken = trio.Event()
            await self._woken.wait()

    def statistics(self) -> DamageStatistics:
        return DamageStatistics(len(self._entries), self._found)
