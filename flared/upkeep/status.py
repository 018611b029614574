"""Status: what an operator asks first, as one value: is anything wrong, what is affected, who is there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from flared.chunks.scheme import parse_scheme
from flared.cluster.states import NodeState
from flared.upkeep.deletion.brake import explain_held
from flared.upkeep.membership.metadata_age import ADVICE
from flared.upkeep.metadata import advise_metadata, explain_metadata, obstacle_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from flared.catalog.damage import NodeDamage
    from flared.catalog.orphans import OrphanRecord
    from flared.catalog.totals import TotalsNow
    from flared.data.report import VolumeReport
    from flared.meta.kv import Health as MetadataHealth
    from flared.names import NodeName
    from flared.objects.store import Store
    from flared.upkeep.deletion.reconcile import ReconcileStatistics
    from flared.upkeep.deletion.sweep import SweepStatistics
    from flared.upkeep.membership.member import Member
    from flared.upkeep.membership.membership import Membership
    from flared.upkeep.removal.removal import RemovalProgress
    from flared.upkeep.repair.heal import HealStatistics
    from flared.upkeep.repair.lost_volumes import VolumeRepair
    from flared.upkeep.workers import Upkeep

Health = Literal["ok", "degraded", "down"]

REFUSALS_SHOWN = 3


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    health: Health
    reasons: tuple[str, ...]
    """One sentence for each thing that keeps the health from ``ok``."""
    advice: tuple[str, ...]
    """What to type next."""
    cluster: str
    totals: TotalsNow
    members: tuple[Member, ...]
    heal: HealStatistics
    sweep: SweepStatistics
    reconcile: ReconcileStatistics
    failed_volumes: tuple[FailedVolume, ...]
    removals: dict[NodeName, RemovalProgress]
    """Of nodes that are being taken away."""
    metadata_older: str
    """Why nothing is written, if data nodes have seen newer metadata."""
    held: dict[NodeName, OrphanRecord]
    """Nodes of which orphans are held back."""
    metadata: MetadataHealth
    damage: dict[NodeName, NodeDamage]
    """What was found damaged on each node."""
    unavailable: int
    """Pieces on nodes that are away."""


@dataclass(frozen=True, slots=True)
class FailedVolume:
    """A volume that failed under a node that lives, and how far its pieces are made again elsewhere."""

    node: NodeName
    path: str
    repair: str
    """In words."""
    repaired: bool
    """Whether nothing waits for it any more."""
    seconds: float
    reason: str

    @property
    def sentence(self) -> str:
        why = f" ({self.reason})" if self.reason else ""
        return f"volume {self.path} on node {self.node} is failed for {_lasted(self.seconds)}{why}: {self.repair}"


def find_status(store: Store, membership: Membership, upkeep: Upkeep) -> ClusterStatus:
    """The state of everything this api node knows; from memory, without a scan."""
    members = tuple(membership.members())
    heal = upkeep.heal.statistics()
    older = membership.age.reason
    writes = [] if older else _about_writes(store, members)
    volumes = _find_volume_repairs(members, membership, upkeep)
    removals = {
        member.record.name: upkeep.removal.progress_of(member.record.name)
        for member in members
        if member.record.is_leaving
    }
    staying = tuple(member for member in members if member.record.name not in removals)
    refusals = membership.refusals(duplicates=not writes)
    held = upkeep.reconcile.brake.held()
    metadata = store.kv.health()
    reasons = [
        *([older] if older else []),
        *explain_metadata(metadata),
        *writes,
        *(f"refused: {words}" for words in refusals[:REFUSALS_SHOWN]),
        *_about_nodes(staying, membership.repair_after_seconds, settled=upkeep.lost_nodes.settled),
        *(_about_removal(name, progress) for name, progress in removals.items()),
        *(repair.sentence for repair in volumes),
        *_about_chunks(heal, members),
        *(explain_held(node, record) for node, record in sorted(held.items())),
    ]
    down = older or obstacle(store, membership)
    health: Health = "down" if down else "degraded" if reasons else "ok"
    return ClusterStatus(
        health,
        tuple(reasons),
        (
            *([ADVICE] if older else []),
            *advise_metadata(metadata),
            *_advise(members, heal, lacking=bool(writes), refused=bool(refusals)),
            *(f"flarectl node orphans {node}" for node in sorted(held)),
        ),
        membership.cluster,
        store.totals.now(),
        members,
        heal,
        upkeep.sweep.statistics(),
        upkeep.reconcile.statistics(),
        tuple(volumes),
        removals,
        older,
        held,
        metadata,
        {member.record.name: upkeep.heal.damage_log.of_node(member.record.name) for member in members},
        unavailable_pieces(members, settled=upkeep.lost_nodes.settled),
    )


def obstacle(store: Store, membership: Membership) -> str:
    """Why this cluster cannot take a put of the default scheme now; empty if it can."""
    engine = obstacle_of(store.kv.health())
    if engine:
        return engine
    scheme = parse_scheme(store.defaults.scheme)
    if membership.age.is_older:
        return f"{membership.age.reason}; {ADVICE}"
    members = membership.members()
    usable = [member for member in members if member.takes_writes]
    if len(usable) >= scheme.quorum:
        return ""
    if waiting := [member.record.name for member in members if not member.compared]:
        return (
            f"{scheme.text} needs {scheme.quorum} data nodes that take writes, {len(usable)} can: node {waiting[0]} "
            "has not said yet how new the metadata was that it has seen"
        )
    return f"{scheme.text} needs {scheme.quorum} data nodes that take writes, {len(usable)} can"


def _about_writes(store: Store, members: tuple[Member, ...]) -> list[str]:
    scheme = parse_scheme(store.defaults.scheme)
    usable = sum(member.takes_writes for member in members)
    if usable < scheme.quorum:
        return [f"writes are refused: {scheme.text} needs {scheme.quorum} data nodes that take them, {usable} can"]
    if usable < scheme.pieces:
        return [f"new objects lack copies: {scheme.text} wants {scheme.pieces} data nodes, {usable} take writes"]
    return []


def _about_nodes(members: tuple[Member, ...], repair_after: float, *, settled: bool) -> list[str]:
    reasons = []
    for member in members:
        name = member.record.name
        if member.is_away:
            seen = member.last_seen_seconds
            if member.is_only_heard:
                lasts = _lasted(member.unreachable_seconds)
                since = f"it is heard, but cannot be called ({member.unreachable}), for {lasts}"
            else:
                since = "not heard from since this api node started" if seen is None else f"silent for {_lasted(seen)}"
            reasons.append(f"node {name} is {member.state.value}: {since}; {_at_stake(member, repair_after, settled)}")
        elif member.state is NodeState.FULL:
            reasons.append(
                f"node {name} takes no new data: none of its volumes has room or is writable, "
                f"for {_lasted(member.state_seconds)}"
            )
        if member.unchecked and member.answers:
            reasons.append(
                f"node {name} is being compared with the records, and its pieces do not count until it has been: "
                f"{member.unchecked}"
            )
        if member.heartbeat is not None:
            reasons += [
                f"volume {volume.path} on node {name} is {volume.state}"
                for volume in member.heartbeat.volumes
                if volume.state not in ("ok", "full", "failed")
            ]
    return reasons


def _at_stake(member: Member, repair_after: float, settled: bool) -> str:
    """What is affected by a node's silence, and what comes of it."""
    held = f"its {member.heartbeat.pieces:,} pieces" if member.heartbeat else "its pieces"
    if member.state is NodeState.OFFLINE and settled:
        return "nothing waits for it, all that it held was made again elsewhere"
    if member.state is NodeState.OFFLINE:
        return f"{held} are made again elsewhere, as far as there is room"
    left = repair_after - max(member.last_seen_seconds or 0.0, member.unreachable_seconds)
    return f"unless it {'can' if member.is_only_heard else 'returns'}, {held} are made again elsewhere" + (
        f" in {_lasted(left)}" if left > 0 else ""
    )


