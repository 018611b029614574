"""The write-ahead log of the embedded engine, kept short while groups go on appending to it.

Its length between two checkpoints is an estimate: SQLite reports it only when pages are moved.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import trio

from flared.background import Threads
from flared.meta.sqlite_file import PAGE_BYTES, Checkpointer, Log, Reader

PAUSE_AFTER_FAILURE_SECONDS = 5.0
ROW_PAGES = 2
"""Pages of the log that a row costs: of the index and of the table. New rows share those of the table."""
GROUP_PAGES = 4
"""Pages that a group costs beyond: inner ones, splits, the header."""


@dataclass(frozen=True, slots=True)
class LogSettings:
    """How long the log may become, in pages of 4 KiB."""

    checkpoint_pages: int = 8192
    """Pages that groups append to the log before a thread moves them: 32 MiB at most, by an estimate."""
    pages_max: int = 16384
    """From 64 MiB on the log is begun anew, for which one group waits until its last pages are moved."""
    gate_pages: int = 512
    """So few pages are left to move when that group waits, some milliseconds' worth, unless the disk is too slow."""
    tight_bytes: int = 256 * 1024 * 1024
    """With less room than this on its disk the log is kept short: what it holds may have to go into the file while
    there is only the reserve left, and a log that is begun anew needs no more room than it has."""
    tight_pages: int = 1024
    """Then they are moved from so many pages on, 4 MiB, and the log is begun anew from twice as many on."""


class WriteAheadLog:
    """Moves pages into the database when many were appended, and begins the log anew when it is long."""

    def __init__(
        self,
        path: Path,
        reader: Reader,
        threads: Threads,
        settings: LogSettings,
        *,
        failed: Callable[[sqlite3.Error], None],
    ) -> None:
        """Blocks, like ``close``. ``failed`` hears what the disk answered to a checkpoint that did not succeed."""
        self._checkpointer = Checkpointer(path)
        self._directory = path.parent
        self._reader = reader
        self._threads = threads
        self._settings = settings
        self._failed = failed
        self._moved = Log(0, 0)
        """As the last checkpoint left it."""
        self._appended = 0
        """Pages appended since then; an estimate."""
        self._grown = trio.Event()
        self._limit = settings.pages_max
        self._moving = trio.Lock()
        self.checkpoints = 0
        self.release_others: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint
        """Has other processes let go of moments from before; it may return without."""

    def close(self) -> None:
        self._checkpointer.close()

    @property
    def pages(self) -> int:
        return self._moved.pages + self._appended

    @property
    def size_bytes(self) -> int:
        return self.pages * PAGE_BYTES

    def group_appended(self, rows: int, value_bytes: int) -> None:
        """Count the pages of one more group."""
        self._appended += ROW_PAGES * rows + value_bytes // PAGE_BYTES + GROUP_PAGES
        tight = self._appended >= self._settings.tight_pages and self._is_tight()
        if tight or self._appended >= self._settings.checkpoint_pages:
            self._grown.set()

    async def run(self) -> None:
        """Keep the log short while groups go on, until cancelled."""
        while True:
            await self._grown.wait()
            self._grown = trio.Event()
            if not await self._checkpoint():
                await trio.sleep(PAUSE_AFTER_FAILURE_SECONDS)

    async def begin_anew_if_long(self, *, full: bool = False) -> None:
        """Move the rest of a long log while the next group waits.

        A log begins anew only with the first group after all of it was moved, and under load there is always one
        more group. So it waits: when there is little left to move, or when a slow disk would let the log grow on.
        ``full``: the disk is; then a log that cannot be begun anew, because a reader needs it, is tried each time.
        """
        if self.must_begin_anew(full=full) and not await self._begin_anew() and self.pages >= self._limit:
            # A disk that fails, or a backup that reads the file and holds on to the log: do not stop the puts for
            # nothing at every turn.
            self._limit = self.pages + self._settings.pages_max

    def must_begin_anew(self, *, full: bool) -> bool:
        """Report whether the next group must wait until the log was begun anew."""
        tight_pages = 2 * self._settings.tight_pages
        if self.pages >= tight_pages and (full or self._is_tight()):
            return True
        if self.pages < self._limit:
            return False
        return self.pages - self._moved.moved <= self._settings.gate_pages or self.pages >= 2 * self._limit

    async def _begin_anew(self) -> bool:
        self._reader.refresh()
        moved = await self._checkpoint()
        await self.release_others()
        self._reader.refresh()  # of what was read meanwhile: a reader that still looks into the log keeps it going
        if not moved or self._moved.moved < self._moved.pages:
            return False
        self._moved = Log(0, 0)
        self._limit = self._settings.pages_max
        return True

    def _is_tight(self) -> bool:
        disk = os.statvfs(self._directory)
        return disk.f_bavail * disk.f_frsize < self._settings.tight_bytes

    async def _checkpoint(self) -> bool:
        """Move what can be moved; False if the disk would not have it, and then it is still in the log."""
        async with self._moving:
            appended = self._appended
            try:
                self._moved = await self._threads.run(self._checkpointer.checkpoint)
            except sqlite3.Error as error:
                self._failed(error)
                return False
            self._appended -= appended
            self.checkpoints += 1
            return True
