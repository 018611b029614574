"""Membership: heartbeats in, node states out. It owns the connections to the data nodes; ``admission`` says who is one.

States live in memory and come from monotonic receipt times; only identities are recorded. ``Nodes`` is what
the rest of the api role sees of it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import trio

from flared.catalog.nodes import (
    NodeRecord,
    list_nodes,
    put_node,
    read_node,
    read_removed,
    readmit_node,
    remove_node,
    settle_unchecked,
)
from flared.chunks.nodes import Nodes, PieceNode
from flared.cluster.ring import RingNode
from flared.cluster.states import HEARTBEAT_SECONDS, MISSED_HEARTBEATS, NodeState, Sighting, decide_state
from flared.errors import BadName, Conflict, DuplicateNode, FlareError, NodeUnreachable, Unauthenticated
from flared.names import NodeName, PieceName, piece_parts
from flared.upkeep.membership.admission import being_removed, differs, refuse_other_cluster, write_record
from flared.upkeep.membership.claims import ASK_SECONDS, Answer, Holder, refuse_second, refuse_shared_volumes
from flared.upkeep.membership.heartbeat import parse_marks
from flared.upkeep.membership.metadata_age import MetadataAge
from flared.upkeep.membership.returns import RECORDED, holding_of, parse_holding, reason_to_compare

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flared.chunks.damage import DamageList
    from flared.meta.kv import KV, Transaction
    from flared.upkeep.membership.heartbeat import Heartbeat

log = logging.getLogger(__name__)

CHECK_SECONDS = 1.0
GREETING_SECONDS = 0.5
"""Nodes that answer within this are online when the api node is ready, so that its restart is not felt."""
NODES_MAX = 1000


class Remote(PieceNode, Protocol):
    """A data node with its connections."""

    async def run(self, *, task_status: trio.TaskStatus[None] = ...) -> None: ...

    async def status(self) -> dict[str, object]: ...

    async def status_at(self, address: str) -> dict[str, object]: ...

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
    unreachable: str = ""
    """Why it cannot be called; heartbeats come the other way, which may be open alone."""
    unreachable_seconds: float = 0.0
    compared: bool = True
    """Whether it has said how new the metadata was that it has seen: before that it takes nothing."""
    unchecked: str = ""
    """Why its pieces do not count until its inventory has been compared with the records."""


@dataclass(frozen=True, slots=True)
class GivenUp:
    """Volumes of a living node that have been failed for ``repair_after``."""

    instance: str
    """Of the node: another start tries its volumes again."""
    paths: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Refusal:
    message: str
    at: float
    is_duplicate: bool


class _Known:
    def __init__(self, record: NodeRecord, remote: Remote) -> None:
        self.record = record
        self.remote = remote
        self.life = trio.CancelScope()
        """Of its connections."""
        self.heartbeat: Heartbeat | None = None
        self.instance = ""
        """Of the process that the name belongs to; empty until one was heard or has answered."""
        self.claim = trio.Lock()
        """Held while it is decided whether another process takes over."""
        self.had_pieces: int | None = None
        """What the process before this one said last."""
        self.judged = ""
        """The instance of which it is known whether it has what the one before it had."""
        self.unchecked = RECORDED if record.unchecked else ""
        self.last_heard: float | None = None
        self.unreachable = ""
        self.unreachable_since: float | None = None
        """When the first call began of those that fail in a row."""
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
        self.age = MetadataAge(kv, nodes)
        self._known: dict[NodeName, _Known] = {}
        self._started = 0.0
        self._nursery: trio.Nursery | None = None
        self._listeners: list[Callable[[NodeName, NodeState], None]] = []
        self._refused: dict[tuple[NodeName, str, str], _Refusal] = {}
        """By name, address and instance, what was said to processes that are not wanted."""

    def subscribe(self, listener: Callable[[NodeName, NodeState], None]) -> None:
        """Call ``listener`` on every change of state, and with ONLINE when a node comes back with a new instance."""
        self._listeners.append(listener)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Connect to every recorded node and ask whether it is there, then watch the clock until cancelled."""
        self._started = trio.current_time()
        await self.age.load()
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
                _, failed = await known.remote.list_working("", 1)
                said = await known.remote.status()
                marks = parse_marks(said)
            except FlareError as error:
                log.info("event=node_silent node=%s message=%r", known.record.name, str(error))
            else:
                self._nodes.set_failed(known.record.name, frozenset(failed))
                self.age.compare(known.record.name, marks)
                self._take_holding(known, said)
                known.last_heard = trio.current_time()
                self._review(known)

    def _take_holding(self, known: _Known, said: Mapping[str, object]) -> None:
        """Which process answers for the node, and whether that has what the records place on it. Its first heartbeat,
        which says the same, has it recorded."""
        holding = parse_holding(said)
        if holding is None:
            return
        known.instance = holding.instance
        reason = reason_to_compare(known.record, None, holding)
        if reason or not holding.final:
            self._set_unchecked(known, reason or known.unchecked)

    async def receive_heartbeat(self, heartbeat: Heartbeat) -> None:
        """Take a node's word for where it is and what it has.

        Raises Conflict when it belongs to another cluster, was removed, or its name is taken by a node that is alive.
        """
        who = heartbeat.name, heartbeat.address, heartbeat.instance
        try:
            await self._receive(heartbeat)
        except Conflict as error:
            if who not in self._refused or self._refused[who].message != str(error):
                log.warning("event=node_refused node=%s message=%r", heartbeat.name, str(error))
            if who not in self._refused and len(self._refused) >= NODES_MAX:
                del self._refused[next(iter(self._refused))]
            self._refused[who] = _Refusal(str(error), trio.current_time(), isinstance(error, DuplicateNode))
            raise
        self._refused.pop(who, None)

    async def _receive(self, heartbeat: Heartbeat) -> None:
        refuse_other_cluster(heartbeat, self.cluster)
        known = self._known.get(heartbeat.name)
        if known is not None and known.record.is_leaving:
            raise Conflict(being_removed(heartbeat.name))
        if known is None:
            refuse_shared_volumes(heartbeat, self._living(heartbeat.name))
            self.age.compare(heartbeat.name, heartbeat.marks)
            known = await self._record(heartbeat, None)
            if not known.instance:
                known.instance = known.judged = heartbeat.instance
        restarted = known.instance != heartbeat.instance
        if restarted:
            async with known.claim:
                restarted = await self._take_over(known, heartbeat)
        self.age.compare(heartbeat.name, heartbeat.marks)
        reason = self._judge(known, heartbeat)
        if reason or differs(known.record, heartbeat):
            known = await self._record(heartbeat, known, lacks=bool(reason))
        if known.judged != heartbeat.instance and holding_of(heartbeat).final:
            known.judged = heartbeat.instance
        known.heartbeat = heartbeat
        if restarted:  # what failed then may have worked in between
            self._nodes.set_failed(heartbeat.name, frozenset())
        self._nodes.set_failed(
            heartbeat.name, frozenset(volume.path for volume in heartbeat.volumes if volume.state == "failed")
        )
        if not heartbeat.dead:
            known.last_heard = trio.current_time()
        self._take_damage(heartbeat)
        if not self._review(known) and (restarted or reason):
            self._tell(known)

    async def _take_over(self, known: _Known, heartbeat: Heartbeat) -> bool:
        """Let the sender of the heartbeat be the node from now on, if the process before it has gone; whether another
        one was heard before. Raises DuplicateNode, and then nothing has changed.

        Who answers is asked at both addresses: after a restart only the new process does, however soon it comes.
        """
        if known.instance == heartbeat.instance:  # decided while this one waited for its turn
            return False
        refuse_shared_volumes(heartbeat, self._living(heartbeat.name))
        answers: dict[str, Answer] = {}
        async with trio.open_nursery() as nursery:
            for address in {known.record.address, heartbeat.address}:
                nursery.start_soon(_ask_instance, known.remote, address, answers)
        heard = known.last_heard if known.heartbeat is not None else None
        holder = Holder(known.record.address, known.instance, None if heard is None else trio.current_time() - heard)
        refuse_second(holder, heartbeat, answers[known.record.address], answers[heartbeat.address])
        before, known.instance = known.instance, heartbeat.instance
        if known.heartbeat is not None and known.judged == known.heartbeat.instance:
            known.had_pieces = known.heartbeat.pieces
        return bool(before)

    def _judge(self, known: _Known, heartbeat: Heartbeat) -> str:
        """Why the node may lack what the records place on it, if this is the first heartbeat that tells; or nothing."""
        if known.judged == heartbeat.instance:
            return ""
        holding = holding_of(heartbeat)
        reason = reason_to_compare(known.record, known.had_pieces, holding)
        if holding.final:
            self._set_unchecked(known, reason or (RECORDED if known.record.unchecked else ""))
            if reason:
                log.warning("event=node_unchecked node=%s message=%r", heartbeat.name, reason)
            return reason
        self._nodes.set_unchecked(heartbeat.name, unchecked=True)
        return ""

    def _set_unchecked(self, known: _Known, reason: str) -> None:
        known.unchecked = reason
        self._nodes.set_unchecked(known.record.name, unchecked=bool(reason))

    def unchecked_instance(self, name: NodeName) -> str:
        """The instance of a node whose inventory is to be compared before its pieces count; empty if they do."""
        known = self._known.get(name)
        return known.record.unchecked if known is not None else ""

    async def settle_unchecked(self, name: NodeName, instance: str) -> None:
        """The whole inventory of that instance was compared with the records since it was said: its pieces count."""
        known = self._known.get(name)
        if known is None or not instance or known.record.unchecked != instance:
            return
        await self._kv.transact(lambda tx: settle_unchecked(tx, name, instance))
        if known.record.unchecked == instance:
            known.record = replace(known.record, unchecked="")
            self._set_unchecked(known, "")
            log.info("event=node_compared node=%s", name)

    def _living(self, but: NodeName) -> list[Heartbeat]:
        """What the other nodes that are here said last."""
        here = (NodeState.ONLINE, NodeState.FULL)
        return [
            known.heartbeat
            for name, known in self._known.items()
            if name != but and known.heartbeat is not None and known.state in here
        ]

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
                known.unreachable,
                0.0 if known.unreachable_since is None else now - known.unreachable_since,
                self._nodes.is_compared(known.record.name),
                known.unchecked,
            )
            for _, known in sorted(self._known.items())
        ]

    def refusals(self, *, duplicates: bool = False) -> list[str]:
        """What nodes are told that ask to be taken now, and are not; or only those that are there twice."""
        recent = trio.current_time() - MISSED_HEARTBEATS * HEARTBEAT_SECONDS
        return [
            refusal.message
            for refusal in self._refused.values()
            if refusal.at >= recent and (refusal.is_duplicate or not duplicates)
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

    # What the operator wants

    async def begin_removal(self, name: NodeName, *, forced: bool) -> None:
        """Note durably that the node is to go: it gets nothing more, and is not listened to any more."""
        known = self._known[name]

        def decide(tx: Transaction) -> NodeRecord:
            record = replace(read_node(tx, name) or known.record, desired_state="remove", forced=forced)
            put_node(tx, record)
            return record

        self.age.refuse_older()
        known.record = await self._kv.transact(decide)
        self._nodes.set_compared(name)
        self._set_ring()
        self._review(known)
        log.warning("event=node_removal_begins node=%s forced=%s", name, forced)

    async def forget(self, name: NodeName, now_ms: int) -> bool:
        """The end of a removal: nothing names the node any more. False if the removal was called off meanwhile."""

        def decide(tx: Transaction) -> bool:
            record = read_node(tx, name)
            if record is not None and not record.is_leaving:
                return False
            remove_node(tx, name, now_ms)
            return True

        if not await self._kv.transact(decide):
            return False
        known = self._known.pop(name, None)
        self._nodes.remove(name)
        self._set_ring()
        if known is not None:
            known.life.cancel()
        log.warning("event=node_removed node=%s", name)
        return True

    async def readmit(self, name: NodeName) -> bool:
        """Call off the removal of a node, under way or done, so that it may return; whether there was one."""
        called_off = await self._kv.transact(lambda tx: readmit_node(tx, name))
        known = self._known.get(name)
        if known is not None and known.record.is_leaving:
            known.record = replace(known.record, desired_state="stay", forced=False)
            self._set_ring()
        if called_off:
            log.warning("event=node_readmitted node=%s", name)
        return called_off

    async def accept_metadata(self, now_ms: int) -> bool:
        """Go on with metadata that is older than the nodes have seen; False if it is not.

        Every node is looked at again: copies may have been moved since."""
        if not self.age.is_older:
            return False
        await self.age.accept(now_ms)
        for known in self._known.values():
            self._tell(known)
        return True

    async def was_removed(self, name: NodeName) -> bool:
        return await self._kv.view(lambda snapshot: read_removed(snapshot, name)) is not None

    async def _record(self, heartbeat: Heartbeat, known: _Known | None, *, lacks: bool = False) -> _Known:
        if known is None and len(self._known) >= NODES_MAX:
            raise Conflict(f"the cluster has {NODES_MAX} nodes already")
        record = await self._kv.transact(lambda tx: write_record(tx, heartbeat, lacks=lacks))
        if known is None:
            known = self._known.get(heartbeat.name) or await self._add(record)
        if known.record.is_leaving:  # since the transaction
            raise Conflict(being_removed(heartbeat.name))
        is_news = replace(known.record, pieces=record.pieces) != record
        known.record = record
        if record.unchecked:
            self._set_unchecked(known, known.unchecked or RECORDED)
        known.remote.set_address(record.address)
        self._set_ring()
        if is_news:
            log.info(
                "event=node_recorded node=%s address=%s zone=%s capacity=%d",
                record.name, record.address, record.zone, record.capacity,
            )  # fmt: skip
        return known

    async def _add(self, record: NodeRecord) -> _Known:
        remote = self._connect(record.name, record.address)
        known = self._known[record.name] = _Known(record, remote)
        assert self._nursery is not None, "run() must be running"
        await self._nursery.start(_run_remote, known)
        self._nodes.set_node(record.name, remote, known.state)
        self._nodes.set_unchecked(record.name, unchecked=bool(known.unchecked))
        if not record.is_leaving:  # such a node is not listened to
            self._nodes.set_uncompared(record.name)
        return known

    def _set_ring(self) -> None:
        self._nodes.set_ring(
            RingNode(known.record.name, known.record.zone, float(max(1, known.record.capacity)))
            for known in self._known.values()
            if not known.record.is_leaving
        )

    def _review(self, known: _Known) -> bool:
        """Decide the state anew; whether it changed. Who is being removed is away, whatever it answers."""
        heard = None if known.record.is_leaving else known.last_heard
        if heard is not None and known.unreachable_since is not None:
            heard = min(heard, known.unreachable_since)
        sighting = Sighting(heard, known.heartbeat is not None and known.heartbeat.full)
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
            self._damage.add(chunk, number, heartbeat.name, "the data node found it damaged", corrupt=True)


async def _ask_instance(remote: Remote, address: str, answers: dict[str, Answer]) -> None:
    """Put into ``answers`` which process answers at the address as this node."""
    answers[address] = None
    with trio.move_on_after(ASK_SECONDS):
        try:
            instance = (await remote.status_at(address)).get("instance")
        except FlareError:
            return
        answers[address] = instance if isinstance(instance, str) else ""


async def _run_remote(known: _Known, *, task_status: trio.TaskStatus[None]) -> None:
    with known.life:
        async with trio.open_nursery() as nursery:
            await nursery.start(known.remote.run)
            nursery.start_soon(_keep_calling, known)
            task_status.started()


async def _keep_calling(known: _Known) -> None:
    """Whether the node answers: one that is heard and cannot be called, for a closed port or an address that is no
    longer its own, is as good as silent."""
    while True:
        await trio.sleep(HEARTBEAT_SECONDS)
        began = trio.current_time()
        try:
            await known.remote.status()
        except (NodeUnreachable, Unauthenticated) as error:
            if not known.unreachable:
                log.warning("event=node_unreachable node=%s message=%r", known.record.name, str(error))
                known.unreachable_since = began
            known.unreachable = str(error)
            continue
        except FlareError:
            pass  # an answer it is
        known.unreachable, known.unreachable_since = "", None
