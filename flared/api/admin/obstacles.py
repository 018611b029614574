"""Obstacles: why something cannot be done now, in words with what to do about it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from flared.api.admin.advice import OLDER
from flared.upkeep.failure import (
    RepairUnknown,
    RepairWaiting,
    ShortageWithout,
    StayReason,
    UnfitMember,
    UnknownNode,
)
from flared.upkeep.problems import MetadataDiskFull, MetadataFailed, OlderMetadata, Shortage, VolumeNotReady
from flared.upkeep.removal.cost import RemovalCost, RemovalObstacle

if TYPE_CHECKING:
    from flared.upkeep.membership.member import Member
    from flared.upkeep.status import WriteObstacle


def explain_write_obstacle(obstacle: WriteObstacle) -> str:
    """Return why no put is taken now."""
    match obstacle:
        case MetadataFailed():
            return f"{obstacle.failure}; nothing is written until the api node is restarted"
        case MetadataDiskFull():
            return "the disk of the metadata is full: make room on it, or delete objects; it goes on by itself"
        case OlderMetadata():
            return f"{obstacle.message}; {OLDER}"
        case Shortage():
            scheme = obstacle.scheme
            needs = f"{scheme.text} needs {scheme.quorum} data nodes that take writes, {obstacle.usable} can"
            if obstacle.waiting is None:
                return needs
            return f"{needs}: node {obstacle.waiting} has not said yet how new the metadata was that it has seen"
        case _:
            assert_never(obstacle)


def explain_stay(reason: StayReason) -> str:
    """Return why a node must not go down now."""
    match reason:
        case UnknownNode():
            return f"there is no data node {reason.node} in this cluster"
        case OlderMetadata():
            return reason.message
        case ShortageWithout():
            scheme, usable = reason.shortage.scheme, reason.shortage.usable
            nodes = "node takes" if usable == 1 else "nodes take"
            return f"without {reason.node} {usable} data {nodes} writes; {scheme.text} needs {scheme.quorum}"
        case UnfitMember(member):
            if member.is_away:
                return f"node {member.record.name} is {member.state.value}"
            return f"node {member.record.name} has not been compared with the records: {member.unchecked}"
        case VolumeNotReady():
            return f"volume {reason.path} on node {reason.node} is {reason.state}"
        case RepairUnknown():
            return "this api node has only just started and does not know yet what waits for repair"
        case RepairWaiting():
            return f"chunks wait for repair: {reason.chunks}"
        case _:
            assert_never(reason)


def explain_removal_obstacle(obstacle: RemovalObstacle, member: Member, repair_after_seconds: float) -> str:
    """Return why the state of this node does not allow to take it away."""
    name, host = member.record.name, member.record.address.rpartition(":")[0]
    if obstacle is RemovalObstacle.ALIVE:
        return (
            f"node {name} is {member.state.value}, heard {member.last_seen_seconds or 0:.0f} s ago: "
            f"stop it first, on {host}: systemctl disable --now flared@data.socket flared@data"
        )
    return (
        f"node {name} is suspect, not offline: it may come back until it has been silent for "
        f"{repair_after_seconds:.0f} s (repair_after); then what it held is rebuilt elsewhere, and it can be removed"
    )


def explain_cost(cost: RemovalCost) -> str:
    """Return why a node must not be taken away that chunks count on."""
    least = "" if cost.complete else "at least "
    parts = [f"{least}{cost.unreadable:,} chunks have no other copy that answers"] if cost.unreadable else []
    parts += [f"{least}{cost.waiting:,} chunks lack the copy that was on it"] if cost.waiting else []
    todo = [f"bring {cost.node} or the other nodes back"] if cost.unreadable else []
    todo += ["wait for repair (flarectl status), with a further data node if there are too few"] if cost.waiting else []
    return f"node {cost.node} is still needed: {', and '.join(parts)}; {'; '.join(todo)}; or --force"
