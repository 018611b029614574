"""Membership: heartbeats in, node states out, and which nodes the operator lets in or takes away."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import trio

from flared.catalog.nodes import (
    NodeRecord,
    put_node,
    read_node,
    read_removed,
    readmit_node,
    remove_node,
    settle_unchecked,
)
from flared.errors import Conflict, FlareError
from flared.upkeep.membership.heartbeat import parse_marks
from flared.upkeep.membership.known_node import KnownNode, NodeConnections
from flared.upkeep.membership.member import ANSWERING, Member
from flared.upkeep.membership.metadata_age import MetadataAge
from flared.upkeep.membership.reception import Reception
from flared.upkeep.membership.refusals import Refusals
from flared.upkeep.membership.roster import Roster

if TYPE_CHECKING:
    from collections.abc import Callable

    from flared.chunks.damage import DamageList
    from flared.chunks.nodes import Nodes
    from flared.cluster.states import NodeState
    from flared.meta.kv import KV, Transaction
    from flared.names import NodeName
    from flared.upkeep.membership.heartbeat import Heartbeat

log = logging.getLogger(__name__)

CHECK_SECONDS = 1.0
GREETING_SECONDS = 0.5
"""Nodes that answer within this are online when the api node is ready, so that its restart is not felt."""


@dataclass(frozen=True, slots=True)
class GivenUp:
    """Volumes of a living node that have been failed for ``repair_after``."""

    instance: str
    """Of the node: another start tries its volumes again."""
    paths: frozenset[str]


class Membership:
    def __init__(
        self,
        kv: KV,
        nodes: Nodes,
        damage: DamageList,
        *,
        cluster: str,
        connect: Callable[[NodeName, str], NodeConnections],
        repair_after_seconds: float,
    ) -> None:
        self.cluster = cluster
        self.repair_after_seconds = repair_after_seconds
        self.age = MetadataAge(kv, nodes)
        self._kv = kv
        self._nodes = nodes
        self._roster = Roster(kv, nodes, connect=connect, repair_after_seconds=repair_after_seconds)
        self._reception = Reception(cluster, self._roster, nodes, self.age, damage)
        self._refusals = Refusals()

    def subscribe(self, listener: Callable[[NodeName, NodeState], None]) -> None:
        """Call ``listener`` on every change of state, and with ONLINE when a node comes back with a new instance."""
        self._roster.subscribe(listener)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Connect to every recorded node and call it once, then review the states until cancelled."""
        await self.age.load()
        async with trio.open_nursery() as nursery:
            await self._roster.open(nursery)
            async with trio.open_nursery() as greetings:
                for known in self._roster:
                    greetings.start_soon(self._greet, known)
            task_status.started()
            while True:
                await trio.sleep(CHECK_SECONDS)
                for known in self._roster:
                    self._roster.review(known)

    async def _greet(self, known: KnownNode) -> None:
        """Count a node that answers a call as present, before its next heartbeat comes."""
        with trio.move_on_after(GREETING_SECONDS):
            try:
                _, failed = await known.remote.list_working("", 1)
                status = await known.remote.status()
                marks = parse_marks(status)
            except FlareError as error:
                log.info("event=node_silent node=%s message=%r", known.record.name, str(error))
            else:
                self._nodes.set_failed(known.record.name, frozenset(failed))
                self.age.compare(known.record.name, marks)
                self._reception.take_status(known, status)
                known.last_heard = trio.current_time()
                self._roster.review(known)

    async def receive_heartbeat(self, heartbeat: Heartbeat) -> None:
        """Take over where a node is and what it has.

        Raises Conflict when it belongs to another cluster, was removed, or its name is taken by a node that is alive;
        then nothing has changed, and the reason is among the ``refusals``.
        """
        try:
            await self._reception.receive(heartbeat)
        except Conflict as error:
            self._refusals.note(heartbeat, error)
            raise
        self._refusals.clear(heartbeat)

    # What others ask

    def members(self) -> list[Member]:
        """Return every node, in order of its name."""
        return [known.describe(compared=self._nodes.is_compared(known.record.name)) for known in self._roster]

    def refusals(self, *, duplicates: bool = False) -> list[str]:
        """Return why heartbeats that still come are refused; with ``duplicates`` only those of nodes that run twice."""
        return self._refusals.current(duplicates=duplicates)

    def given_up(self) -> dict[NodeName, GivenUp]:
        """Return, of nodes that answer, the volumes that have been failed for as long as a node may be silent."""
        found: dict[NodeName, GivenUp] = {}
        for known in self._roster:
            if known.heartbeat is None or known.state not in ANSWERING:
                continue
            volumes = (volume for volume in known.heartbeat.volumes if volume.state == "failed")
            paths = frozenset(volume.path for volume in volumes if volume.state_seconds >= self.repair_after_seconds)
            if paths:
                found[known.record.name] = GivenUp(known.heartbeat.instance, paths)
        return found

    def unchecked_instance(self, name: NodeName) -> str:
        """Return the instance whose inventory must be compared before its pieces count; empty if they do."""
        known = self._roster.find(name)
        return known.record.unchecked if known is not None else ""

    async def settle_unchecked(self, name: NodeName, instance: str) -> None:
        """Let the pieces of the node count: the whole inventory of that instance was compared with the records."""
        known = self._roster.find(name)
        if known is None or not instance or known.record.unchecked != instance:
            return
        await self._kv.transact(lambda tx: settle_unchecked(tx, name, instance))
        if known.record.unchecked == instance:
            known.record = replace(known.record, unchecked="")
            self._roster.set_unchecked(known, "")
            log.info("event=node_compared node=%s", name)

    # What the operator wants

    async def begin_removal(self, name: NodeName, *, forced: bool) -> None:
        """Record durably that the node is to go: it gets nothing more, and its heartbeats are refused."""
        known = self._roster.find(name)
        assert known is not None, "only members are removed"
        recorded = known.record

        def decide(tx: Transaction) -> NodeRecord:
            record = replace(read_node(tx, name) or recorded, desired_state="remove", forced=forced)
            put_node(tx, record)
            return record

        self.age.refuse_older()
        known.record = await self._kv.transact(decide)
        self._nodes.set_compared(name)
        self._roster.update_ring()
        self._roster.review(known)
        log.warning("event=node_removal_begins node=%s forced=%s", name, forced)

    async def forget(self, name: NodeName, now_ms: int) -> bool:
        """End a removal: nothing names the node any more. False if the removal was called off meanwhile."""

        def decide(tx: Transaction) -> bool:
            record = read_node(tx, name)
            if record is not None and not record.is_leaving:
                return False
            remove_node(tx, name, now_ms)
            return True

        if not await self._kv.transact(decide):
            return False
        self._roster.remove(name)
        log.warning("event=node_removed node=%s", name)
        return True

    async def readmit(self, name: NodeName) -> bool:
        """Call off the removal of a node, under way or done, so that it may return. Return whether there was one."""
        called_off = await self._kv.transact(lambda tx: readmit_node(tx, name))
        known = self._roster.find(name)
        if known is not None and known.record.is_leaving:
            known.record = replace(known.record, desired_state="stay", forced=False)
            self._roster.update_ring()
        if called_off:
            log.warning("event=node_readmitted node=%s", name)
        return called_off

    async def was_removed(self, name: NodeName) -> bool:
        return await self._kv.view(lambda snapshot: read_removed(snapshot, name)) is not None

    async def accept_metadata(self, now_ms: int) -> bool:
        """Go on with metadata that is older than the nodes have seen. False if it is not older.

        Every node is compared with the records again: copies may have been moved since."""
        if not self.age.is_older:
            return False
        await self.age.accept(now_ms)
        for known in self._roster:
            self._roster.announce(known)
        return True
