"""Admin: the calls of operators and data nodes: status, health, metrics, heartbeats."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import trio

from flared import __version__
from flared.access.keys import API_AUDIENCE, Keyring
from flared.api.errors import RETRY_AFTER_SECONDS
from flared.data.mark import mark_fields
from flared.errors import BadRequest, Busy, Conflict, Unauthenticated
from flared.http.address import LOOPBACK
from flared.http.error_body import JSON
from flared.http.json_body import parse_json_object
from flared.http.messages import Reply, Request
from flared.http.metrics import send_metrics
from flared.http.percent import parse_query
from flared.names import NodeName, parse_node
from flared.upkeep.heartbeat import parse_heartbeat
from flared.upkeep.metadata import advise_metadata, explain_metadata
from flared.upkeep.metadata_age import ADVICE
from flared.upkeep.removal_cost import about_cost, obstacle_to_removal
from flared.upkeep.status import advise, is_only_heard

if TYPE_CHECKING:
    from flared.meta.kv import Health
    from flared.metrics import Durations, Metric
    from flared.upkeep.failure import FailureCost
    from flared.upkeep.membership import Member, Membership
    from flared.upkeep.removal import Removal
    from flared.upkeep.status import ClusterStatus

HEARTBEAT_BYTES_MAX = 4 * 1024 * 1024
"""10,000 damaged pieces of 90 bytes, and 256 volumes, fit thrice."""

Call = Callable[[Request, Reply], Awaitable[None]]


class Admin:
    """The calls. A heartbeat must open ``keyring``; ``obstacle`` says why the node cannot serve, or nothing."""

    def __init__(
        self,
        membership: Membership,
        *,
        keyring: Keyring,
        status: Callable[[], Mapping[str, object]],
        obstacle: Callable[[], str],
        without: Callable[[str], str],
        failure: Callable[[NodeName], Awaitable[FailureCost]],
        removal: Removal,
        metrics: Callable[[], Iterable[Metric | Durations]],
    ) -> None:
        self._membership = membership
        self._keyring = keyring
        self._status = status
        self._obstacle = obstacle
        self._without = without
        self._failure = failure
        self._removal = removal
        self._counting = trio.Lock()
        self._metrics = metrics

    def calls(self) -> dict[str, dict[str, Call]]:
        """By path, then by method."""
        return {
            "/status": {"GET": self.status, "HEAD": self.status},
            "/cluster/failure": {"GET": self.failure},
            "/cluster/node": {"GET": self.removal_cost, "DELETE": self.remove_node, "PUT": self.readmit_node},
            "/healthz": {"GET": self.health, "HEAD": self.health},
            "/readyz": {"GET": self.ready, "HEAD": self.ready},
            "/metrics": {"GET": self.metrics, "HEAD": self.metrics},
            "/cluster/heartbeat": {"POST": self.heartbeat},
        }

    async def status(self, request: Request, reply: Reply) -> None:
        parse_query(request.query)
        await reply.send(200, JSON, json.dumps(self._status(), ensure_ascii=False).encode() + b"\n")

    async def health(self, request: Request, reply: Reply) -> None:
        """Alive: the event loop turns."""
        parse_query(request.query)
        await reply.send(200, b"content-type: text/plain\r\n", b"ok\n")

    async def ready(self, request: Request, reply: Reply) -> None:
        """Whether puts are taken; with ``?without=NODE``, whether that data node may go down now."""
        query = parse_query(request.query, "without")
        obstacle = self._without(query["without"]) if "without" in query else self._obstacle()
        if not obstacle:
            return await reply.send(200, b"content-type: text/plain\r\n", b"ready\n")
        head = b"content-type: text/plain\r\nretry-after: %d\r\n" % RETRY_AFTER_SECONDS
        return await reply.send(503, head, f"{obstacle}\n".encode())

    async def failure(self, request: Request, reply: Reply) -> None:
        """What a failure of ``?node=NODE`` would cost: a scan of all chunk records, one at a time."""
        node = self._member(_node(request)).record.name
        async with self._turn():
            cost = await self._failure(node)
        await reply.send(200, JSON, json.dumps(asdict(cost)).encode() + b"\n")

    async def removal_cost(self, request: Request, reply: Reply) -> None:
        """What still counts on ``?node=NODE``, which is away: a scan like that of ``failure``."""
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
        if not forced and member.record.wish == "remove":
            return await _send_removal(reply, 202, name, "removing")
        obstacle = obstacle_to_removal(member, self._membership.repair_after_seconds, forced=forced)
        if not obstacle and not forced:
            async with self._turn():
                obstacle = about_cost(await self._removal.cost(name))
            # That took its time, in which the node may have come back.
            member, repair_after = self._member(name), self._membership.repair_after_seconds
            obstacle = obstacle or obstacle_to_removal(member, repair_after, forced=forced)
        if obstacle:
            raise Conflict(obstacle)
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

    async def metrics(self, request: Request, reply: Reply) -> None:
        if not request.peer.startswith(LOOPBACK):
            raise Unauthenticated("metrics are for this machine; elsewhere they are at metrics_listen (flared.toml(5))")
        parse_query(request.query)
        await send_metrics(reply, self._metrics())

    async def heartbeat(self, request: Request, reply: Reply) -> None:
        if not self._keyring.admits(request.fields.get("authorization"), API_AUDIENCE):
            raise Unauthenticated("the heartbeat does not carry the secret of this cluster, as it is on the api host")
        parse_query(request.query)
        data = parse_json_object(await request.body.read_all(HEARTBEAT_BYTES_MAX), "the heartbeat")
        heartbeat = parse_heartbeat(data, time.time())
        await self._membership.heard(heartbeat)
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


def describe_status(status: ClusterStatus, ours: Mapping[str, object]) -> dict[str, object]:
    """The answer of /status; ``ours`` is the api node's own entry among the nodes."""
    totals = status.totals
    return {
        "health": status.health,
        "reasons": status.reasons,
        "advice": status.advice,
        "version": __version__,
        "time": round(time.time(), 3),
        "cluster": status.cluster,
        "objects": totals.objects,
        "bytes": totals.bytes,
        "chunks": totals.chunks,
        "stored_bytes": totals.stored_bytes,
        "exact": totals.exact,
        "degraded_chunks": status.heal.backlog,
        "lost_chunks": status.heal.lost,
        "unavailable_pieces": status.unavailable,
        "nodes": [ours, *(describe_member(member, status) for member in status.members)],
        "metadata": describe_metadata(status.metadata, status.metadata_older),
        "heal": asdict(status.heal),
        "sweep": asdict(status.sweep),
        "reconcile": asdict(status.reconcile),
    }


