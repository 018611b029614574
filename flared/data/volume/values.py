"""The settings and the status of a volume."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flared.data.disk.space import RESERVE_MAX, SEGMENT_SIZE_MAX
from flared.data.report import VolumeReport

if TYPE_CHECKING:
    from flared.background import Threads


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
