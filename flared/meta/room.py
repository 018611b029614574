"""Room: whether the disk of the metadata takes writes, and which ones while it is full or has failed."""

from __future__ import annotations

import logging
import sqlite3
from typing import TYPE_CHECKING

import trio

from flared.errors import MetadataFull, VolumeFailed
from flared.meta.layout import open_database
from flared.meta.reserve import Reserve

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from flared.meta.openings import Opening

log = logging.getLogger(__name__)

FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)
_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_BUSY_SNAPSHOT)
"""Some other program (an operator's sqlite3, a backup) holds the file: no failure, only a wait."""
ATTEMPTS_MAX = 3
"""Of what gives room back, on a full disk: as it came; with the reserve given up; with the log begun anew."""
ROOM_SECONDS = 5.0
"""How often a full disk is asked whether it has room again, if no write asks it."""


class Room:
    """The state of the disk under one metadata file, with the room that is held back for deletes."""

    def __init__(self, path: Path) -> None:
        self._reserve = Reserve(path.with_name(path.name + ".reserve"))
        self.full = False
        """Only what gives room back is written."""
        self.failure = ""
        """Why nothing is written any more; empty while it is."""

    def begin(self) -> None:
        """Hold room back, at the start and at the end. Blocks."""
        self.full = not self._reserve.restore()

    def open_even_if_full(self, path: Path) -> Opening:
        """Opening writes a little; raises MetadataFull only if not even the reserve has room for it."""
        for last_try in (False, True):
            try:
                return open_database(path)
            except sqlite3.Error as error:
                if error.sqlite_errorcode not in FULL:
                    raise VolumeFailed(f"the metadata file {path} cannot be opened: {error}") from error
                if last_try:
                    raise MetadataFull(f"the disk has no room to open the metadata file {path}") from error
                self._reserve.release()
        raise AssertionError("unreachable")

    def admit(self, failures: int, reclaims: Callable[[], bool]) -> None:
        """Return if a transaction may be written that has failed so often; raises VolumeFailed or MetadataFull.

        ``reclaims`` says whether it leads to room coming back; it is asked only while the disk is full.
        """
        if self.failure:
            raise VolumeFailed(self.failure)
        if not self.full or (not failures and self._take_room()):
            return
        if failures >= ATTEMPTS_MAX or not reclaims():
            raise MetadataFull("the disk of the metadata is full; deletes are still possible")

    def take_failure(self, error: sqlite3.Error) -> None:
        """Note what the disk answered to a write or a checkpoint."""
        if error.sqlite_errorcode in FULL:
            log.error("event=metadata_full error=%s", error)
            self.full = True
            self._reserve.release()
        elif error.sqlite_errorcode in _LOCKED:
            log.warning("event=metadata_locked error=%s", error)
        else:
            # What a failed sync left in the file is not known; a second try could report success without meaning it.
            log.critical("event=metadata_failed error=%s", error)
            self.failure = f"the disk of the metadata failed: {error}"

    async def watch(self) -> None:
        """Notice without a write that there is room again, because health is asked for; until cancelled."""
        while True:
            await trio.sleep(ROOM_SECONDS)
            if self.full:
                self._take_room()

    def _take_room(self) -> bool:
        if not self._reserve.restore():
            return False
        log.info("event=metadata_has_room_again")
        self.full = False
        return True
