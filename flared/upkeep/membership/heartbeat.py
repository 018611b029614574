"""Heartbeat: what a data node reports every three seconds, as a value."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flared.data.mark import SeenMark, parse_mark
from flared.data.report import TEXT_MAX, parse_report
from flared.errors import BadRequest
from flared.names import NodeName, parse_node

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flared.data.report import VolumeReport

VOLUMES_MAX = 256
DAMAGE_MAX = 10_000

_ADDRESS = re.compile(r"(?:https://)?(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):\d{1,5}")


@dataclass(frozen=True, slots=True)
class Heartbeat:
    name: NodeName
    address: str
    zone: str
    version: str
    cluster: str | None
    instance: str
    volumes: tuple[VolumeReport, ...]
    pieces: int
    damage: tuple[str, ...]
    clock_ahead_seconds: float | None
    """Its clock less ours, and less the way here; None if it did not say."""

    marks: tuple[SeenMark, ...] = ()
    """How new the metadata was that it has seen, one of each volume at most; none from an older version."""

    @property
    def capacity(self) -> int:
        """Each file system once, however many volumes lie on it."""
        own = sum(volume.capacity for volume in self.volumes if not volume.file_system)
        shared = {volume.file_system: volume.capacity for volume in self.volumes if volume.file_system}
        return own + sum(shared.values())

    @property
    def used(self) -> int:
        return sum(volume.used for volume in self.volumes)

    @property
    def failed_paths(self) -> frozenset[str]:
        """The paths of the volumes that have failed."""
        return frozenset(volume.path for volume in self.volumes if volume.state == "failed")

    @property
    def dead(self) -> bool:
        """All its volumes have failed: the process lives, and is as good as silent."""
        return bool(self.volumes) and all(volume.state == "failed" for volume in self.volumes)

    @property
    def full(self) -> bool:
        """No volume takes new pieces."""
        return not any(volume.state == "ok" for volume in self.volumes)


def parse_heartbeat(data: object, now: float) -> Heartbeat:
    """Return the heartbeat in decoded JSON that arrived at ``now``, in seconds. Raises BadRequest or BadName."""
    fields = _mapping(data)
    address = _text(fields, "address")
    if not _ADDRESS.fullmatch(address):
        raise BadRequest(f"a heartbeat's address must be host:port or https://host:port, not {address[:60]!r}")
    volumes = _list(fields, "volumes", VOLUMES_MAX)
    damage = _list(fields, "damage", DAMAGE_MAX)
    sent = fields.get("time")
    return Heartbeat(
        name=parse_node(_text(fields, "name")),
        address=address,
        zone=_text(fields, "zone"),
        version=_text(fields, "version"),
        cluster=_text(fields, "cluster") if fields.get("cluster") is not None else None,
        instance=_text(fields, "instance"),
        volumes=tuple(map(parse_report, volumes)),
        pieces=_count(fields, "pieces"),
        damage=tuple(name for name in damage if isinstance(name, str)),
        clock_ahead_seconds=round(sent - now, 3) if isinstance(sent, int | float) else None,
        marks=parse_marks(fields),
    )


def parse_marks(fields: Mapping[str, object]) -> tuple[SeenMark, ...]:
    """Return the marks in a heartbeat, or in the status of a data node. Raises BadRequest."""
    return tuple(map(parse_mark, _list(fields, "marks", VOLUMES_MAX)))


def _mapping(data: object) -> Mapping[str, object]:
    if not isinstance(data, dict):
        raise BadRequest("a heartbeat is a JSON object")
    return data


def _text(fields: Mapping[str, object], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value or len(value) > TEXT_MAX:
        raise BadRequest(f"a heartbeat needs {name!r} as a text of 1 to {TEXT_MAX} characters")
    return value


def _count(fields: Mapping[str, object], name: str) -> int:
    value = fields.get(name)
    if not isinstance(value, int) or value < 0:
        raise BadRequest(f"a heartbeat needs {name!r} as a whole number")
    return value


def _list(fields: Mapping[str, object], name: str, limit: int) -> list[object]:
    value = fields.get(name, [])
    if not isinstance(value, list):
        raise BadRequest(f"a heartbeat needs {name!r} as a list")
    return value[:limit]
