"""Facts: what was seen of a host. Values only; whatever could not be seen is None or empty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Mount:
    point: str
    kind: str
    """Of file system: ``ext4``, ``xfs``, ``tmpfs``."""
    options: frozenset[str]
    """Of the mount and of the file system."""


@dataclass(frozen=True, slots=True)
class Place:
    """A directory that a node writes into: a volume, or where the metadata lies."""

    path: Path
    file: Path
    """The node's TOML file."""
    is_volume: bool
    unmounted: Path | None = None
    """The mount point that it lies on, if /etc/fstab knows it and nothing is mounted there."""
    exists: bool = True
    marked: bool = True
    """Whether there is a volume in it."""
    made_at_start: bool = False
    """Whether the node makes a volume of it by itself (``new_volumes``)."""
    mount: Mount | None = None
    device: str = ""
    """The disk, whichever of its partitions it is."""
    capacity: int = 0
    free: int = 0
    reserve: int = 0
    inodes: int = 0
    inodes_free: int = 0
    sync_seconds: float | None = None
    """Median of some."""
    obstacle: str = ""
    """Why it could not be looked at, or not be measured."""
    is_hidden: bool = False
    """Whether this user may not even look."""


@dataclass(frozen=True, slots=True)
class Access:
    """Who may do what with a file or directory."""

    path: Path
    mode: int
    owner: str
    group: str


@dataclass(frozen=True, slots=True)
class Unit:
    name: str
    active: str
    result: str
    enabled: str
    restarts: int
    sub: str = ""
    """``auto-restart``: it ended, and is about to be tried again."""
    text: str = ""
    """What the node says of itself."""


@dataclass(frozen=True, slots=True)
class Package:
    name: str
    version: str
    status: str
    """As ``dpkg -l`` abbreviates it; ``ii`` is installed."""


@dataclass(frozen=True, slots=True)
class Node:
    """One TOML file and what belongs to it."""

    file: Path
    mistakes: Sequence[str] = ()
    is_service: bool = False
    stale: Sequence[str] = ()
    """What its drop-ins lack or say otherwise."""
    places: Sequence[Place] = ()
    has_metadata: bool = False
    access: Access | None = None
    secret: Access | None = None
    unit: Unit | None = None


@dataclass(frozen=True, slots=True)
class Host:
    nodes: Sequence[Node]
    user: str = "root"
    directory: Access | None = None
    """/etc/flare"""
    packages: Sequence[Package] = ()
    clock_synchronised: bool | None = None
    newest_backup_seconds: float | None = None
    """The age of it."""

    @property
    def places(self) -> list[Place]:
        return [place for node in self.nodes for place in node.places]
