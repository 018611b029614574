"""Removal: take a node that is gone for good out of everything that names it.

The order makes every line safe to crash at: the operator's decision is in the node's record first, and the ring forgets
the node, so that nothing new names it; then the chunk records, a page at a time, until a whole walk over them has found
none that does; then the garbage that waits for it; and in one last transaction the node's record goes and its volumes
are remembered. A start in between begins the walk anew.

**A record that counts on the node is left alone until heal has put another copy in its place**, however long that
takes, unless the removal is forced: then what could be made again still is, and what could not is lost.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from flared.catalog.chunks import ChunkRecord, read_chunk, update_placement
from flared.catalog.garbage import Garbage, list_condemned, mark_deleted
from flared.objects.store import now_ms
from flared.upkeep.batches import transact_each
from flared.upkeep.removal.cost import RemovalCost, find_removal_cost
from flared.upkeep.walk import Walk

if TYPE_CHECKING:
    from flared.meta.kv import Transaction
    from flared.names import ChunkId, NodeName
    from flared.objects.store import Store
    from flared.upkeep.membership.membership import Membership
    from flared.upkeep.repair.heal import Heal

log = logging.getLogger(__name__)

GARBAGE_PAGE = 200
CHECK_SECONDS = 1.0
"""While a node is being removed."""
RETRY_SECONDS = 15.0
"""After a walk that found records which wait for heal."""


@dataclass(frozen=True, slots=True)
class RemovalProgress:
    share: float
    """Of the chunk records, how many this walk has looked at."""
    waiting: int
    """Records that count on the node and wait for heal, as of the last walk or in this one."""


@dataclass(slots=True)
class _Removing:
    """How far the removal of one node has come."""

    before: frozenset[ChunkId]
    """The chunks that were being written when the ring forgot the node: their records may still name it."""
    walk: Walk = field(default_factory=Walk)
    named: int = 0
    """Records that named the node when this walk met them."""
    waiting: int = 0
    """Of these, how many have to wait for heal."""
    waited: int = 0
    """As many had in the walk before."""
    rests_until: float = 0.0


class Removal:
    """A Worker."""

    name = "removal"

    def __init__(self, store: Store, heal: Heal) -> None:
        self._store = store
        self._heal = heal
        self._membership: Membership | None = None
        self._removing: dict[NodeName, _Removing] = {}
        self._woken = trio.Event()

    def follow(self, membership: Membership) -> None:
        """Carry out the removals that are recorded there."""
        self._membership = membership

    def wake(self) -> None:
        """Note that a removal was recorded."""
        self._woken.set()

    async def step(self) -> bool:
        """One page for one node."""
        assert self._membership is not None
        leaving = {
            member.record.name: member.record.forced
            for member in self._membership.members()
            if member.record.is_leaving
        }
        self._removing = {node: removing for node, removing in self._removing.items() if node in leaving}
        for node, forced in leaving.items():
            if node not in self._removing:
                await self._store.chunks.in_flight.settled()
            removing = self._removing.setdefault(node, _Removing(self._store.chunks.in_flight.claimed()))
            if trio.current_time() >= removing.rests_until:
                await self._advance(self._membership, node, removing, forced=forced)
                return True
        return False

    async def wait(self) -> None:
        with trio.move_on_after(CHECK_SECONDS if self._removing else RETRY_SECONDS):
            await self._woken.wait()
        self._woken = trio.Event()

    async def cost(self, node: NodeName) -> RemovalCost:
        """Count what still depends on the node: a scan of all chunk records."""
        return await find_removal_cost(self._store, node)

    def progress_of(self, node: NodeName) -> RemovalProgress:
        removing = self._removing.get(node)
        if removing is None:
            return RemovalProgress(0.0, 0)
        return RemovalProgress(removing.walk.share(self._store), max(removing.waiting, removing.waited))

    async def _advance(self, membership: Membership, node: NodeName, removing: _Removing, *, forced: bool) -> None:
        if removing.walk.cursor is None and removing.before & self._store.chunks.in_flight.claimed():
            removing.rests_until = trio.current_time() + CHECK_SECONDS
            return
        # The page is read again after a crash: taking a node out of a record twice changes nothing.
        page = await removing.walk.read_page(self._store)
        named = [record for record in page if node in record.nodes]
        removing.named += len(named)
        waits = await transact_each(
            self._store.kv, named, lambda tx, record: _take_out(tx, record, node, forced=forced)
        )
        removing.waiting += sum(waits)
        if named:
            self._store.missing_marks.count += len(named) - sum(waits)
            self._heal.wake()
        removing.walk.move_on(page)
        if not removing.walk.ended:
            return
        # Only a whole walk that met no such record proves that nothing names the node; its record goes last.
        if not removing.named:
            await self._drop_garbage(node)
            await membership.forget(node, now_ms(self._store))
            return
        if removing.waiting:
            log.info("event=node_removal_waits node=%s chunks=%d", node, removing.waiting)
            removing.rests_until = trio.current_time() + RETRY_SECONDS
        removing.walk, removing.named, removing.waited, removing.waiting = Walk(), 0, removing.waiting, 0

    async def _drop_garbage(self, node: NodeName) -> None:
        """Forget the pieces that the node has still to delete."""
        after: Garbage | None = None
        while True:
            items, after = await list_condemned(self._store.kv, after, GARBAGE_PAGE)
            named = [item for item in items if any(owner == node for _, owner in item.pieces)]
            await transact_each(self._store.kv, named, lambda tx, item: mark_deleted(tx, item, node))
            if after is None:
                return
            await trio.lowlevel.checkpoint()


def _take_out(tx: Transaction, record: ChunkRecord, node: NodeName, *, forced: bool) -> bool:
    """Take the node out of the record. Return True, and change nothing, if that has to wait for heal."""
    now = read_chunk(tx, record.id)
    if now is None or node not in now.nodes:
        return False
    if now.references and not forced:
        return True
    update_placement(tx, now.id, now, without(now, node))
    return False


def without(record: ChunkRecord, node: NodeName) -> ChunkRecord:
    """Return the record with the pieces of ``node`` on no node, and so missing."""
    taken = {number for number, owner in enumerate(record.nodes) if owner == node}
    nodes = tuple(None if number in taken else owner for number, owner in enumerate(record.nodes))
    return record._replace(nodes=nodes, missing=tuple(sorted({*record.missing, *taken})))
