"""Disk: the only way to stable storage. This is the interface; ``real_disk`` implements it.

All calls block; callers run them in a thread where that matters. They raise VolumeFull (no room) or VolumeFailed (any
other failure).
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

Buffer = bytes | bytearray | memoryview

WOULD_BLOCK = -1


class Space(NamedTuple):
    """Bytes of a file system: its size, and the bytes available to an ordinary process."""

    capacity: int
    free: int
    file_system: int = 0
    """Equal for two paths on one file system; 0 if unknown."""


class File(Protocol):
    """An open file. ``direct``: the memory, offset and length of a write must be multiples of 4096."""

    direct: bool

    def size(self) -> int: ...

    def allocated(self) -> int:
        """Bytes allocated on the disk: less than the size if it has holes, more if room was preallocated."""

    def write(self, offset: int, buffers: Sequence[Buffer]) -> None:
        """Write all buffers, in order. After a failure any part may have been written."""

    def sync(self) -> None:
        """Return when all writes are on stable storage. After a failure they may be lost."""

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill ``buffer``; return the number of bytes, which is less only at the end of the file."""

    def read_nowait(self, offset: int, buffer: memoryview) -> int:
        """Read what is in memory, without blocking; WOULD_BLOCK if the first byte is not."""

    def read_uncached(self, offset: int, buffer: memoryview) -> int:
        """As ``read_into``, from the disk itself, and leaving nothing in the page cache, if the file system can.

        Reads directly into ``buffer`` if it and ``offset`` are aligned to 4096, else through a copy.
        """

    def allocate(self, offset: int, length: int) -> None:
        """Preallocate room without changing the size; does nothing if the file system cannot."""

    def punch(self, offset: int, length: int) -> None:
        """Free the room, which then reads as zeros; does nothing if the file system cannot."""

    def truncate(self, size: int) -> None:
        """Cut to ``size`` and free the room preallocated beyond it."""

    def close(self) -> None: ...


class Lock(Protocol):
    def close(self) -> None: ...


class Disk(Protocol):
    """A file system. Names of files are durable after ``sync_directory``."""

    def make_directory(self, path: str) -> None:
        """Create the directory and its missing parents, durably; does nothing if it exists."""

    def list(self, path: str) -> list[str]: ...

    def read(self, path: str) -> bytes | None:
        """Return the content of a small file; None if it does not exist."""

    def replace(self, path: str, content: bytes) -> None:
        """Replace the content of the file, durably and atomically."""

    def create(self, path: str, *, direct: bool) -> File:
        """Create a file for writing. ``direct`` is a request only: see ``File.direct``."""

    def open(self, path: str, *, write: bool = False) -> File: ...

    def remove(self, path: str) -> None:
        """Remove the file; does nothing if it does not exist."""

    def sync_directory(self, path: str) -> None: ...

    def space(self, path: str) -> Space: ...

    def probe(self, path: str) -> None:
        """Read the beginning of the file from the disk itself, not from memory. Raise VolumeFailed."""

    def lock(self, path: str) -> Lock:
        """Lock the file. Raise Busy, naming the process, if another one holds the lock."""

    def connect(self, path: str) -> sqlite3.Connection:
        """Open or create a database file; the caller begins and ends transactions."""
