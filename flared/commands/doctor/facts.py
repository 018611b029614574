"""The facts of a host, as values. A fact that could not be found out is None or empty."""

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
    """The kind of file system: ``ext4``, ``xfs``, ``tmpfs``."""
    options: frozenset[str]
    """The options of the mount and of the file system."""


@dataclass(frozen=True, slots=True)
class Place:
    """A directory that a node writes into: a volume, or the one of the metadata."""

    path: Path
    file: Path
    """The node's TOML file."""
    is_volume: bool
    unmounted: Path | None = None
    """The mount point that it is on, if /etc/fstab lists it and nothing is mounted there."""
    exists: bool = True
    marked: bool = True
    """True if it holds a volume."""
    made_at_start: bool = False
    """True if the node creates the volume by itself (``new_volumes``)."""
    mount: Mount | None = None
    device: str = ""
    """The whole disk, not the partition."""
    capacity: int = 0
    free: int = 0
    reserve: int = 0
    inodes: int = 0
    inodes_free: int = 0
    sync_seconds: float | None = None
    """The median of some syncs."""
    obstacle: str = ""
    """Why it could not be examined or measured."""
    is_hidden: bool = False
    """True if this user may not read the directory."""


@dataclass(frozen=True, slots=True)
class Access:
    """The permissions of a file or directory."""

    path: Path
    mode: int
    owner: str
    group: str


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate that the node's [tls] names, and its key."""

    path: Path
    file: Path
    """The node's TOML file."""
    mistake: str = ""
    """Why it cannot be examined."""
    days_left: float = 0.0
    names: tuple[str, ...] = ()
    host_names: tuple[str, ...] = ()
    """What this host is called by others; one of them must be among the names."""
    node_name: str = ""
    """What must be among the names because api nodes check it; empty if none does."""
    is_own: bool = False
    """The cluster's own authority made it."""
    keys: tuple[Access, ...] = ()
    """Its key, and that of the authority if it is on this host."""


@dataclass(frozen=True, slots=True)
class Unit:
    name: str
    active: str
    result: str
    enabled: str
    restarts: int
    sub: str = ""
    """``auto-restart``: it ended, and systemd is about to start it again."""
    text: str = ""
    """The status text that the node reports to systemd."""


@dataclass(frozen=True, slots=True)
class Package:
    name: str
    version: str
    status: str
    """As ``dpkg -l`` abbreviates it; ``ii`` is installed."""


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """One TOML file and what belongs to it."""

    file: Path
    mistakes: Sequence[str] = ()
    is_service: bool = False
    stale: Sequence[str] = ()
    """The differences between its drop-ins and its TOML file."""
    places: Sequence[Place] = ()
    has_metadata: bool = False
    access: Access | None = None
    secret: Access | None = None
    certificates: Sequence[Certificate] = ()
    unit: Unit | None = None


@dataclass(frozen=True, slots=True)
class HostFacts:
    nodes: Sequence[NodeFacts]
    user: str = "root"
    directory: Access | None = None
    """/etc/flare"""
    packages: Sequence[Package] = ()
    clock_synchronised: bool | None = None
    newest_backup_seconds: float | None = None
    """Its age in seconds."""

    @property
    def places(self) -> list[Place]:
        return [place for node in self.nodes for place in node.places]
