"""Opening the volumes of a node: locked, identified, and one node's and one cluster's."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import trio

from flared.background import Threads, WorkerThreads
from flared.data.disk.real_disk import RealDisk
from flared.data.volume.identity import find_cluster, refuse_copies, require_volume
from flared.data.volume.values import DataSettings, VolumeSettings, VolumeStatus, VolumeThreads
from flared.data.volume.volume import Volume
from flared.data.volume.volumes import Volumes
from flared.errors import VolumeFailed, VolumeFull
from flared.http.lane import Lane, ThreadLane

if TYPE_CHECKING:
    from flared.data.disk.disk import Disk, Lock
    from flared.http.turns import Turns

log = logging.getLogger(__name__)

_CHECK_THREADS = 4
_READ_THREADS = 16
_BACKGROUND_THREADS = 2
_LOOK_THREADS = 1
_LOCK = "lock"


async def open_volumes(
    settings: DataSettings,
    turns: Turns,
    *,
    disk: Disk | None = None,
    threads: Threads | None = None,
    make_lane: Callable[[Turns, str], Lane] = ThreadLane,
    random_bits: random.Random | None = None,
) -> Volumes:
    """Lock and identify every volume. A disk that fails is left out (state ``failed``).

    Raises Busy, naming the process, if another one holds a volume; ConfigError if one belongs to another node, two of
    them to different clusters, or one is a copy of another. ``turns`` must run as long as the volumes do.
    ``threads`` replaces all threads, and ``make_lane`` what makes lanes (for tests on a virtual clock).
    """
    disk = disk or RealDisk()
    random_bits = random_bits or random.Random(os.urandom(16))
    volumes: list[Volume] = []
    failed: list[VolumeStatus] = []
    locks: list[Lock] = []
    # A failed disk is left out, so that the others serve; any other error is a mistake, and gives all locks back.
    try:
        for path in settings.volumes:
            try:
                if not settings.new_volumes:
                    require_volume(disk, path)
                disk.make_directory(path)
                locks.append(disk.lock(f"{path}/{_LOCK}"))
                volumes.append(
                    Volume.open(
                        path, settings.node, _volume_settings(settings), disk, _threads(threads), random_bits,
                        turns, make_lane,
                    )
                )  # fmt: skip
            except (VolumeFailed, VolumeFull) as error:
                log.error("event=volume_failed path=%s error=%r", path, str(error))
                failed.append(VolumeStatus("", path, 0, 0, 0, "failed", str(error)))
        refuse_copies((volume.path, volume.identity) for volume in volumes)
        cluster = find_cluster((volume.path, volume.identity) for volume in volumes)
        if cluster:
            _join_all(volumes, cluster)
        await trio.lowlevel.checkpoint()
        return Volumes(settings, volumes, failed, locks)
    except BaseException:
        for lock in locks:
            lock.close()
        raise


def _join_all(volumes: Sequence[Volume], cluster: str) -> None:
    """Store the cluster also in a volume added later, which may become the only one that works."""
    for volume in volumes:
        try:
            volume.join(cluster)
        except (VolumeFailed, VolumeFull) as error:
            log.error("event=cluster_not_noted path=%s error=%r", volume.path, str(error))


def _volume_settings(settings: DataSettings) -> VolumeSettings:
    return VolumeSettings(settings.segment_size, settings.reserve, settings.direct)


def _threads(shared: Threads | None) -> VolumeThreads:
    if shared:
        return VolumeThreads(shared, shared, shared, shared)
    return VolumeThreads(
        WorkerThreads(_CHECK_THREADS),
        WorkerThreads(_READ_THREADS),
        WorkerThreads(_BACKGROUND_THREADS),
        WorkerThreads(_LOOK_THREADS),
    )
