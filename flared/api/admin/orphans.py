"""The calls about pieces that no record names: what of them is held back on a node, and that they may be deleted."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from flared.errors import BadRequest, Conflict
from flared.http.error_body import JSON
from flared.http.messages import Reply, Request
from flared.http.percent import parse_query
from flared.names import NodeName, parse_node
from flared.upkeep.deletion.brake import HELD_MS

if TYPE_CHECKING:
    from flared.upkeep.deletion.reconcile import Reconcile
    from flared.upkeep.membership.membership import Membership


class OrphanCalls:
    """The calls."""

    def __init__(self, membership: Membership, reconcile: Reconcile) -> None:
        self._membership = membership
        self._reconcile = reconcile

    async def show(self, request: Request, reply: Reply) -> None:
        """Answer what is held back on ``?node=NODE``; ``held`` is 0 if nothing is."""
        await self._send(reply, self._node(parse_query(request.query, "node")))

    async def allow(self, request: Request, reply: Reply) -> None:
        """Let ``&pieces=N`` held orphans of ``?node=NODE`` be deleted: as many as the operator saw, and no more."""
        query = parse_query(request.query, "node", "pieces")
        node = self._node(query)
        wanted = query.get("pieces", "")
        if not wanted.isascii() or not wanted.isdigit() or len(wanted) > 12 or not int(wanted):
            raise BadRequest("pieces must say how many orphans may be deleted: a whole number from 1 on")
        if node not in self._reconcile.brake.held():
            raise Conflict(
                f"nothing is held back on node {node}; orphans below the limit are deleted without a command"
            )
        await self._reconcile.allow(node, int(wanted))
        await self._send(reply, node)

    def _node(self, query: dict[str, str]) -> NodeName:
        node = parse_node(query.get("node", ""))
        if node not in {member.record.name for member in self._membership.members()}:
            raise BadRequest(f"there is no data node {node} in this cluster")
        return node

    async def _send(self, reply: Reply, node: NodeName) -> None:
        record = self._reconcile.brake.record_of(node)
        answer = {
            "node": node,
            "held": record.held,
            "bytes": record.held_bytes,
            "since": record.held_since_ms / 1000 if record.held_since_ms else None,
            "seconds_left": (HELD_MS - record.waited_ms) / 1000 if record.held_since_ms else None,
            "allowed": record.allowed,
            "sample": record.sample,
            "obstacles": self._reconcile.statistics().obstacles,
        }
        await reply.send(200, JSON, json.dumps(answer).encode() + b"\n")
