"""Room on the disk that is held back, so that deletes still commit when the disk is full."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)

RESERVE_BYTES = 16 * 1024 * 1024
"""Some thousand deletes: each dirties a handful of 4 KiB pages, and the pages they free are used before the disk is."""


class Reserve:
    """A file of RESERVE_BYTES beside the database: there while there is room, given away when there is none."""

    def __init__(self, path: Path, size: int = RESERVE_BYTES) -> None:
        self._path = path
        self._size = size

    def restore(self) -> bool:
        """Hold the room back (again); False if the disk has not as much to spare, twice over."""
        if self._held():
            return True
        if self._free() < 2 * self._size:
            return False
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, self._size)
            finally:
                os.close(descriptor)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                log.warning("event=reserve_failed path=%s error=%s", self._path, error)
            self.release()
            return False
        return True

    def release(self) -> None:
        """Give the room to the next write."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)

    def _held(self) -> bool:
        try:
            return self._path.stat().st_size >= self._size
        except FileNotFoundError:
            return False

    def _free(self) -> int:
        disk = os.statvfs(self._path.parent)
        return disk.f_bavail * disk.f_frsize
