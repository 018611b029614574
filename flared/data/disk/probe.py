"""Probe: test whether a disk can be read at all, past the page cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flared.errors import FlareError, VolumeFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flared.background import Threads
    from flared.data.disk.disk import Disk

FAILURES_MAX = 5
"""Probes in a row that could read nothing before a disk counts as dead: a path may fail for a moment."""


class Probe:
    """Probes one disk, and counts how often in a row it could not be read."""

    def __init__(self, disk: Disk, threads: Threads) -> None:
        self._disk = disk
        self._threads = threads
        self.failures = 0

    async def check(self, paths: Sequence[str]) -> None:
        """Read the beginning of each file. One readable file is enough: another may be on a bad sector.

        Raise VolumeFailed when no file could be read FAILURES_MAX times in a row.
        """
        troubles = [await self._threads.run(_try_probe, self._disk, path) for path in paths]
        if not all(troubles):
            self.failures = 0
            return
        self.failures += 1
        if self.failures >= FAILURES_MAX:
            raise VolumeFailed(f"the disk cannot be read: {troubles[0]}")


def _try_probe(disk: Disk, path: str) -> str:
    """Return why the file cannot be read; empty if it can."""
    try:
        disk.probe(path)
    except FlareError as error:
        return str(error)
    return ""
