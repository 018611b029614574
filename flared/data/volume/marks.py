"""Marks: the marks of the metadata in the volumes of one node; one file each, so that a lost disk loses nothing.

The order is: an api node sends a mark; it is synced in a volume; only then is it reported back as seen there. A crash
at any line leaves the older mark, which is also true. Each volume writes at most once for each heartbeat, and not at
all while nothing changes. A disk that hangs delays only its own mark, not the heartbeats or other marks.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from flared.data.volume.mark_file import load_mark, save_mark
from flared.errors import FlareError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flared.data.mark import SeenMark
    from flared.data.volume.volume import Volume

log = logging.getLogger(__name__)


class Marks:
    """Marks are stored only while ``run`` is running. At most two marks for each volume in memory."""

    def __init__(self, volumes: Sequence[Volume]) -> None:
        """Read the mark file of each volume. One that cannot be read counts as missing, and is logged."""
        self._slots = [_Slot(volume) for volume in volumes]

    async def run(self) -> None:
        """Store marks until cancelled; a write in progress is finished."""
        async with trio.open_nursery() as nursery:
            for slot in self._slots:
                nursery.start_soon(slot.run)

    def keep(self, mark: SeenMark) -> None:
        """Have every working volume store the mark soon. Does not block."""
        for slot in self._slots:
            slot.want(mark)

    def seen(self) -> list[SeenMark]:
        """Return the durable marks, each once. A volume that was away for long has an older one."""
        return list(dict.fromkeys(slot.stored for slot in self._slots if slot.stored is not None))


class _Slot:
    """The mark of one volume."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self._wanted: SeenMark | None = None
        self._saving: SeenMark | None = None
        self._woken = trio.Event()
        self._complaint = ""
        self.stored: SeenMark | None = None
        try:
            self.stored = load_mark(volume.disk, volume.path, volume.identity.cluster)
        except FlareError as error:
            log.error("event=mark_unreadable path=%s message=%r", volume.path, str(error))

    def want(self, mark: SeenMark) -> None:
        newest = self._wanted or self._saving or self.stored
        # Answers of two api nodes may overtake each other.
        if self._volume.state != "failed" and mark != newest and not (newest and mark.is_behind(newest)):
            self._wanted = mark
            self._woken.set()

    async def run(self) -> None:
        while True:
            await self._woken.wait()
            self._woken = trio.Event()
            self._saving, self._wanted = self._wanted, None
            mark = self._saving
            if mark is None:
                continue
            volume, complaint = self._volume, ""
            try:
                run = volume.threads.background.run
                await run(save_mark, volume.disk, volume.path, volume.identity.cluster, mark)
                self.stored = mark
            except FlareError as error:  # a full or read-only disk keeps the older mark, which is also true
                complaint = str(error)
            finally:
                self._saving = None
            if complaint and complaint != self._complaint:
                log.warning("event=mark_not_kept path=%s message=%r", volume.path, complaint)
            self._complaint = complaint
