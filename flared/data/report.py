"""VolumeReport: what a data node says of one of its volumes; every end that packs or reads it goes by this record."""

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
    """Its path if the disk fails and does not say."""
    path: str
    capacity: int
    used: int
    free: int
    """What new pieces may take."""
    state: str
    reason: str = ""
    """Why it is in that state."""
    pieces: int = 0
    state_seconds: float = 0.0
    """How long it has been in that state, by its own node's clock; from the start of the node at most."""
    file_system: int = 0
    """The same for volumes that share one, and its capacity; 0 if the node does not say."""
    quarantined_pieces: int = 0
    """Of the pieces, those that are hidden and will be deleted; ``free`` counts their room, because it is given up for
    puts."""
    quarantined_bytes: int = 0


_FIELDS = tuple(field.name for field in fields(VolumeReport))


def report_fields(report: VolumeReport) -> dict[str, object]:
    """Return the report as it travels, in JSON."""
    return {name: getattr(report, name) for name in _FIELDS} | {"id": report.id or report.path}


def parse_report(data: object) -> VolumeReport:
    """Return the report in decoded JSON. Fields that an older node does not send have their default; unknown ones are
    ignored. Raises BadRequest if it is not one."""
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
