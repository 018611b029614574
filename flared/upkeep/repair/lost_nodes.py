"""LostNodes: when a node has been silent for ``repair_after``, note its pieces as missing, so that heal rebuilds them.

One walk over the chunk records for all nodes that went offline; a walk begun before a node went is followed by another.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from flared.cluster.states import NodeState
from flared.upkeep.repair.missing import mark_many_missing
from flared.upkeep.walk import Walk

if TYPE_CHECKING:
    from flared.catalog.chunks import ChunkRecord
    from flared.names import NodeName
    from flared.objects.store import Store
    from flared.upkeep.repair.heal import Heal

log = logging.getLogger(__name__)


class LostNodes:
    """A Worker."""

    name = "lost_nodes"

    def __init__(self, store: Store, heal: Heal) -> None:
        self._store = store
        self._heal = heal
        self._waiting: set[NodeName] = set()
        self._walking: set[NodeName] = set()
        self._walk = Walk()
        self._woken = trio.Event()
        self._passes = 0
        """Of heal, when the last walk ended."""

    @property
    def settled(self) -> bool:
        """All that was on nodes which are offline is known to be missing, and none of it waits for repair."""
        return not (self._walking or self._waiting) and self._heal.statistics().caught_up_since(self._passes)

    def node_changed(self, node: NodeName, state: NodeState) -> None:
        """For ``Membership.subscribe``."""
        if state is NodeState.OFFLINE:
            self._waiting.add(node)
            self._woken.set()
        else:
            self._waiting.discard(node)
            self._walking.discard(node)

    async def step(self) -> bool:
        if not self._walking:
            self._walking, self._waiting, self._walk = self._waiting, set(), Walk()
            if not self._walking:
                return False
            log.warning("event=rebuild_begins nodes=%s", ",".join(sorted(self._walking)))
        page = await self._walk.read_page(self._store)
        await mark_many_missing(self._store, [mark for record in page for mark in self._lost(record)])
        self._heal.wake()
        self._walk.move_on(page)
        if self._walk.ended:
            self._walking, self._passes = set(), self._heal.statistics().passes
        return bool(self._walking or self._waiting)

    async def wait(self) -> None:
        await self._woken.wait()
        self._woken = trio.Event()

    def _lost(self, record: ChunkRecord) -> list[tuple[ChunkRecord, int]]:
        return [
            (record, number)
            for number, node in enumerate(record.nodes)
            if node in self._walking and number not in record.missing
        ]