def _find_volume_repairs(members: tuple[Member, ...], membership: Membership, upkeep: Upkeep) -> list[FailedVolume]:
    found = []
    for member in members:
        name = member.record.name
        if member.record.is_leaving:
            continue
        for volume in member.heartbeat.volumes if member.heartbeat else ():
            if volume.state == "failed":
                repair = upkeep.lost_volumes.repair_of(name, volume.path)
                words = _repair_words(member, volume, repair, membership.repair_after_seconds)
                repaired = repair is not None and not repair.waiting
                found.append(
                    FailedVolume(name, volume.path, words, repaired, volume.state_seconds, volume.reason.rstrip("."))
                )
    return found


def _repair_words(member: Member, volume: VolumeReport, repair: VolumeRepair | None, repair_after: float) -> str:
    if repair is None:
        if member.is_away:
            return "its node is away"
        held = f"its {volume.pieces:,} pieces" if volume.pieces else "what was on it"
        left = repair_after - volume.state_seconds
        return f"{held} will be made again elsewhere" + (f" in {_lasted(left)}" if left > 0 else " now")
    if repair.share < 1:
        return f"what was on it is looked for, {repair.share:.0%} done, {repair.pieces:,} pieces so far"
    if repair.waiting:
        return f"its {repair.pieces:,} pieces are being made again elsewhere"
    return f"its {repair.pieces:,} pieces were made again elsewhere" if repair.pieces else "no piece was only on it"