def describe_metadata(health: Health, older: str) -> dict[str, object]:
    """What is known of the metadata file, and what to type about it; ``older`` is why nothing is written, if data nodes
    have seen newer metadata."""
    age = health.check_age_seconds
    return {
        "reasons": [*([older] if older else []), *explain_metadata(health)],
        "advice": [*([ADVICE] if older else []), *advise_metadata(health)],
        "older": bool(older),
        "full": health.full,
        "failed": bool(health.failure),
        "damaged_rows": health.damaged_rows,
        "problems": health.problems,
        "checks": health.check_passes,
        "checked_seconds_ago": None if age is None else round(age, 1),
    }


def describe_member(member: Member, status: ClusterStatus) -> dict[str, object]:
    """A data node in the answer of /status; what only its heartbeat tells is empty until it was heard."""
    heartbeat, seen = member.heartbeat, member.last_seen_seconds
    repairs = {
        volume.path: {"repair": volume.repair, "repaired": volume.repaired}
        for volume in status.failed_volumes
        if volume.node == member.record.name
    }
    return {
        "name": member.record.name,
        "role": "data",
        "state": "removing" if member.record.wish == "remove" else member.state.value,
        "state_since_seconds": round(member.state_seconds, 1),
        "zone": member.record.zone,
        "address": member.record.address,
        "version": heartbeat.version if heartbeat else "",
        "used": heartbeat.used if heartbeat else 0,
        "capacity": heartbeat.capacity if heartbeat else member.record.capacity,
        "last_seen_seconds": None if seen is None else round(seen, 1),
        "unreachable": member.unreachable if is_only_heard(member) else "",
        "pieces": heartbeat.pieces if heartbeat else 0,
        "clock_ahead_seconds": heartbeat.clock_ahead_seconds if heartbeat else None,
        "volumes": [asdict(volume) | repairs.get(volume.path, {}) for volume in heartbeat.volumes] if heartbeat else [],
        "advice": advise(member),
        "removal": asdict(removal) if (removal := status.removals.get(member.record.name)) else None,
        "orphans_held": held.held if (held := status.held.get(member.record.name)) else 0,
        "orphans_held_bytes": held.held_bytes if held else 0,
        "checksum_errors": damage.found if (damage := status.damage.get(member.record.name)) else 0,
        "pieces_mended": damage.mended if damage else 0,
        "damaged_last": damage.last_ms / 1000 if damage and damage.last_ms else None,
    }
