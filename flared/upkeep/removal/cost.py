"""RemovalCost: whether a node may be taken away now, and what would be lost. Nothing is changed here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flared.chunks.scheme import parse_scheme
from flared.cluster.states import NodeState
from flared.upkeep.survey import visit_chunks

if TYPE_CHECKING:
    from flared.catalog.chunks import ChunkRecord
    from flared.names import NodeName
    from flared.objects.store import Store
    from flared.upkeep.membership.member import Member


@dataclass(frozen=True, slots=True)
class RemovalCost:
    """What depends on a node that is away, counted in the records of chunks that are in use."""

    node: str
    waiting: int
    """Chunks that name it and could be made whole elsewhere, but are not yet."""
    unreadable: int
    """Chunks of which no other node that answers has enough."""
    complete: bool
    """Whether all chunks were looked at; else the numbers are a beginning."""


def obstacle_to_removal(member: Member, repair_after: float, *, forced: bool) -> str:
    """Why a node in this state cannot be taken away; empty if it can, as far as that goes."""
    name, host = member.record.name, member.record.address.rpartition(":")[0]
    if member.answers:
        return (
            f"node {name} is {member.state.value}, heard {member.last_seen_seconds or 0:.0f} s ago: "
            f"stop it first, on {host}: systemctl disable --now flared@data.socket flared@data"
        )
    if member.state is NodeState.SUSPECT and not forced:
        return (
            f"node {name} is suspect, not offline: it may come back until it has been silent for {repair_after:.0f} s "
            "(repair_after); then what it held is made again elsewhere, and it can be removed"
        )
    return ""


def explain_cost(cost: RemovalCost) -> str:
    """Why a node must not be taken away, after counting; empty if nothing counts on it."""
    if not cost.waiting and not cost.unreadable:
        return ""
    least = "" if cost.complete else "at least "
    parts = [f"{least}{cost.unreadable:,} chunks have no other copy that answers"] if cost.unreadable else []
    parts += [f"{least}{cost.waiting:,} chunks lack the copy that was on it"] if cost.waiting else []
    todo = [f"bring {cost.node} or the other nodes back"] if cost.unreadable else []
    todo += ["wait for repair (flarectl status), with a further data node if there are too few"] if cost.waiting else []
    return f"node {cost.node} is still needed: {', and '.join(parts)}; {'; '.join(todo)}; or --force"


async def find_removal_cost(store: Store, node: NodeName) -> RemovalCost:
    """Count in the records of all chunks what still counts on ``node``."""
    waiting = unreadable = 0

    def visit(record: ChunkRecord) -> None:
        nonlocal waiting, unreadable
        if not record.references or node not in record.nodes:
            return
        certain = store.chunks.nodes.has_all_recorded
        good = sum(
            owner != node and number not in record.missing and certain(owner)
            for number, owner in enumerate(record.nodes)
        )
        if good < parse_scheme(record.scheme).needed:
            unreadable += 1
        else:
            waiting += 1

    complete = await visit_chunks(store, visit)
    return RemovalCost(node, waiting, unreadable, complete)
