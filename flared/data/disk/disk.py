"""Disk: the only way to stable storage. This is the interface; ``real_disk`` is the operating system's.

Everything here blocks; callers hand it to a thread where that matters. What goes wrong is VolumeFull (no room) or
VolumeFailed (anything else).
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

Buffer = bytes | bytearray | memoryview

WOULD_BLOCK = -1


class Space(NamedTuple):
    """Bytes of a file system: all of it, and what a process like ours may still take."""

    capacity: int
    free: int
    file_system: int = 0
    """The same for two places that share it; 0 if nobody knows."""


class File(Protocol):
    """An open file. ``direct``: writes must lie, begin and end on multiples of 4096."""

    direct: bool

    def size(self) -> int: ...

    def allocated(self) -> int:
        """Bytes it takes on the disk: less than its size where it has holes, more where room was set aside."""

    def write(self, offset: int, buffers: Sequence[Buffer]) -> None:
        """Write all of it, in order. After a failure any part may have been written."""

    def sync(self) -> None:
        """Return when all that was written is on stable storage. After a failure what was written may be lost."""

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill ``buffer``; returns less only at the end of the file."""

    def read_nowait(self, offset: int, buffer: memoryview) -> int:
        """The same as far as memory holds it, at once; WOULD_BLOCK if the first byte would have to be waited for."""

    def read_uncached(self, offset: int, buffer: memoryview) -> int:
        """``read_into`` from the disk itself, leaving nothing behind in the page cache, where the file system can.

        Straight into ``buffer`` if that and ``offset`` lie on multiples of 4096, else by way of a copy.
        """

    def allocate(self, offset: int, length: int) -> None:
        """Set room aside without changing the size; does nothing where the file system cannot."""

    def punch(self, offset: int, length: int) -> None:
        """Give the room back, reads find zeros; does nothing where the file system cannot."""

    def truncate(self, size: int) -> None:
        """Cut to ``size`` and give back what was set aside beyond it."""

    def close(self) -> None: ...


class Lock(Protocol):
    def close(self) -> None: ...


class Disk(Protocol):
    """A file system. Names of files are durable after ``sync_directory``."""

    def make_directory(self, path: str) -> None:
        """Make it and what is missing above it, durably; fine if it is there."""

    def list(self, path: str) -> list[str]: ...

    def read(self, path: str) -> bytes | None:
        """A small file, whole; None if it is not there."""

    def replace(self, path: str, content: bytes) -> None:
        """Make the file have this content, durably and all at once."""

    def create(self, path: str, *, direct: bool) -> File:
        """A new file, to write. ``direct`` is a wish: see ``File.direct``."""

    def open(self, path: str, *, write: bool = False) -> File: ...

    def remove(self, path: str) -> None:
        """Fine if it is not there."""

    def sync_directory(self, path: str) -> None: ...

    def space(self, path: str) -> Space: ...

    def probe(self, path: str) -> None:
        """Read the beginning of the file from the disk itself, whatever memory holds of it; raises VolumeFailed."""

    def lock(self, path: str) -> Lock:
        """Hold the lock file; raises Busy, naming the process, if another one does."""

    def connect(self, path: str) -> sqlite3.Connection:
        """A database file, made if need be; transactions are begun and ended by hand."""
