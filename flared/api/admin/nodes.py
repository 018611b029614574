"""The calls about data nodes: what the loss of one would cost, its removal; and the heartbeats they send themselves."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import trio

from flared.api.admin.obstacles import explain_cost, explain_removal_obstacle
from flared.data.mark import mark_fields
from flared.errors import BadRequest, Busy, Conflict
from flared.http.error_body import JSON
from flared.http.json_body import parse_json_object
from flared.http.messages import Reply, Request
from flared.http.percent import parse_query
from flared.names import NodeName, parse_node
from flared.upkeep.membership.heartbeat import parse_heartbeat
from flared.upkeep.removal.cost import obstacle_to_removal

if TYPE_CHECKING:
    from flared.upkeep.failure import FailureCost
    from flared.upkeep.membership.member import Member
    from flared.upkeep.membership.membership import Membership
    from flared.upkeep.removal.removal import Removal

HEARTBEAT_BYTES_MAX = 4 * 1024 * 1024
"""10,000 damaged pieces of 90 bytes, and 256 volumes, fit thrice."""


class NodeCalls:
    """The calls about data nodes, and those that they make. ``failure`` says what the loss of one would cost."""

    def __init__(
        self,
        membership: Membership,
        *,
        failure: Callable[[NodeName], Awaitable[FailureCost]],
        removal: Removal,
    ) -> None:
        self._membership = membership
        self._failure = failure
        self._removal = removal
        self._counting = trio.Lock()

    async def failure(self, request: Request, reply: Reply) -> None:
        """Answer what a failure of ``?node=NODE`` would cost: a scan of all chunk records, one at a time."""
        node = self._member(_node(request)).record.name
        async with self._turn():
            cost = await self._failure(node)
        await reply.send(200, JSON, json.dumps(asdict(cost)).encode() + b"\n")

    async def removal_cost(self, request: Request, reply: Reply) -> None:
        """Answer what still depends on ``?node=NODE``, which is away: a scan like that of ``failure``."""
        member = self._member(_node(request))
        async with self._turn():
            cost = await self._removal.cost(member.record.name)
        await reply.send(200, JSON, json.dumps(asdict(cost)).encode() + b"\n")

    async def remove_node(self, request: Request, reply: Reply) -> None:
        """Take ``?node=NODE`` away for good. Refused while it lives; unless ``force=1`` also while anything counts on
        it."""
        query = parse_query(request.query, "node", "force")
        name = parse_node(query.get("node", ""))
        forced = "force" in query
        if query.get("force", "1") != "1":
            raise BadRequest("force is 1, or is left out")
        known = name in {member.record.name for member in self._membership.members()}
        if not known and await self._membership.was_removed(name):
            return await _send_removal(reply, 200, name, "removed")
        member = self._member(name)
        if not forced and member.record.is_leaving:
            return await _send_removal(reply, 202, name, "removing")
        self._refuse_removal(name, forced=forced)
        if not forced:
            async with self._turn():
                cost = await self._removal.cost(name)
            if not cost.is_nothing:
                raise Conflict(explain_cost(cost))
            # The count took its time, in which the node may have come back.
            self._refuse_removal(name, forced=forced)
        await self._membership.begin_removal(name, forced=forced)
        self._removal.wake()
        return await _send_removal(reply, 202, name, "removing")

    async def readmit_node(self, request: Request, reply: Reply) -> None:
        """Let ``?node=NODE`` return, which was removed or is being removed."""
        name = _node(request)
        known = name in {member.record.name for member in self._membership.members()}
        if not await self._membership.readmit(name) and not known:
            raise BadRequest(
                f"no node {name} was removed from this cluster; a new one needs no permission to come back"
            )
        await _send_removal(reply, 200, name, "welcome")

    def _refuse_removal(self, name: NodeName, *, forced: bool) -> None:
        """Raises Conflict if the state of the node does not allow to take it away."""
        member = self._member(name)
        obstacle = obstacle_to_removal(member, forced=forced)
        if obstacle is not None:
            raise Conflict(explain_removal_obstacle(obstacle, member, self._membership.repair_after_seconds))

    def _member(self, name: NodeName) -> Member:
        for member in self._membership.members():
            if member.record.name == name:
                return member
        raise BadRequest(f"there is no data node {name} in this cluster")

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """One count in the records of all chunks at a time."""
        try:
            self._counting.acquire_nowait()
        except trio.WouldBlock:
            raise Busy("another count of this kind is under way") from None
        try:
            yield
        finally:
            self._counting.release()

    async def heartbeat(self, request: Request, reply: Reply) -> None:
        """Take a heartbeat; answer with the cluster's id, and the mark for the node to keep, if it may have it."""
        parse_query(request.query)
        data = parse_json_object(await request.body.read_all(HEARTBEAT_BYTES_MAX), "the heartbeat")
        heartbeat = parse_heartbeat(data, time.time())
        await self._membership.receive_heartbeat(heartbeat)
        answer: dict[str, object] = {"cluster": self._membership.cluster}
        mark = self._membership.age.mark_for(heartbeat.name, int(time.time() * 1000))
        if mark is not None:
            answer["mark"] = mark_fields(mark)
        await reply.send(200, JSON, json.dumps(answer).encode() + b"\n")


def _node(request: Request) -> NodeName:
    """The node of a call that takes ``?node=NODE`` and nothing else."""
    return parse_node(parse_query(request.query, "node").get("node", ""))


async def _send_removal(reply: Reply, status: int, name: NodeName, state: str) -> None:
    await reply.send(status, JSON, json.dumps({"node": name, "state": state}).encode() + b"\n")
