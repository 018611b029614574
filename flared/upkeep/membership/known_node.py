"""KnownNode: what this process knows of one data node, and the connections that it keeps to it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

import trio

from flared.chunks.nodes import PieceNode
from flared.cluster.states import HEARTBEAT_SECONDS, NodeState, Sighting, decide_state
from flared.errors import FlareError, NodeUnreachable, Unauthenticated
from flared.upkeep.membership.claims import ASK_SECONDS, Answer
from flared.upkeep.membership.member import Member
from flared.upkeep.membership.returns import RECORDED

if TYPE_CHECKING:
    from flared.catalog.nodes import NodeRecord
    from flared.upkeep.membership.heartbeat import Heartbeat

log = logging.getLogger(__name__)


class NodeConnections(PieceNode, Protocol):
    """A data node with the connections to it."""

    async def run(self, *, task_status: trio.TaskStatus[None] = ...) -> None: ...

    async def status(self) -> dict[str, object]: ...

    async def status_at(self, address: str) -> dict[str, object]: ...

    def set_address(self, address: str) -> None: ...


class KnownNode:
    """Only ``Roster`` and ``Reception`` change it. Times are of the monotonic clock."""

    def __init__(self, record: NodeRecord, remote: NodeConnections) -> None:
        self.record = record
        self.remote = remote
        self.life = trio.CancelScope()
        """Of its connections."""
        self.heartbeat: Heartbeat | None = None
        """The last one."""
        self.instance = ""
        """Of the process that the name belongs to; empty until one sent a heartbeat or answered."""
        self.claim = trio.Lock()
        """Held while it is decided whether another process takes over."""
        self.had_pieces: int | None = None
        """The last report of the process before this one."""
        self.judged = ""
        """The instance of which it is known whether it has what the one before it had."""
        self.unchecked = RECORDED if record.unchecked else ""
        """Why its pieces do not count yet."""
        self.last_heard: float | None = None
        self.unreachable = ""
        self.unreachable_since: float | None = None
        """When the first call began of those that fail in a row."""
        self.state = NodeState.SUSPECT
        self.state_since = trio.current_time()

    def decide_state(self, *, started: float, repair_after: float) -> NodeState:
        """Return the state it should be in now. A node that is being removed is away, even if it answers."""
        heard = None if self.record.is_leaving else self.last_heard
        if heard is not None and self.unreachable_since is not None:
            heard = min(heard, self.unreachable_since)
        sighting = Sighting(heard, self.heartbeat is not None and self.heartbeat.full)
        return decide_state(sighting, now=trio.current_time(), started=started, repair_after=repair_after)

    def describe(self, *, compared: bool) -> Member:
        now = trio.current_time()
        return Member(
            self.record,
            self.state,
            now - self.state_since,
            None if self.last_heard is None else now - self.last_heard,
            self.heartbeat,
            self.unreachable,
            0.0 if self.unreachable_since is None else now - self.unreachable_since,
            compared,
            self.unchecked,
        )

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Keep the connections to it, and find out whether it can be called, until ``life`` is cancelled."""
        with self.life:
            async with trio.open_nursery() as nursery:
                await nursery.start(self.remote.run)
                nursery.start_soon(self._keep_calling)
                task_status.started()

    async def _keep_calling(self) -> None:
        """Call it at the pace of heartbeats. A node that sends heartbeats and cannot be called, because its port is
        closed or its address is not its own any more, is as good as silent."""
        while True:
            await trio.sleep(HEARTBEAT_SECONDS)
            began = trio.current_time()
            try:
                await self.remote.status()
            except (NodeUnreachable, Unauthenticated) as error:
                if not self.unreachable:
                    log.warning("event=node_unreachable node=%s message=%r", self.record.name, str(error))
                    self.unreachable_since = began
                self.unreachable = str(error)
                continue
            except FlareError:
                pass  # any other error is an answer
            self.unreachable, self.unreachable_since = "", None

    async def ask_instances(self, *addresses: str) -> dict[str, Answer]:
        """Return the instance that answers at each of the addresses as this node."""
        answers: dict[str, Answer] = dict.fromkeys(addresses)

        async def ask(address: str) -> None:
            with trio.move_on_after(ASK_SECONDS):
                try:
                    instance = (await self.remote.status_at(address)).get("instance")
                except FlareError:
                    return
                answers[address] = instance if isinstance(instance, str) else ""

        async with trio.open_nursery() as nursery:
            for address in answers:
                nursery.start_soon(ask, address)
        return answers
