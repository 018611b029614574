"""A lock beside a file: one process at a time; the error for the next one names it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from flared.errors import Busy, ConfigError


class LockFile:
    """Holds ``path`` locked until closed, or until the process ends in any way.

    The file stays when the lock is given back: unlinking it would let two processes lock two files of one name.
    """

    def __init__(self, path: Path, what: str) -> None:
        """Raises Busy, naming the holder's process id, if there is one; ConfigError if there can be no such file."""
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError([f"{what} cannot be opened: {error.strerror}: {path}"]) from error
        try:
            self._lock(what)
        except BaseException:
            os.close(self._descriptor)
            raise

    def close(self) -> None:
        os.close(self._descriptor)

    def _lock(self, what: str) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._descriptor, 32, 0).decode("ascii", "replace").strip()
            raise Busy(f"{what} is in use by process {holder or '(starting)'}") from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, b"%d\n" % os.getpid(), 0)
