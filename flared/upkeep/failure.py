"""Failure: what it would cost to lose a node now: may it go down, and which chunks would be left with too little."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flared.chunks.scheme import parse_scheme
from flared.upkeep.problems import OlderMetadata, Shortage, VolumeNotReady, find_shortage
from flared.upkeep.survey import visit_chunks

if TYPE_CHECKING:
    from flared.catalog.chunks import ChunkRecord
    from flared.names import NodeName
    from flared.objects.store import Store
    from flared.upkeep.membership.member import Member
    from flared.upkeep.membership.membership import Membership
    from flared.upkeep.workers import Upkeep


@dataclass(frozen=True, slots=True)
class FailureCost:
    """The loss if the node failed, on top of the nodes that are away already."""

    node: str
    chunks: int
    """Chunks with a piece on the node that count on it."""
    below_quorum: int
    """Of these, chunks left with fewer pieces than a write must reach; the unreadable ones are among them."""
    unreadable: int
    """Of these, chunks left with fewer pieces than a read needs."""
    complete: bool
    """All chunks were counted; else the numbers are a beginning."""


@dataclass(frozen=True, slots=True)
class UnknownNode:
    node: str


@dataclass(frozen=True, slots=True)
class ShortageWithout:
    """Without the node too few data nodes take writes for the scheme of new buckets."""

    node: str
    shortage: Shortage


@dataclass(frozen=True, slots=True)
class UnfitMember:
    """Another node cannot stand in for it: it is away, or has not been compared with the records."""

    member: Member


@dataclass(frozen=True, slots=True)
class RepairUnknown:
    """This api node has just started and does not know yet what waits for repair."""


@dataclass(frozen=True, slots=True)
class RepairWaiting:
    chunks: int


StayReason = (
    UnknownNode | OlderMetadata | ShortageWithout | UnfitMember | VolumeNotReady | RepairUnknown | RepairWaiting
)


def reason_node_must_stay(store: Store, membership: Membership, upkeep: Upkeep, node: str) -> StayReason | None:
    """Return why the data node ``node`` must not go down now; None if it may. From memory, without a scan.

    It goes by the scheme that new buckets get: a bucket with fewer copies may have objects on this node alone.
    """
    members = membership.members()
    if node not in {member.record.name for member in members}:
        return UnknownNode(node)
    others = [member for member in members if member.record.name != node]
    if membership.age.is_older:
        return OlderMetadata(membership.age.reason)
    shortage = find_shortage(store.defaults.scheme, others)
    if shortage and shortage.stops_writes:
        return ShortageWithout(node, shortage)
    for member in others:
        if reason := _reason_unfit(member, upkeep):
            return reason
    heal = upkeep.heal.statistics()
    if not heal.passes:
        return RepairUnknown()
    return RepairWaiting(heal.backlog) if heal.backlog else None


def _reason_unfit(member: Member, upkeep: Upkeep) -> UnfitMember | VolumeNotReady | None:
    """Return what keeps this node from standing in for another one; one that is being removed need not.

    A volume whose pieces are known to be missing is no reason: those not made again yet count as waiting for repair.
    """
    if member.record.is_leaving:
        return None
    if member.is_away or member.unchecked:
        return UnfitMember(member)
    name = member.record.name
    for volume in member.heartbeat.volumes if member.heartbeat else ():
        repair = upkeep.lost_volumes.repair_of(name, volume.path) if volume.state == "failed" else None
        if volume.state == "replaying" or (volume.state == "failed" and (repair is None or repair.share < 1)):
            return VolumeNotReady(name, volume.path, volume.state)
    return None


async def find_failure_cost(store: Store, node: NodeName) -> FailureCost:
    """Count in the records of all chunks what depends on ``node``."""
    chunks = below_quorum = unreadable = 0

    def visit(record: ChunkRecord) -> None:
        nonlocal chunks, below_quorum, unreadable
        left = pieces_left(store, record, node)
        if left is not None:
            scheme = parse_scheme(record.scheme)
            chunks += 1
            below_quorum += left < scheme.quorum
            unreadable += left < scheme.needed

    complete = await visit_chunks(store, visit)
    return FailureCost(node, chunks, below_quorum, unreadable, complete=complete)


def pieces_left(store: Store, record: ChunkRecord, node: NodeName) -> int | None:
    """Return how many pieces of a chunk would be left without ``node``; None if it has none that counts."""
    if not record.references:
        return None  # garbage
    good = [owner for number, owner in enumerate(record.nodes) if number not in record.missing]
    if node not in good:
        return None
    return sum(owner != node and store.chunks.nodes.has_all_recorded(owner) for owner in good)
