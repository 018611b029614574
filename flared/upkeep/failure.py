"""Failure: what it would cost to lose a node now: may it go down, and which chunks would be left with too little."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flared.chunks.scheme import parse_scheme
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
    """What would be, if the node failed, on top of the nodes that are away already."""

    node: str
    chunks: int
    """Chunks with a piece on the node that count on it."""
    below_quorum: int
    """Of these, chunks left with fewer pieces than a write must reach; the unreadable ones are among them."""
    unreadable: int
    """Of these, chunks left with fewer pieces than a read needs."""
    complete: bool
    """Whether all chunks were looked at; else the numbers are a beginning."""


def reason_node_must_stay(store: Store, membership: Membership, upkeep: Upkeep, node: str) -> str:
    """Why the data node ``node`` must not go down now; empty if it may. From memory, without a scan.

    It goes by the scheme that new buckets get: a bucket with fewer copies may have objects on this node alone.
    """
    members = membership.members()
    if node not in {member.record.name for member in members}:
        return f"there is no data node {node} in this cluster"
    others = [member for member in members if member.record.name != node]
    scheme = parse_scheme(store.defaults.scheme)
    if membership.age.is_older:
        return membership.age.reason
    usable = sum(member.takes_writes for member in others)
    if usable < scheme.quorum:
        nodes = "node takes" if usable == 1 else "nodes take"
        return f"without {node} {usable} data {nodes} writes; {scheme.text} needs {scheme.quorum}"
    troubles = (_trouble(member, upkeep) for member in others)
    return next((trouble for trouble in troubles if trouble), "") or _about_repair(upkeep)


def _trouble(member: Member, upkeep: Upkeep) -> str:
    """What keeps this node from standing in for another one; one that is being removed is not to.

    A volume whose pieces are known to be missing does not: what of them is not made again yet waits for repair.
    """
    if member.record.is_leaving:
        return ""
    if member.is_away:
        return f"node {member.record.name} is {member.state.value}"
    if member.unchecked:
        return f"node {member.record.name} has not been compared with the records: {member.unchecked}"
    volumes = member.heartbeat.volumes if member.heartbeat else ()
    for volume in volumes:
        repair = upkeep.lost_volumes.repair_of(member.record.name, volume.path) if volume.state == "failed" else None
        if volume.state == "replaying" or (volume.state == "failed" and (repair is None or repair.share < 1)):
            return f"volume {volume.path} on node {member.record.name} is {volume.state}"
    return ""


def _about_repair(upkeep: Upkeep) -> str:
    heal = upkeep.heal.statistics()
    if not heal.passes:
        return "this api node has only just started and does not know yet what waits for repair"
    return f"chunks wait for repair: {heal.backlog}" if heal.backlog else ""


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
    """How many pieces of a chunk could still be had without ``node``; None if it has none that counts."""
    if not record.references:
        return None  # garbage
    good = [owner for number, owner in enumerate(record.nodes) if number not in record.missing]
    if node not in good:
        return None
    return sum(owner != node and store.chunks.nodes.has_all_recorded(owner) for owner in good)
