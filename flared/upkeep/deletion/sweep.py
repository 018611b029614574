"""Sweep: release what nothing references any more, when its grace is over.

Parents give back their children page by page, extents their chunks, retired uploads their parts; a chunk without
references is condemned (its record goes, and with it any way to reference that generation again); then each node is
asked to delete its pieces, and asked again until it has.
The order makes every line safe to crash at: a record goes in the transaction that condemns its pieces, and pieces are
deleted only after nothing can name them. Deleting twice is harmless, because a generation is never used again.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from flared.catalog.chunks import condemn_chunk, find_chunk
from flared.catalog.extents import give_up, list_open_extents, release_extent_page
from flared.catalog.garbage import (
    CHUNK,
    CONDEMNED,
    EXTENT,
    PARENT,
    UPLOAD,
    Garbage,
    condemn_pieces,
    list_due,
    mark_deleted,
    postpone,
)
from flared.catalog.once import forget_expired
from flared.catalog.parents import release_parent_page
from flared.catalog.uploads import release_parts
from flared.cluster.states import NodeState
from flared.errors import Damaged, FlareError, NodeUnreachable
from flared.names import ChunkId, NodeName, piece_name
from flared.upkeep.batches import transact_each
from flared.upkeep.deletion.steady_clock import SteadyClock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flared.catalog.garbage import Pieces
    from flared.catalog.manifest import ExtentId
    from flared.objects.store import Store

log = logging.getLogger(__name__)

BATCH = 256
OPEN_EXTENTS = 4096
"""More than a node has connections, so that live uploads never hide dead ones."""
EXTENT_PORTION = 64
"""Chunks of an extent, children of a parent or parts of an upload released in one transaction."""
POSTPONE_SECONDS = 60.0
POSTPONE_OFFLINE_SECONDS = 3600.0
"""For a node that has been silent for long. When it returns, reconcile finds what it slept through anyway."""
INTERVAL_SECONDS = 5.0
ABANDONED_SECONDS = 15.0
"""How long after its put failed a piece may still be on its way to a node."""


@dataclass(frozen=True, slots=True)
class SweepStatistics:
    extents: int
    chunks: int
    pieces: int
    due: int
    """Items that were due in the last step and could not be finished."""


class Sweep:
    """A Worker. What is due by the wall clock also has to have been seen due for the grace by the monotonic one."""

    name = "sweep"

    def __init__(self, store: Store) -> None:
        self._store = store
        self._clock = SteadyClock(store)
        self._extents = self._chunks = self._pieces = self._due = 0

    async def step(self) -> bool:
        now_ms = self._clock.steady_ms()
        if not now_ms:
            return False
        # Uploads and puts that died become items first, so that this step may deal with them already.
        await self._give_up_expired(now_ms)
        abandoned = await self._delete_abandoned()
        items = await list_due(self._store.kv, now_ms, BATCH)
        progress = 0
        for item in items:
            try:
                if item.kind in {EXTENT, PARENT}:
                    progress += await self._release_extent(item, now_ms)
                elif item.kind == UPLOAD:
                    await self._release_upload(item, now_ms)
                    progress += 1
                elif item.kind == CHUNK:
                    progress += await self._condemn(item, now_ms)
            except Damaged as error:  # one record that cannot be read must not stop the others from going
                log.error("event=garbage_stuck id=%s message=%r", item.id, str(error))
        condemned = [item for item in items if item.kind == CONDEMNED]
        progress += await self._delete_pieces(condemned, now_ms)
        self._due = len(items) - progress
        more = await forget_expired(self._store.kv, now_ms)
        return progress > 0 or abandoned or more

    async def wait(self) -> None:
        await trio.sleep(min(INTERVAL_SECONDS, max(0.1, self._store.garbage_grace_seconds / 2)))

    def statistics(self) -> SweepStatistics:
        return SweepStatistics(self._extents, self._chunks, self._pieces, self._due)

    async def _give_up_expired(self, now_ms: int) -> None:
        """An upload that this process carries on never expires, however long it takes; one that no process carries
        on is dead. As long as one api node owns the metadata that is every other one, expired or not."""
        ever = now_ms + 2 * int(self._store.upload_ttl_seconds * 1000)
        for _, extent in await list_open_extents(self._store.kv, ever, OPEN_EXTENTS):
            if self._store.chunks.in_flight.is_pinned(extent):
                continue
            await self._give_up(extent, now_ms)

    async def _give_up(self, extent: ExtentId, now_ms: int) -> None:
        try:
            await self._store.kv.transact(lambda tx: give_up(tx, extent, now_ms))
        except Damaged as error:
            log.error("event=garbage_stuck id=%s message=%r", extent, str(error))

    async def _release_extent(self, item: Garbage, now_ms: int) -> bool:
        if self._store.chunks.in_flight.is_pinned(item.id):
            return False
        # The chunks or children have rested as long as the extent: nothing else led to them.
        release = release_extent_page if item.kind == EXTENT else release_parent_page
        while await self._store.kv.transact(lambda tx: release(tx, item, now_ms, EXTENT_PORTION)):
            await trio.lowlevel.checkpoint()
        self._extents += 1
        return True

    async def _release_upload(self, item: Garbage, now_ms: int) -> None:
        after: bytes | None = b""
        while after is not None:
            after = await release_parts(self._store.kv, item, now_ms, EXTENT_PORTION, after)

    async def _condemn(self, item: Garbage, now_ms: int) -> bool:
        if self._store.chunks.in_flight.is_pinned(item.id):
            return False
        condemned = await self._store.kv.transact(lambda tx: condemn_chunk(tx, item, now_ms))
        self._chunks += condemned is not None
        return True

    async def _delete_pieces(self, items: Sequence[Garbage], now_ms: int) -> int:
        """Ask each node in one call to delete its pieces. Return how many items made progress."""
        by_node: defaultdict[NodeName, list[tuple[Garbage, int]]] = defaultdict(list)
        for item in items:
            for number, node in item.pieces:
                by_node[node].append((item, number))
        # What a node has deleted is recorded before the next one is asked; a crash asks it again, which is harmless.
        later: dict[bytes, tuple[Garbage, float]] = {}
        for node, pieces in by_node.items():
            names = [(ChunkId(item.id), number) for item, number in pieces]
            answers = await self._ask_to_delete(node, names)
            done = [item for (item, _), error in zip(pieces, answers, strict=True) if error is None]
            await self._mark_deleted(node, done)
            self._pieces += len(done)
            away = self._store.chunks.nodes.state(node) is NodeState.OFFLINE
            seconds = POSTPONE_OFFLINE_SECONDS if away else POSTPONE_SECONDS
            for (item, _), error in zip(pieces, answers, strict=True):
                if error is not None:
                    later[item.key] = item, min(seconds, later[item.key][1] if item.key in later else seconds)
        await self._postpone(list(later.values()), now_ms)
        return len({item.id for item in items if item.pieces})

    async def _mark_deleted(self, node: NodeName, items: Sequence[Garbage]) -> None:
        """The node has deleted its pieces of these."""
        await transact_each(self._store.kv, items, lambda tx, item: mark_deleted(tx, item, node))

    async def _postpone(self, items: Sequence[tuple[Garbage, float]], now_ms: int) -> None:
        """Postpone items whose nodes did not answer. Last of all, because it changes the keys of the items."""
        await transact_each(
            self._store.kv, items, lambda tx, later: postpone(tx, later[0], now_ms + int(later[1] * 1000))
        )

    async def _ask_to_delete(self, node: NodeName, pieces: Sequence[tuple[ChunkId, int]]) -> list[FlareError | None]:
        store = self._store.chunks.nodes.store(node)
        if store is None:
            # Every node that is recorded is known, so this one was removed. Should it return, reconcile finds them.
            return [None] * len(pieces)
        if not self._store.chunks.nodes.is_online(node):
            return [NodeUnreachable(node, "it is away")] * len(pieces)
        try:
            names = [piece_name(chunk, number) for chunk, number in pieces]
            return await self._store.chunks.nodes.delete(node, names, repair=False)
        except FlareError as error:
            return [error] * len(pieces)

    async def _delete_abandoned(self) -> bool:
        """Pieces of puts that failed: wherever they may be, unless the chunk was recorded after all."""
        chunks = self._store.chunks.in_flight.take_abandoned(trio.current_time() - ABANDONED_SECONDS, BATCH)
        due = self._clock.steady_ms()
        for chunk, pieces in chunks:
            try:
                if await find_chunk(self._store.kv, chunk) is None:
                    await self._condemn_pieces(chunk, pieces, due)
            except Damaged as error:
                log.error("event=garbage_stuck id=%s message=%r", chunk, str(error))
        return bool(chunks)

    async def _condemn_pieces(self, chunk: ChunkId, pieces: Pieces, due: int) -> None:
        await self._store.kv.transact(lambda tx: condemn_pieces(tx, chunk, pieces, due))