def _about_removal(name: NodeName, progress: RemovalProgress) -> str:
    waiting = f"; chunks that count on it and wait for repair: {progress.waiting:,}" if progress.waiting else ""
    return f"node {name} is being removed: {progress.share:.0%} of the chunks looked at{waiting}"


def unavailable_pieces(members: Iterable[Member], *, settled: bool) -> int:
    """Pieces on nodes that are away, as these last said; none once all of them were made again elsewhere."""
    away = [member for member in members if member.is_away]
    return sum(
        member.heartbeat.pieces if member.heartbeat else member.record.pieces
        for member in away
        if not (settled and member.state is NodeState.OFFLINE)
    )


def _about_chunks(heal: HealStatistics, members: Sequence[Member]) -> list[str]:
    reasons = []
    unplaced = min(heal.unplaced, heal.backlog)
    if unplaced:
        usable = sum(member.state is NodeState.ONLINE for member in members)
        wanted = parse_scheme(heal.unplaced_scheme).pieces
        reasons.append(
            f"chunks that cannot be repaired: {unplaced}, for {_lasted(heal.backlog_seconds)}: {heal.unplaced_scheme} "
            f"wants {wanted} data nodes, and {usable} take pieces"
        )
    if heal.backlog > unplaced:
        reasons.append(
            f"chunks that lack pieces and wait for repair: {heal.backlog - unplaced}, "
            f"for {_lasted(heal.backlog_seconds)}"
        )
    if heal.lost:
        reasons.append(f"chunks with no good piece that can be reached: {heal.lost}; their objects cannot be read")
    return reasons


def _advise(members: tuple[Member, ...], heal: HealStatistics, *, lacking: bool, refused: bool) -> list[str]:
    """What to type next, the most urgent first."""
    lines = [
        f"flarectl node show {member.record.name}; {line}" if _bad_volumes(member) else line
        for member in members
        for line in advise(member)[:1]
    ]
    gone = [member for member in members if member.state is NodeState.OFFLINE and not member.record.is_leaving]
    lines += [f"if {member.record.name} is gone for good: flarectl node rm {member.record.name}" for member in gone]
    if refused:
        what = "; if this is not those nodes' metadata: flared restore" if lacking else ""
        lines.append(f"journalctl -u 'flared@*' -g node_refused{what}")
    elif lacking and not lines:
        lines.append("flarectl node invite; on a further data host: flared init data --join TOKEN")
    if heal.lost:
        lines.insert(
            0, "flarectl node ls    (bring back the nodes and disks that held the lost copies; delete nothing)"
        )
    if heal.unplaced and not any("node invite" in line for line in lines):
        away = any(member.is_away for member in members)
        instead = "if it does not come back: " if away else ""
        lines.append(f"{instead}flarectl node invite; on a further data host: flared init data --join TOKEN")
    if heal.backlog > heal.lost + heal.unplaced and not lines:
        lines.append("flarectl status --watch    (repair goes on by itself)")
    return lines


def advise(member: Member) -> list[str]:
    """What to type about one node."""
    if member.record.is_leaving:
        return [
            f"flarectl status --watch    (it goes on by itself; flarectl node add {member.record.name} calls it off)"
        ]
    host = f"on {member.record.name} ({member.record.address.rpartition(':')[0]})"
    if member.is_away:
        gone = f"if it is gone for good: flarectl node rm {member.record.name}"
        if member.is_only_heard:
            address = member.record.address
            return [
                f"{host}: open {address} to the api node, or correct advertise in /etc/flare/data.toml and restart",
                f"to try whether it answers, here: curl http://{address}/healthz",
            ]
        lines = [f"{host}: flared doctor; journalctl -u 'flared@*' -n 50"]
        return [*lines, gone] if member.state is NodeState.OFFLINE else lines
    bad = _bad_volumes(member)
    if bad:
        again = "systemctl restart flared@data"
        return [
            f"{host}: flared doctor",
            f"{host}, to try the disk again, which only a start does: {again}",
            *(f"with a new disk at {path}: flared prepare --new {path} /etc/flare/data.toml; {again}" for path in bad),
        ]
    if member.state is NodeState.FULL:
        return [f"{host}: flared doctor; for more room a disk or a host more (docs/operations.md), or flarectl rm"]
    return []


def _bad_volumes(member: Member) -> list[str]:
    """The paths of its volumes that failed, while the node itself is there."""
    if member.heartbeat is None or not member.answers:
        return []
    return [volume.path for volume in member.heartbeat.volumes if volume.state in ("failed", "readonly")]


def _lasted(seconds: float) -> str:
    """``12 s``, ``5 min``, ``3 h``, ``2 d``."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
