"""Status: what an operator asks first, as one value: is anything wrong, what is affected, who is there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from flared.cluster.states import NodeState
from flared.upkeep.problems import (
    HeartbeatRefused,
    MetadataDiskFull,
    MetadataFailed,
    NodeLeaving,
    OlderMetadata,
    OrphansHeld,
    Problem,
    Shortage,
    VolumeFailed,
    find_shortage,
    problems_of_chunks,
    problems_of_metadata,
    problems_of_nodes,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from flared.catalog.damage import NodeDamage
    from flared.catalog.orphans import OrphanRecord
    from flared.catalog.totals import TotalsNow
    from flared.meta.kv import Health as MetadataHealth
    from flared.names import NodeName
    from flared.objects.store import Store
    from flared.upkeep.deletion.old_uploads import OldUploadsStatistics
    from flared.upkeep.deletion.reconcile import ReconcileStatistics
    from flared.upkeep.deletion.sweep import SweepStatistics
    from flared.upkeep.membership.member import Member
    from flared.upkeep.membership.membership import Membership
    from flared.upkeep.removal.removal import RemovalProgress
    from flared.upkeep.repair.heal import HealStatistics
    from flared.upkeep.workers import Upkeep

Health = Literal["ok", "degraded", "down"]
WriteObstacle = MetadataFailed | MetadataDiskFull | OlderMetadata | Shortage

REFUSALS_SHOWN = 3


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    health: Health
    problems: tuple[Problem, ...]
    """Everything that keeps the health from ``ok``, the most important first."""
    cluster: str
    totals: TotalsNow
    members: tuple[Member, ...]
    heal: HealStatistics
    sweep: SweepStatistics
    uploads: OldUploadsStatistics
    reconcile: ReconcileStatistics
    removals: dict[NodeName, RemovalProgress]
    """Of nodes that are being taken away."""
    held: dict[NodeName, OrphanRecord]
    """Nodes of which orphans are held back."""
    metadata: MetadataHealth
    metadata_older: str
    """The message of the error that writes get, if data nodes have seen newer metadata."""
    damage: dict[NodeName, NodeDamage]
    """The damage found on each node."""
    unavailable: int
    """Pieces on nodes that are away."""


def find_status(store: Store, membership: Membership, upkeep: Upkeep) -> ClusterStatus:
    """Return the state of everything this api node knows; from memory, without a scan."""
    members = tuple(membership.members())
    removals = {
        member.record.name: upkeep.removal.progress_of(member.record.name)
        for member in members
        if member.record.is_leaving
    }
    held = upkeep.reconcile.brake.held()
    heal = upkeep.heal.statistics()
    metadata = store.kv.health()
    problems = tuple(_find_problems(store, membership, upkeep, members, removals, held))
    obstacle = find_write_obstacle(store, membership)
    return ClusterStatus(
        "down" if obstacle else "degraded" if problems else "ok",
        problems,
        membership.cluster,
        store.totals.now(),
        members,
        heal,
        upkeep.sweep.statistics(),
        upkeep.old_uploads.statistics(),
        upkeep.reconcile.statistics(),
        removals,
        held,
        metadata,
        membership.age.reason,
        {member.record.name: upkeep.heal.damage_log.of_node(member.record.name) for member in members},
        unavailable_pieces(members, settled=upkeep.lost_nodes.settled),
    )


def _find_problems(
    store: Store,
    membership: Membership,
    upkeep: Upkeep,
    members: tuple[Member, ...],
    removals: dict[NodeName, RemovalProgress],
    held: dict[NodeName, OrphanRecord],
) -> Iterator[Problem]:
    # What stops writes comes first, then nodes and volumes, then what they leave behind.
    older = membership.age.reason
    if older:
        yield OlderMetadata(older)
    yield from problems_of_metadata(store.kv.health())
    shortage = None if older else find_shortage(store.defaults.scheme, members)
    if shortage:
        yield shortage
    # A process that is refused matters if nodes lack, or if it runs twice.
    for message in membership.refusals(duplicates=not shortage)[:REFUSALS_SHOWN]:
        yield HeartbeatRefused(message)
    staying = [member for member in members if not member.record.is_leaving]
    yield from problems_of_nodes(staying, membership.repair_after_seconds, settled=upkeep.lost_nodes.settled)
    for name, progress in removals.items():
        yield NodeLeaving(name, progress)
    yield from _failed_volumes(staying, membership.repair_after_seconds, upkeep)
    yield from problems_of_chunks(upkeep.heal.statistics(), members)
    for node, record in sorted(held.items()):
        yield OrphansHeld(node, record)


def find_write_obstacle(store: Store, membership: Membership) -> WriteObstacle | None:
    """Return what keeps this cluster from taking a put of the default scheme now; None if it takes it."""
    health = store.kv.health()
    if health.failure:
        return MetadataFailed(health.failure)
    if health.full:
        return MetadataDiskFull()
    if membership.age.is_older:
        return OlderMetadata(membership.age.reason)
    shortage = find_shortage(store.defaults.scheme, membership.members())
    return shortage if shortage and shortage.stops_writes else None


def _failed_volumes(members: Iterable[Member], repair_after_seconds: float, upkeep: Upkeep) -> Iterator[VolumeFailed]:
    for member in members:
        name = member.record.name
        for volume in member.heartbeat.volumes if member.heartbeat else ():
            if volume.state == "failed":
                yield VolumeFailed(
                    name,
                    volume.path,
                    volume.pieces,
                    volume.state_seconds,
                    volume.reason.rstrip("."),
                    upkeep.lost_volumes.repair_of(name, volume.path),
                    repair_after_seconds,
                    member.is_away,
                )


def unavailable_pieces(members: Iterable[Member], *, settled: bool) -> int:
    """Return how many pieces are on nodes that are away, by their last reports; none that was rebuilt elsewhere."""
    return sum(
        member.heartbeat.pieces if member.heartbeat else member.record.pieces
        for member in members
        if member.is_away and not (settled and member.state is NodeState.OFFLINE)
    )
