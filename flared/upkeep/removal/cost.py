"""RemovalCost: what would be lost if a node were taken away now. Nothing is changed here."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
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
    """The chunks that depend on a node which is away, counted in the records of chunks in use."""

    node: str
    waiting: int
    """Chunks that name it and could be made whole elsewhere, but are not yet."""
    unreadable: int
    """Chunks of which no other node that answers has enough."""
    complete: bool
    """All chunks were counted; else the numbers are a beginning."""

    @property
    def is_nothing(self) -> bool:
        return not (self.waiting or self.unreadable)


class RemovalObstacle(Enum):
    """Why a node in its present state cannot be taken away."""

    ALIVE = "alive"
    MAY_RETURN = "may return"
    """It has not been silent for as long as a node may be."""


def obstacle_to_removal(member: Member, *, forced: bool) -> RemovalObstacle | None:
    """Return why a node in this state cannot be taken away; None if its state allows it."""
    if member.answers:
        return RemovalObstacle.ALIVE
    if member.state is NodeState.SUSPECT and not forced:
        return RemovalObstacle.MAY_RETURN
    return None


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
