"""Returns: whether a node that was started again has what the records place on it, as far as its first report shows.

An empty disk in the place of a full one, or an older copy of it, gives a node that lives and lacks what the records say
it has. ``reconcile`` finds out which pieces those are and has them made again. Until it has, none of the node's pieces
counts: it may not stand in for another node. Plain functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flared.data.report import parse_report
from flared.errors import BadRequest
from flared.upkeep.membership.admission import PIECES_CHANGE, PIECES_FEW, ids_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flared.catalog.nodes import NodeRecord
    from flared.data.report import VolumeReport
    from flared.upkeep.membership.heartbeat import Heartbeat

RECORDED = "it came back with other volumes or fewer pieces than it had"


@dataclass(frozen=True, slots=True)
class Holding:
    """The volumes and pieces that a process reports."""

    instance: str
    volumes: frozenset[str]
    """Ids of those that it can read."""
    pieces: int
    final: bool
    """The pieces are counted: no volume replays."""
    failed: bool
    """A volume has failed. What was on it is for ``repair.lost_volumes`` to find out."""


def holding_of(heartbeat: Heartbeat) -> Holding:
    """Return what the sender of a heartbeat has."""
    return _holding(heartbeat.instance, heartbeat.volumes, heartbeat.pieces)


def parse_holding(status: Mapping[str, object]) -> Holding | None:
    """The same from a data node's ``/status``; None from one that does not say."""
    instance, storage = status.get("instance"), status.get("storage")
    volumes = storage.get("volumes") if isinstance(storage, dict) else None
    if not isinstance(instance, str) or not instance or not isinstance(volumes, list):
        return None
    try:
        reports = [parse_report(volume) for volume in volumes]
    except BadRequest:
        return None
    return _holding(instance, reports, sum(report.pieces for report in reports))


def _holding(instance: str, volumes: Sequence[VolumeReport], pieces: int) -> Holding:
    states = {volume.state for volume in volumes}
    return Holding(instance, frozenset(ids_of(volumes)), pieces, "replaying" not in states, "failed" in states)


def reason_to_compare(record: NodeRecord, before: int | None, now: Holding) -> str:
    """Return why a process that has just taken over the node may lack pieces; empty if it has what the node had.

    ``before`` is how many pieces the node reported last; None if this api node has no report of it. Then the recorded
    number is used, which is right to about a tenth.
    """
    if not now.volumes <= set(record.volumes):
        return "it came back with a volume that it did not have before"
    if now.failed:
        return ""
    had = record.pieces - PIECES_CHANGE * max(PIECES_FEW, record.pieces) if before is None else before
    if now.pieces < had:
        return f"it came back with {now.pieces:,} pieces and had {record.pieces if before is None else before:,}"
    return ""
