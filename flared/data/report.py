"""VolumeReport: the state of one volume as its data node reports it; every sender and receiver uses this record."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from flared.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

TEXT_MAX = 255


@dataclass(frozen=True, slots=True)
class VolumeReport:
    """``state``: ok, full (reads and deletes go on), readonly, replaying or failed. Sizes are bytes."""

    id: str
    """The volume's id; its path if the disk has failed and the id is unknown."""
    path: str
    capacity: int
    used: int
    free: int
    """Bytes available to new pieces."""
    state: str
    reason: str = ""
    """Why it is in that state."""
    pieces: int = 0
    state_seconds: float = 0.0
    """How long it has been in that state, by its own node's clock; at most since the start of the node."""
    file_system: int = 0
    """Equal for volumes on one file system, and the capacity of that; 0 if the node does not report it."""
    quarantined_pieces: int = 0
    """The pieces that are hidden and will be deleted; ``free`` includes their room, because puts may have it."""
    quarantined_bytes: int = 0


_FIELDS = tuple(field.name for field in fields(VolumeReport))


def report_fields(report: VolumeReport) -> dict[str, object]:
    """Return the report as JSON fields."""
    return {name: getattr(report, name) for name in _FIELDS} | {"id": report.id or report.path}


def parse_report(data: object) -> VolumeReport:
    """Return the report from decoded JSON. Fields that an older node omits have their default; unknown ones are
    ignored. Raise BadRequest if it is not a report."""
    if not isinstance(data, dict):
        raise BadRequest("the report of a volume is a JSON object")
    seconds = data.get("state_seconds")
    return VolumeReport(
        id=_text(data, "id") if data.get("id") else _text(data, "path"),
        path=str(data.get("path", "")),
        capacity=_count(data, "capacity"),
        used=_count(data, "used"),
        free=_count(data, "free"),
        state=_text(data, "state"),
        reason=str(data.get("reason", ""))[:TEXT_MAX],
        pieces=_count(data, "pieces", 0),
        state_seconds=float(seconds) if isinstance(seconds, int | float) else 0.0,
        file_system=_count(data, "file_system", 0),
        quarantined_pieces=_count(data, "quarantined_pieces", 0),
        quarantined_bytes=_count(data, "quarantined_bytes", 0),
    )


def _text(data: Mapping[str, object], name: str) -> str:
    value = data.get(name)
    if not isinstance(value, str) or not value or len(value) > TEXT_MAX:
        raise BadRequest(f"the report of a volume needs {name!r} as a text of 1 to {TEXT_MAX} characters")
    return value


def _count(data: Mapping[str, object], name: str, default: int | None = None) -> int:
    value = data.get(name, default)
    if not isinstance(value, int) or value < 0:
        raise BadRequest(f"the report of a volume needs {name!r} as a whole number")
    return value
