"""Roster: the data nodes that are recorded, with their states, their connections and the ring.

States live in memory and come from monotonic receipt times; only identities are recorded. ``Nodes`` is what the rest
of the api role sees of it.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import trio

from flared.catalog.nodes import NodeRecord, list_nodes
from flared.cluster.ring import RingNode
from flared.cluster.states import NodeState
from flared.errors import Conflict
from flared.upkeep.membership.admission import being_removed, write_record
from flared.upkeep.membership.known_node import KnownNode, NodeConnections
from flared.upkeep.membership.member import ANSWERING
from flared.upkeep.membership.returns import RECORDED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flared.chunks.nodes import Nodes
    from flared.meta.kv import KV
    from flared.names import NodeName
    from flared.upkeep.membership.heartbeat import Heartbeat

log = logging.getLogger(__name__)

NODES_MAX = 1000


class Roster:
    """``open`` first."""

    def __init__(
        self,
        kv: KV,
        nodes: Nodes,
        *,
        connect: Callable[[NodeName, str], NodeConnections],
        repair_after_seconds: float,
    ) -> None:
        self.repair_after_seconds = repair_after_seconds
        self._kv = kv
        self._nodes = nodes
        self._connect = connect
        self._known: dict[NodeName, KnownNode] = {}
        self._started = 0.0
        self._nursery: trio.Nursery | None = None
        self._listeners: list[Callable[[NodeName, NodeState], None]] = []

    async def open(self, nursery: trio.Nursery) -> None:
        """Connect to every recorded node. The connections live in ``nursery``."""
        self._started = trio.current_time()
        self._nursery = nursery
        for record in await list_nodes(self._kv):
            await self._add(record)
        self.update_ring()

    def subscribe(self, listener: Callable[[NodeName, NodeState], None]) -> None:
        """Call ``listener`` on every ``announce``."""
        self._listeners.append(listener)

    def announce(self, known: KnownNode) -> None:
        """Have the listeners deal with the node anew, in the state that it is in."""
        for listener in self._listeners:
            listener(known.record.name, known.state)

    def __iter__(self) -> Iterator[KnownNode]:
        """In order of their names."""
        return iter([known for _, known in sorted(self._known.items())])

    def find(self, name: NodeName) -> KnownNode | None:
        return self._known.get(name)

    def heartbeats_of_others(self, name: NodeName) -> list[Heartbeat]:
        """Return the last heartbeats of all other nodes that answer."""
        return [
            known.heartbeat
            for known in self
            if known.record.name != name and known.heartbeat is not None and known.state in ANSWERING
        ]

    async def record(self, heartbeat: Heartbeat, known: KnownNode | None, *, lacks: bool = False) -> KnownNode:
        """Record what a heartbeat says of its node, which is added if it is new. ``lacks`` as in ``write_record``.

        Raises Conflict if the node may not be one, or no more fit in. The record is durable before anything here
        changes; the node may have been removed meanwhile.
        """
        if known is None and len(self._known) >= NODES_MAX:
            raise Conflict(f"the cluster has {NODES_MAX} nodes already")
        record = await self._kv.transact(lambda tx: write_record(tx, heartbeat, lacks=lacks))
        # Another heartbeat of the same new node may have been faster, and an operator too.
        if known is None:
            known = self._known.get(heartbeat.name) or await self._add(record)
        if known.record.is_leaving:
            raise Conflict(being_removed(heartbeat.name))
        is_news = replace(known.record, pieces=record.pieces) != record
        known.record = record
        if record.unchecked:
            self.set_unchecked(known, known.unchecked or RECORDED)
        known.remote.set_address(record.address)
        self.update_ring()
        if is_news:
            log.info(
                "event=node_recorded node=%s address=%s zone=%s capacity=%d",
                record.name, record.address, record.zone, record.capacity,
            )  # fmt: skip
        return known

    async def _add(self, record: NodeRecord) -> KnownNode:
        remote = self._connect(record.name, record.address)
        known = self._known[record.name] = KnownNode(record, remote)
        assert self._nursery is not None, "open() comes first"
        await self._nursery.start(known.run)
        self._nodes.set_node(record.name, remote, known.state)
        self._nodes.set_unchecked(record.name, unchecked=bool(known.unchecked))
        if not record.is_leaving:  # the heartbeats of such a node are refused, so it would stay uncompared
            self._nodes.set_uncompared(record.name)
        return known

    def remove(self, name: NodeName) -> None:
        """Forget the node and close its connections."""
        known = self._known.pop(name, None)
        self._nodes.remove(name)
        self.update_ring()
        if known is not None:
            known.life.cancel()

    def set_unchecked(self, known: KnownNode, reason: str) -> None:
        """Its pieces do not count while there is a reason."""
        known.unchecked = reason
        self._nodes.set_unchecked(known.record.name, unchecked=bool(reason))

    def update_ring(self) -> None:
        self._nodes.set_ring(
            RingNode(known.record.name, known.record.zone, float(max(1, known.record.capacity)))
            for known in self._known.values()
            if not known.record.is_leaving
        )

    def review(self, known: KnownNode) -> bool:
        """Decide the node's state anew, and announce it if it changed. Return whether it did."""
        state = known.decide_state(started=self._started, repair_after=self.repair_after_seconds)
        if state is known.state:
            return False
        log.info("event=node_state node=%s was=%s now=%s", known.record.name, known.state.value, state.value)
        known.state = state
        known.state_since = trio.current_time()
        self._nodes.set_state(known.record.name, state)
        self.announce(known)
        return True
