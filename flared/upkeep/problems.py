"""Problems: everything that keeps the cluster's health from ``ok``, as values. Faces make sentences of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flared.chunks.scheme import parse_scheme
from flared.cluster.states import NodeState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from flared.catalog.orphans import OrphanRecord
    from flared.chunks.scheme import Scheme
    from flared.meta.kv import Health
    from flared.names import NodeName
    from flared.upkeep.membership.member import Member
    from flared.upkeep.removal.removal import RemovalProgress
    from flared.upkeep.repair.heal import HealStatistics
    from flared.upkeep.repair.lost_volumes import VolumeRepair


@dataclass(frozen=True, slots=True)
class OlderMetadata:
    """Data nodes have seen newer metadata than this: nothing is written."""

    message: str
    """Of the error that writes get."""


@dataclass(frozen=True, slots=True)
class MetadataFailed:
    """The metadata's disk failed a write: nothing is written until a restart."""

    failure: str


@dataclass(frozen=True, slots=True)
class MetadataDiskFull:
    """Nothing but deletes is written."""


@dataclass(frozen=True, slots=True)
class DamagedRows:
    count: int
    key: str
    """Of one of them."""


@dataclass(frozen=True, slots=True)
class DamagedFile:
    problems: tuple[str, ...]
    """As the engine's check words them."""


@dataclass(frozen=True, slots=True)
class Shortage:
    """Fewer data nodes take writes than the scheme of new buckets wants."""

    scheme: Scheme
    usable: int
    waiting: NodeName | None = None
    """One that may take them as soon as it has said how new the metadata was that it has seen."""

    @property
    def stops_writes(self) -> bool:
        return self.usable < self.scheme.quorum


@dataclass(frozen=True, slots=True)
class HeartbeatRefused:
    message: str
    """Of the error that the sender gets."""


@dataclass(frozen=True, slots=True)
class NodeAway:
    member: Member
    repair_after_seconds: float
    settled: bool
    """Nothing waits for it: all that it held was rebuilt elsewhere."""


@dataclass(frozen=True, slots=True)
class NodeFull:
    member: Member


@dataclass(frozen=True, slots=True)
class NodeUnchecked:
    member: Member


@dataclass(frozen=True, slots=True)
class VolumeNotReady:
    """It is neither ok or full, nor failed."""

    node: NodeName
    path: str
    state: str


@dataclass(frozen=True, slots=True)
class VolumeFailed:
    """A volume that failed under a node that lives, and how far its pieces are rebuilt elsewhere."""

    node: NodeName
    path: str
    pieces: int
    """That it held, as far as is known."""
    seconds: float
    """Since it failed."""
    reason: str
    repair: VolumeRepair | None
    """None if it has not begun."""
    repair_after_seconds: float
    node_is_away: bool

    @property
    def repaired(self) -> bool:
        """Nothing waits for it any more."""
        return self.repair is not None and not self.repair.waiting


@dataclass(frozen=True, slots=True)
class NodeLeaving:
    node: NodeName
    progress: RemovalProgress


@dataclass(frozen=True, slots=True)
class ChunksUnplaced:
    """Chunks that cannot be repaired for lack of data nodes."""

    count: int
    seconds: float
    scheme: Scheme
    usable: int


@dataclass(frozen=True, slots=True)
class ChunksWaiting:
    """Chunks that lack pieces and wait for repair."""

    count: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ChunksLost:
    count: int


@dataclass(frozen=True, slots=True)
class OrphansHeld:
    node: NodeName
    record: OrphanRecord


MetadataProblem = MetadataFailed | MetadataDiskFull | DamagedRows | DamagedFile
Problem = (
    OlderMetadata
    | MetadataProblem
    | Shortage
    | HeartbeatRefused
    | NodeAway
    | NodeFull
    | NodeUnchecked
    | VolumeNotReady
    | VolumeFailed
    | NodeLeaving
    | ChunksUnplaced
    | ChunksWaiting
    | ChunksLost
    | OrphansHeld
)


def problems_of_metadata(health: Health) -> list[MetadataProblem]:
    """Return what is wrong with the metadata's file and disk."""
    found: list[MetadataProblem] = []
    if health.failure:
        found.append(MetadataFailed(health.failure))
    elif health.full:
        found.append(MetadataDiskFull())
    if health.damaged_rows:
        found.append(DamagedRows(health.damaged_rows, health.damaged_key))
    if health.problems:
        found.append(DamagedFile(tuple(health.problems)))
    return found


def find_shortage(scheme_text: str, members: Sequence[Member]) -> Shortage | None:
    """Return how far data nodes are too few for this scheme; None if they suffice."""
    scheme = parse_scheme(scheme_text)
    usable = sum(member.takes_writes for member in members)
    if usable >= scheme.pieces:
        return None
    return Shortage(scheme, usable, next((member.record.name for member in members if not member.compared), None))


def problems_of_nodes(
    members: Iterable[Member], repair_after_seconds: float, *, settled: bool
) -> Iterator[NodeAway | NodeFull | NodeUnchecked | VolumeNotReady]:
    """Yield what is wrong with the nodes that are to stay, but for failed volumes."""
    for member in members:
        if member.is_away:
            yield NodeAway(member, repair_after_seconds, settled and member.state is NodeState.OFFLINE)
        elif member.state is NodeState.FULL:
            yield NodeFull(member)
        if member.unchecked and member.answers:
            yield NodeUnchecked(member)
        for volume in member.heartbeat.volumes if member.heartbeat else ():
            if volume.state not in ("ok", "full", "failed"):
                yield VolumeNotReady(member.record.name, volume.path, volume.state)


def problems_of_chunks(
    heal: HealStatistics, members: Iterable[Member]
) -> Iterator[ChunksUnplaced | ChunksWaiting | ChunksLost]:
    """Yield what chunks lack."""
    unplaced = min(heal.unplaced, heal.backlog)
    if unplaced:
        usable = sum(member.state is NodeState.ONLINE for member in members)
        yield ChunksUnplaced(unplaced, heal.backlog_seconds, parse_scheme(heal.unplaced_scheme), usable)
    if heal.backlog > unplaced:
        yield ChunksWaiting(heal.backlog - unplaced, heal.backlog_seconds)
    if heal.lost:
        yield ChunksLost(heal.lost)
