"""Probe: whether a disk can be read at all, whatever memory still holds of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flared.errors import FlareError, VolumeFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flared.background import Threads
    from flared.data.disk.disk import Disk

FAILURES_MAX = 5
"""Looks in a row that find nothing readable before a disk counts as dead: a path that breaks for a moment is none."""


class Probe:
    """Looks at one disk, and remembers how often in a row it could not be read."""

    def __init__(self, disk: Disk, threads: Threads) -> None:
        self._disk = disk
        self._threads = threads
        self.failures = 0

    async def look(self, paths: Sequence[str]) -> None:
        """Read the beginning of each file: one is enough, because another may lie on a bad spot.

        Raises VolumeFailed when no file could be read FAILURES_MAX times in a row.
        """
        troubles = [await self._threads.run(_try_probe, self._disk, path) for path in paths]
        if not all(troubles):
            self.failures = 0
            return
        self.failures += 1
        if self.failures >= FAILURES_MAX:
            raise VolumeFailed(f"the disk cannot be read: {troubles[0]}")


def _try_probe(disk: Disk, path: str) -> str:
    """What was wrong, or nothing."""
    try:
        disk.probe(path)
    except FlareError as error:
        return str(error)
    return ""
