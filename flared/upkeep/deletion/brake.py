"""Brake: no more orphans of a node are deleted within 24 hours than mishaps make. What exceeds that is held back.

A put that died or a delete that a node slept through leaves some orphans. Many at once usually mean that it is the
records that are wrong: metadata that lost rows, or an old copy of it. So beyond a limit nothing is deleted on that
node, until an operator allows it or ``HELD_MS`` are over: time to notice and to put the metadata right.

The order: what is about to be deleted is counted in the metadata first. A crash in between counts too many.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import trio

from flared.catalog.orphans import HOURS_MAX, OrphanRecord, list_orphans, put_orphans, read_orphans
from flared.errors import ManifestCorrupt

if TYPE_CHECKING:
    from collections.abc import Callable

    from flared.meta.kv import Transaction
    from flared.names import NodeName
    from flared.objects.store import Store

log = logging.getLogger(__name__)

PIECES_MIN = 1000
"""So many orphans of a node may go within 24 hours, however few pieces it has: a batch of failed uploads makes some
hundreds."""
SHARE = 100
"""Or one piece in so many of the node's, whichever is more."""
HELD_MS = 7 * 24 * 3600 * 1000
"""After so long they go by themselves, as after a restore. Only time in which an api node ran counts, by its monotonic
clock: neither a clock that jumps nor a cluster that was off for a week lets them go."""
HOUR_MS = 3600 * 1000


@dataclass(frozen=True, slots=True)
class Found:
    """The result of one inventory of a node."""

    pieces: int
    """All of the node's."""
    orphans: int
    """Those whose chunk has no record at all, seen once or more often. Strays are not counted: one of them is deleted
    only after the node that should have the piece said that it has."""
    bytes: int
    """Of the orphans."""
    sample: tuple[str, ...]
    confirmed: int
    """Orphans that could be deleted now."""


def limit_of(pieces: int) -> int:
    """Return how many orphans of a node with so many pieces may be deleted within 24 hours."""
    return max(PIECES_MIN, pieces // SHARE)


def deleted_lately(record: OrphanRecord, now_ms: int) -> int:
    """Return how many were deleted within 24 hours. Hours that lie ahead, after a clock was set back, count as well."""
    return sum(count for hour, count in record.deleted if hour > now_ms // HOUR_MS - HOURS_MAX)


def decide(record: OrphanRecord, found: Found, *, now_ms: int, ran_ms: int) -> OrphanRecord:
    """Return the record after this inventory; its ``held_since_ms`` says whether the orphans are held back.

    ``ran_ms`` is how long an api node ran since the last decision on this node.
    """
    record = replace(record, allowed=min(record.allowed, found.orphans))
    # All orphans count as soon as one could go: else those that were seen first would go before the rest is counted.
    # What is held stays so when a restart has forgotten which of them were seen before.
    orphans = found.orphans if found.confirmed or record.held_since_ms else 0
    over = deleted_lately(record, now_ms) + orphans - record.allowed > limit_of(found.pieces)
    if not over:
        return replace(record, held_since_ms=0, waited_ms=0, held=0, held_bytes=0, sample=())
    waited = record.waited_ms + ran_ms if record.held_since_ms else 0
    if waited >= HELD_MS:
        return OrphanRecord(record.deleted, found.orphans)
    since = record.held_since_ms or now_ms
    return replace(
        record, held_since_ms=since, waited_ms=waited, held=found.orphans, held_bytes=found.bytes, sample=found.sample
    )


def count_deleted(record: OrphanRecord, count: int, now_ms: int) -> OrphanRecord:
    """So many more orphans are being deleted: first those that were allowed. Negative: so many were not, after all."""
    allowed = max(0, min(count, record.allowed))
    hour_now = now_ms // HOUR_MS
    hours = dict(record.deleted)
    hours[hour_now] = hours.get(hour_now, 0) + count - allowed
    kept = sorted((hour, number) for hour, number in hours.items() if hour > hour_now - HOURS_MAX and number > 0)
    return replace(record, deleted=tuple(kept[-HOURS_MAX:]), allowed=record.allowed - allowed)


class Brake:
    """Keeps the records of all nodes. ``load`` first."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._records: dict[NodeName, OrphanRecord] = {}
        self._decided: dict[NodeName, float] = {}
        """When each node was decided on last, on the monotonic clock of this process."""

    async def load(self) -> None:
        """Learn what was held back before this process started."""
        self._records = await list_orphans(self._store.kv)

    def record_of(self, node: NodeName) -> OrphanRecord:
        return self._records.get(node, OrphanRecord())

    def held(self) -> dict[NodeName, OrphanRecord]:
        """The nodes of which orphans are held back; not those that were removed since."""
        known = self._store.chunks.nodes.names()
        return {node: record for node, record in self._records.items() if record.held_since_ms and node in known}

    async def admits(self, node: NodeName, found: Found, now_ms: int) -> bool:
        """Return whether the confirmed orphans of this inventory may be deleted; if not, record that they are held."""
        now = trio.current_time()
        ran_ms = int((now - self._decided.get(node, now)) * 1000)
        self._decided[node] = now
        was = self.record_of(node)
        record = await self._change(node, lambda record: decide(record, found, now_ms=now_ms, ran_ms=ran_ms))
        if record.held_since_ms and not was.held_since_ms:
            log.error(
                "event=orphans_held node=%s orphans=%d bytes=%d pieces=%d limit=%d sample=%s",
                node, found.orphans, found.bytes, found.pieces, limit_of(found.pieces), ",".join(found.sample),
            )  # fmt: skip
        elif was.held_since_ms and not record.held_since_ms:
            log.warning("event=orphans_released node=%s orphans=%d allowed=%d", node, found.orphans, record.allowed)
        return not record.held_since_ms

    async def count(self, node: NodeName, pieces: int, now_ms: int) -> None:
        """Record, durably, that so many orphans are about to be deleted."""
        if pieces:
            await self._change(node, lambda record: count_deleted(record, pieces, now_ms))

    async def allow(self, node: NodeName, pieces: int) -> OrphanRecord:
        """An operator lets so many orphans be deleted beyond the limit. Durable when it returns.

        A record that cannot be read is replaced: until then nothing is deleted on that node.
        """
        log.warning("event=orphans_allowed node=%s orphans=%d", node, pieces)
        return await self._change(node, lambda record: replace(record, allowed=pieces), renew=True)

    async def _change(
        self, node: NodeName, change: Callable[[OrphanRecord], OrphanRecord], *, renew: bool = False
    ) -> OrphanRecord:
        def decide_record(tx: Transaction) -> OrphanRecord:
            try:
                before = read_orphans(tx, node)
            except ManifestCorrupt:
                if not renew:
                    raise
                before = OrphanRecord()
            after = change(before)
            if after != before:
                put_orphans(tx, node, after)
            return after

        self._records[node] = record = await self._store.kv.transact(decide_record)
        return record
