"""The calls that say how the node and its cluster are: status, health, readiness, metrics."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from types import MappingProxyType
from typing import TYPE_CHECKING

from flared import __version__
from flared.api.admin.advice import advise, advise_member, advise_metadata
from flared.api.admin.obstacles import explain_stay, explain_write_obstacle
from flared.api.admin.sentences import explain, explain_repair
from flared.api.errors import RETRY_AFTER_SECONDS
from flared.http.error_body import JSON
from flared.http.messages import Reply, Request
from flared.http.metrics import send_metrics
from flared.http.percent import parse_query
from flared.upkeep.problems import VolumeFailed, problems_of_metadata

if TYPE_CHECKING:
    from flared.meta.kv import Health
    from flared.metrics import Durations, Metric
    from flared.upkeep.failure import StayReason
    from flared.upkeep.membership.member import Member
    from flared.upkeep.status import ClusterStatus, WriteObstacle


class StatusCalls:
    """The calls. ``obstacle`` returns why no put is taken, or None; ``without`` why a data node must not go down."""

    def __init__(
        self,
        *,
        status: Callable[[], Mapping[str, object]],
        obstacle: Callable[[], WriteObstacle | None],
        without: Callable[[str], StayReason | None],
        metrics: Callable[[], Iterable[Metric | Durations]],
    ) -> None:
        self._status = status
        self._obstacle = obstacle
        self._without = without
        self._metrics = metrics

    async def status(self, request: Request, reply: Reply) -> None:
        parse_query(request.query)
        await reply.send(200, JSON, json.dumps(self._status(), ensure_ascii=False).encode() + b"\n")

    async def health(self, request: Request, reply: Reply) -> None:
        """Alive: the event loop turns."""
        parse_query(request.query)
        await reply.send(200, b"content-type: text/plain\r\n", b"ok\n")

    async def ready(self, request: Request, reply: Reply) -> None:
        """Answer whether puts are taken; with ``?without=NODE``, whether that data node may go down now."""
        query = parse_query(request.query, "without")
        if "without" in query:
            reason = self._without(query["without"])
            obstacle = "" if reason is None else explain_stay(reason)
        else:
            found = self._obstacle()
            obstacle = "" if found is None else explain_write_obstacle(found)
        if not obstacle:
            return await reply.send(200, b"content-type: text/plain\r\n", b"ready\n")
        head = b"content-type: text/plain\r\nretry-after: %d\r\n" % RETRY_AFTER_SECONDS
        return await reply.send(503, head, f"{obstacle}\n".encode())

    async def metrics(self, request: Request, reply: Reply) -> None:
        parse_query(request.query)
        await send_metrics(reply, self._metrics())


def describe_status(
    status: ClusterStatus, ours: Mapping[str, object], certificates: Mapping[str, float] = MappingProxyType({})
) -> dict[str, object]:
    """Return the answer of /status; ``ours`` is the api node's own entry among the nodes, and ``certificates`` says
    when that of a data node ends, in seconds since 1970, by its name."""
    totals = status.totals
    members = [
        {**describe_member(member, status), "certificate_ends": certificates.get(member.record.name)}
        for member in status.members
    ]
    return {
        "health": status.health,
        "reasons": [explain(problem) for problem in status.problems],
        "advice": advise(status),
        "version": __version__,
        "time": round(time.time(), 3),
        "cluster": status.cluster,
        "objects": totals.objects,
        "bytes": totals.bytes,
        "chunks": totals.chunks,
        "stored_bytes": totals.stored_bytes,
        "exact": totals.exact,
        "old_versions": totals.versions,
        "old_version_bytes": totals.version_bytes,
        "degraded_chunks": status.heal.backlog,
        "lost_chunks": status.heal.lost,
        "unavailable_pieces": status.unavailable,
        "nodes": [ours, *members],
        "metadata": describe_metadata(status.metadata, status.metadata_older),
        "heal": asdict(status.heal),
        "sweep": asdict(status.sweep),
        "uploads": asdict(status.uploads),
        "reconcile": asdict(status.reconcile),
    }


def describe_metadata(health: Health, older: str) -> dict[str, object]:
    """Return what is known of the metadata file, and what to type about it.

    ``older`` is why nothing is written, if data nodes have seen newer metadata.
    """
    age = health.check_age_seconds
    return {
        "reasons": [*([older] if older else []), *map(explain, problems_of_metadata(health))],
        "advice": advise_metadata(health, older=bool(older)),
        "older": bool(older),
        "full": health.full,
        "failed": bool(health.failure),
        "damaged_rows": health.damaged_rows,
        "problems": health.problems,
        "checks": health.check_passes,
        "checked_seconds_ago": None if age is None else round(age, 1),
    }


def describe_member(member: Member, status: ClusterStatus) -> dict[str, object]:
    """Return a data node in the answer of /status; what its heartbeat would say is empty until the first one came."""
    heartbeat, seen = member.heartbeat, member.last_seen_seconds
    repairs = {
        problem.path: {"repair": explain_repair(problem), "repaired": problem.repaired}
        for problem in status.problems
        if isinstance(problem, VolumeFailed) and problem.node == member.record.name
    }
    return {
        "name": member.record.name,
        "role": "data",
        "state": "removing" if member.record.is_leaving else member.state.value,
        "state_since_seconds": round(member.state_seconds, 1),
        "zone": member.record.zone,
        "address": member.record.address,
        "version": heartbeat.version if heartbeat else "",
        "used": heartbeat.used if heartbeat else 0,
        "capacity": heartbeat.capacity if heartbeat else member.record.capacity,
        "last_seen_seconds": None if seen is None else round(seen, 1),
        "unreachable": member.unreachable if member.is_only_heard else "",
        "pieces": heartbeat.pieces if heartbeat else 0,
        "clock_ahead_seconds": heartbeat.clock_ahead_seconds if heartbeat else None,
        "volumes": [asdict(volume) | repairs.get(volume.path, {}) for volume in heartbeat.volumes] if heartbeat else [],
        "advice": advise_member(member),
        "removal": asdict(removal) if (removal := status.removals.get(member.record.name)) else None,
        "orphans_held": held.held if (held := status.held.get(member.record.name)) else 0,
        "orphans_held_bytes": held.held_bytes if held else 0,
        "checksum_errors": damage.found if (damage := status.damage.get(member.record.name)) else 0,
        "pieces_mended": damage.mended if damage else 0,
        "damaged_last": damage.last_ms / 1000 if damage and damage.last_ms else None,
    }
