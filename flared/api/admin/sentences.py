"""Sentences: what ``upkeep`` found, in words. One sentence for each problem. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from flared.cluster.states import NodeState
from flared.upkeep.deletion.brake import HELD_MS, HOUR_MS
from flared.upkeep.problems import (
    ChunksLost,
    ChunksUnplaced,
    ChunksWaiting,
    DamagedFile,
    DamagedRows,
    HeartbeatRefused,
    MetadataDiskFull,
    MetadataFailed,
    NodeAway,
    NodeFull,
    NodeLeaving,
    NodeUnchecked,
    OlderMetadata,
    OrphansHeld,
    Problem,
    Shortage,
    VolumeFailed,
    VolumeNotReady,
)

if TYPE_CHECKING:
    from flared.catalog.orphans import OrphanRecord

PROBLEMS_SHOWN = 3


def explain(problem: Problem) -> str:
    match problem:
        case OlderMetadata():
            return problem.message
        case MetadataFailed():
            return f"writes are refused: {problem.failure}; nothing is written until the api node is restarted"
        case MetadataDiskFull():
            return "writes are refused: the disk of the metadata is full; reads and deletes go on"
        case DamagedRows() | DamagedFile():
            return _explain_damage(problem)
        case Shortage():
            return _explain_shortage(problem)
        case HeartbeatRefused():
            return f"refused: {problem.message}"
        case NodeAway() | NodeFull() | NodeUnchecked():
            return _explain_node(problem)
        case VolumeNotReady():
            return f"volume {problem.path} on node {problem.node} is {problem.state}"
        case VolumeFailed():
            why = f" ({problem.reason})" if problem.reason else ""
            lasts = span_of(problem.seconds)
            return f"volume {problem.path} on node {problem.node} is failed for {lasts}{why}: {explain_repair(problem)}"
        case NodeLeaving():
            waiting = problem.progress.waiting
            rest = f"; chunks that count on it and wait for repair: {waiting:,}" if waiting else ""
            return f"node {problem.node} is being removed: {problem.progress.share:.0%} of the chunks looked at{rest}"
        case ChunksUnplaced() | ChunksWaiting() | ChunksLost():
            return _explain_chunks(problem)
        case OrphansHeld():
            return _explain_held(problem.node, problem.record)
        case _:
            assert_never(problem)


def _explain_damage(problem: DamagedRows | DamagedFile) -> str:
    if isinstance(problem, DamagedRows):
        rows = "1 row of the metadata is" if problem.count == 1 else f"{problem.count} rows of the metadata are"
        return f"{rows} damaged, of the key {problem.key!r}" + (" and others" if problem.count > 1 else "")
    shown = "; ".join(problem.problems[:PROBLEMS_SHOWN])
    return f"the metadata file is damaged: {shown}; no piece is deleted as an orphan until it is sound"


def _explain_shortage(problem: Shortage) -> str:
    scheme, usable = problem.scheme, problem.usable
    if problem.stops_writes:
        return f"writes are refused: {scheme.text} needs {scheme.quorum} data nodes that take them, {usable} can"
    return f"new objects lack copies: {scheme.text} wants {scheme.pieces} data nodes, {usable} take writes"


def _explain_node(problem: NodeAway | NodeFull | NodeUnchecked) -> str:
    member = problem.member
    name = member.record.name
    if isinstance(problem, NodeFull):
        lasts = span_of(member.state_seconds)
        return f"node {name} takes no new data: none of its volumes has room or is writable, for {lasts}"
    if isinstance(problem, NodeUnchecked):
        return (
            f"node {name} is being compared with the records, and its pieces do not count until it has been: "
            f"{member.unchecked}"
        )
    seen = member.last_seen_seconds
    if member.is_only_heard:
        lasts = span_of(member.unreachable_seconds)
        since = f"it is heard, but cannot be called ({member.unreachable}), for {lasts}"
    else:
        since = "not heard from since this api node started" if seen is None else f"silent for {span_of(seen)}"
    return f"node {name} is {member.state.value}: {since}; {_at_stake(problem)}"


def _at_stake(problem: NodeAway) -> str:
    """Return what is affected by a node's silence, and what comes of it."""
    member = problem.member
    held = f"its {member.heartbeat.pieces:,} pieces" if member.heartbeat else "its pieces"
    if problem.settled:
        return "nothing waits for it, all that it held was rebuilt elsewhere"
    if member.state is NodeState.OFFLINE:
        return f"{held} are rebuilt elsewhere, as far as there is room"
    left = problem.repair_after_seconds - max(member.last_seen_seconds or 0.0, member.unreachable_seconds)
    condition = f"unless it {'can' if member.is_only_heard else 'returns'}"
    return f"{condition}, {held} are rebuilt elsewhere" + (f" in {span_of(left)}" if left > 0 else "")


def explain_repair(volume: VolumeFailed) -> str:
    """Return how far the pieces of a failed volume are rebuilt elsewhere."""
    repair = volume.repair
    if repair is None:
        if volume.node_is_away:
            return "its node is away"
        held = f"its {volume.pieces:,} pieces" if volume.pieces else "what was on it"
        left = volume.repair_after_seconds - volume.seconds
        return f"{held} will be rebuilt elsewhere" + (f" in {span_of(left)}" if left > 0 else " now")
    if repair.share < 1:
        return f"what was on it is looked for, {repair.share:.0%} done, {repair.pieces:,} pieces so far"
    if repair.waiting:
        return f"its {repair.pieces:,} pieces are being rebuilt elsewhere"
    return f"its {repair.pieces:,} pieces were rebuilt elsewhere" if repair.pieces else "no piece was only on it"


def _explain_chunks(problem: ChunksUnplaced | ChunksWaiting | ChunksLost) -> str:
    if isinstance(problem, ChunksLost):
        return f"chunks with no good piece that can be reached: {problem.count}; their objects cannot be read"
    if isinstance(problem, ChunksWaiting):
        return f"chunks that lack pieces and wait for repair: {problem.count}, for {span_of(problem.seconds)}"
    scheme = problem.scheme
    return (
        f"chunks that cannot be repaired: {problem.count}, for {span_of(problem.seconds)}: {scheme.text} "
        f"wants {scheme.pieces} data nodes, and {problem.usable} take pieces"
    )


def _explain_held(node: str, record: OrphanRecord) -> str:
    days = max(0, HELD_MS - record.waited_ms) / (24 * HOUR_MS)
    pieces = "1 piece" if record.held == 1 else f"{record.held:,} pieces"
    left = f"{days:.0f} days" if days >= 2 else f"{24 * days:.0f} hours"
    return (
        f"node {node} holds {pieces} ({record.held_bytes / 1e6:,.1f} MB) that no record names, more than mishaps "
        f"leave: the metadata may be damaged or old. They are kept for {left} more"
    )


def span_of(seconds: float) -> str:
    """Return ``12 s``, ``5 min``, ``3 h`` or ``2 d``."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
