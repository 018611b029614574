"""Membership: heartbeats in, node states out. It owns the connections to the data nodes.

States live in memory and come from monotonic receipt times; only identities are recorded. ``Nodes`` is what
the rest of the api role sees of it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import trio

from flared.catalog.nodes import NodeRecord, list_nodes, put_node
from flared.chunks.nodes import Nodes, PieceNode
from flared.cluster.ring import RingNode
from flared.cluster.states import NodeState, Sighting, decide_state
from flared.errors import BadName, Conflict, FlareError
from flared.names import NodeName, PieceName, piece_parts

if TYPE_CHECKING:
    from collections.abc import Callable

    from flared.chunks.damage import DamageList
    from flared.meta.kv import KV
    from flared.upkeep.heartbeat import Heartbeat

log = logging.getLogger(__name__)

CHECK_SECONDS = 1.0
GREETING_SECONDS = 0.5
"""Nodes that answer within this are online when the api node is ready, so that its restart is not felt."""
NODES_MAX = 1000
CAPACITY_CHANGE = 0.1
"""A node's weight follows its capacity when that changed by a tenth: a ring that twitches moves data for nothing."""


class Remote(PieceNode, Protocol):
    """A data node with its connections."""

    async def run(self, *, task_status: trio.TaskStatus[None] = ...) -> None: ...

    def set_address(self, address: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Member:
    """One node as an operator sees it."""

    record: NodeRecord
    state: NodeState
    state_seconds: float
    """How long it has been in this state, as far as this api node knows."""
    last_seen_seconds: float | None
    heartbeat: Heartbeat | None


@dataclass(frozen=True, slots=True)
class GivenUp:
    """Volumes of a living node that have been failed for ``repair_after``."""

    instance: str
    """Of the node: another start tries its volumes again."""
    paths: frozenset[str]


class _Known:
    def __init__(self, record: NodeRecord, remote: Remote) -> None:
        self.record = record
        self.remote = remote
        self.heartbeat: Heartbeat | None = None
        self.last_heard: float | None = None
        self.state = NodeState.SUSPECT
        self.state_since = trio.current_time()


class Membership:
    def __init__(
        self,
        kv: KV,
        nodes: Nodes,
        damage: DamageList,
        *,
        cluster: str,
        connect: Callable[[NodeName, str], Remote],
        repair_after_seconds: float,
    ) -> None:
        self.cluster = cluster
        self._kv = kv
        self._nodes = nodes
        self._damage = damage
        self._connect = connect
        self.repair_after_seconds = repair_after_seconds
        self._known: dict[NodeName, _Known] = {}
        self._started = 0.0
        self._nursery: trio.Nursery | None = None
        self._listeners: list[Callable[[NodeName, NodeState], None]] = []

    def subscribe(self, listener: Callable[[NodeName, NodeState], None]) -> None:
        """Call ``listener`` on every change of state, and with ONLINE when a node comes back with a new instance."""
        self._listeners.append(listener)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Connect to every recorded node and ask whether it is there, then watch the clock until cancelled."""
        self._started = trio.current_time()
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for record in await list_nodes(self._kv):
                await self._add(record)
            self._set_ring()
            async with trio.open_nursery() as greetings:
                for known in self._known.values():
                    greetings.start_soon(self._greet, known)
            task_status.started()
            while True:
                await trio.sleep(CHECK_SECONDS)
                for known in list(self._known.values()):
                    self._review(known)

    async def _greet(self, known: _Known) -> None:
        """A node that answers a call is there, before its next heartbeat says so."""
        with trio.move_on_after(GREETING_SECONDS):
            try:
                await known.remote.list("", 1)
            except FlareError as error:
                log.info("event=node_silent node=%s message=%r", known.record.name, str(error))
            else:
                known.last_heard = trio.current_time()
                self._review(known)

    async def heard(self, heartbeat: Heartbeat) -> None:
        """Take a node's word for where it is and what it has.

        Raises Conflict when it belongs to another cluster or its name is taken by a node that is alive.
        """
        if heartbeat.cluster is not None and heartbeat.cluster != self.cluster:
            raise Conflict(
                f"node {heartbeat.name} belongs to cluster {heartbeat.cluster}, this is cluster {self.cluster}: "
                "its volumes hold another cluster's data"
            )
        known = self._known.get(heartbeat.name)
        if known is None or _differs(known.record, heartbeat):
            known = await self._record(heartbeat, known)
        restarted = known.heartbeat is not None and known.heartbeat.instance != heartbeat.instance
        known.heartbeat = heartbeat
        if not heartbeat.dead:
            known.last_heard = trio.current_time()
        self._take_damage(heartbeat)
        if not self._review(known) and restarted:
            self._tell(known)

    def members(self) -> list[Member]:
        """Every node, in order of its name."""
        now = trio.current_time()
        return [
            Member(
                known.record,
                known.state,
                now - known.state_since,
                None if known.last_heard is None else now - known.last_heard,
                known.heartbeat,
            )
            for _, known in sorted(self._known.items())
        ]

    def given_up(self) -> dict[NodeName, GivenUp]:
        """By node, of those that answer, the volumes that they say have been failed for as long as a node may be
        silent."""
        found: dict[NodeName, GivenUp] = {}
        for name, known in self._known.items():
            if known.heartbeat is None or known.state not in (NodeState.ONLINE, NodeState.FULL):
                continue
            volumes = (volume for volume in known.heartbeat.volumes if volume.state == "failed")
            paths = frozenset(volume.path for volume in volumes if volume.state_seconds >= self.repair_after_seconds)
            if paths:
                found[name] = GivenUp(known.heartbeat.instance, paths)
        return found

    async def _record(self, heartbeat: Heartbeat, known: _Known | None) -> _Known:
        if known is None and len(self._known) >= NODES_MAX:
            raise Conflict(f"the cluster has {NODES_MAX} nodes already")
        if known is not None and known.heartbeat is not None:
            self._refuse_double(known, heartbeat)
        record = NodeRecord(heartbeat.name, heartbeat.address, heartbeat.zone, heartbeat.capacity)
        await self._kv.transact(lambda tx: put_node(tx, record))
        if known is None:
            known = self._known.get(heartbeat.name) or await self._add(record)
        known.record = record
        known.remote.set_address(record.address)
        self._set_ring()
        log.info(
            "event=node_recorded node=%s address=%s zone=%s capacity=%d",
            record.name, record.address, record.zone, record.capacity,
        )  # fmt: skip
        return known

    def _refuse_double(self, known: _Known, heartbeat: Heartbeat) -> None:
        """Two processes under one name would take each other's pieces for lost."""
        assert known.heartbeat is not None
        others = {volume.id for volume in known.heartbeat.volumes} - {volume.id for volume in heartbeat.volumes}
        alive = known.state in (NodeState.ONLINE, NodeState.FULL)
        if alive and known.record.address != heartbeat.address and others:
            raise Conflict(
                f"a node named {heartbeat.name} is online at {known.record.address} with other volumes: "
                f"give the one at {heartbeat.address} another name"
            )

    async def _add(self, record: NodeRecord) -> _Known:
        remote = self._connect(record.name, record.address)
        known = self._known[record.name] = _Known(record, remote)
        assert self._nursery is not None, "run() must be running"
        await self._nursery.start(remote.run)
        self._nodes.set_node(record.name, remote, known.state)
        return known

    def _set_ring(self) -> None:
        self._nodes.set_ring(
            RingNode(known.record.name, known.record.zone, float(max(1, known.record.capacity)))
            for known in self._known.values()
        )

    def _review(self, known: _Known) -> bool:
        """Decide the state anew; whether it changed."""
        sighting = Sighting(known.last_heard, known.heartbeat is not None and known.heartbeat.full)
        state = decide_state(
            sighting, now=trio.current_time(), started=self._started, repair_after=self.repair_after_seconds
        )
        if state is known.state:
            return False
        log.info("event=node_state node=%s was=%s now=%s", known.record.name, known.state.value, state.value)
        known.state = state
        known.state_since = trio.current_time()
        self._nodes.set_state(known.record.name, state)
        self._tell(known)
        return True

    def _tell(self, known: _Known) -> None:
        for listener in self._listeners:
            listener(known.record.name, known.state)

    def _take_damage(self, heartbeat: Heartbeat) -> None:
        for name in heartbeat.damage:
            try:
                chunk, number = piece_parts(PieceName(name))
            except BadName:
                log.warning("event=strange_damage node=%s piece=%r", heartbeat.name, name)
                continue
            self._damage.add(chunk, number, heartbeat.name, "the data node found it damaged")


def _differs(record: NodeRecord, heartbeat: Heartbeat) -> bool:
    return (
        record.address != heartbeat.address
        or record.zone != heartbeat.zone
        or abs(record.capacity - heartbeat.capacity) > CAPACITY_CHANGE * max(1, record.capacity)
    )
