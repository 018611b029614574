"""The settings and the status of a volume, and of all volumes of a node."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flared.data.disk.space import RESERVE_MAX, SEGMENT_SIZE_MAX
from flared.data.pieces import PIECE_SIZE_MAX
from flared.data.report import VolumeReport

if TYPE_CHECKING:
    from flared.background import Threads

QUARANTINE_SECONDS = 7 * 86400.0


@dataclass(frozen=True, slots=True)
class VolumeSettings:
    """``segment_size`` and ``reserve`` are upper limits: small disks get less."""

    segment_size: int = SEGMENT_SIZE_MAX
    reserve: int = RESERVE_MAX
    direct: bool = True


@dataclass(frozen=True, slots=True)
class VolumeThreads:
    """Checksums of large pieces have threads of their own, so that slow reads do not delay them; looks at the disk, so
    that waiting for a thread is never taken for a disk that hangs. Writes have lanes."""

    check: Threads
    read: Threads
    background: Threads
    probe: Threads


@dataclass(frozen=True, slots=True)
class VolumeStatus(VolumeReport):
    """The report of a volume, with counts for its own node."""

    syncs: int = 0
    """Groups of records written and synced since the start."""
    records: int = 0
    """Records in these groups."""


@dataclass(frozen=True, slots=True)
class DataSettings:
    """``volumes`` are directories, one for each disk; created if they are missing.

    ``segment_size`` and ``reserve`` (kept free so that deletes and compaction go on) are upper limits: a small disk
    uses less of either.
    """

    node: str
    volumes: tuple[str, ...]
    segment_size: int = SEGMENT_SIZE_MAX
    reserve: int = RESERVE_MAX
    direct: bool = True
    new_volumes: bool = True
    """True if an empty directory becomes a volume; otherwise it counts as the mount point of a missing disk."""
    buffer_bytes: int = PIECE_SIZE_MAX
    scrub_period_seconds: float = 30 * 86400.0
    quarantine_seconds: float = QUARANTINE_SECONDS
    """How long orphans are kept, hidden, before they are deleted."""
    clock: Callable[[], float] = time.time
    """The wall clock."""


@dataclass(frozen=True, slots=True)
class DataStatus:
    volumes: tuple[VolumeStatus, ...]
    pieces: int
    cluster: str
    buffer_bytes: int
