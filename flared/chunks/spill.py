"""Spills: where the bytes of clients that are slow wait, instead of in memory that others want.

An unlinked file each, so that nothing is left of it after a crash. Bounded in all by ``limit`` bytes, and by a
twentieth of the file system that is left free: what does not fit is refused, and only the slow are refused by that.
Files are written and read by threads of their own, so that a slow disk delays only clients that were set aside.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, NamedTuple

import xxhash

from flared.errors import Busy

if TYPE_CHECKING:
    from flared.background import Threads

UNIT_SIZE = 32 * 1024
"""Bytes that are written, checked and read at once: what a client that was set aside holds of memory."""

FREE_PART = 20
"""One part in so many of the file system stays free: it may be the metadata's, if the host has only one."""


@dataclass(frozen=True, slots=True)
class SpillStatistics:
    bytes: int
    files: int
    refused: int


class _Unit(NamedTuple):
    start: int
    size: int
    check: int


class Spills:
    """The room for spilled bytes in ``directory``."""

    def __init__(self, directory: str, limit: int, threads: Threads) -> None:
        self._directory = directory
        self._limit = limit
        self._threads = threads
        self._bytes = 0
        self._files = 0
        self._refused = 0

    def resize(self, limit: int) -> None:
        """From now on take up to ``limit`` bytes. What is spilled already stays until its reader is through."""
        self._limit = limit

    async def open(self) -> Spill:
        """An empty spill, to be closed by the caller. Raises Busy if the directory takes no file."""
        try:
            file = await self._threads.run(_open, self._directory)
        except OSError as error:
            raise self._refusal(f"{self._directory}: {error.strerror}") from None
        self._files += 1
        return Spill(self, file)

    def statistics(self) -> SpillStatistics:
        return SpillStatistics(self._bytes, self._files, self._refused)

    def _take(self, size: int) -> None:
        if self._bytes + size > self._limit:
            raise self._refusal(f"{self._bytes} of {self._limit} bytes are in use")
        self._bytes += size

    def _give_back(self, size: int) -> None:
        self._bytes -= size
        self._files -= 1

    def _refusal(self, why: str) -> Busy:
        self._refused += 1
        return Busy(f"this transfer is slow and there is no room to set it aside ({why}); try again later, or faster")


class Spill:
    """One file. Bytes go in at its end and come out by units, each compared with its checksum."""

    def __init__(self, spills: Spills, file: IO[bytes]) -> None:
        self._spills = spills
        self._file = file
        self._units: list[_Unit] = []
        self._size = 0
        self._closed = False

    async def append(self, data: memoryview) -> None:
        """Write ``data``, in units of UNIT_SIZE. Raise Busy if it does not fit; the spill is useless then."""
        self._spills._take(len(data))
        start, self._size = self._size, self._size + len(data)
        try:
            self._units += await self._spills._threads.run(_write, self._file, start, data)
        except OSError as error:
            raise self._spills._refusal(f"{self._spills._directory}: {error.strerror}") from None

    async def read_unit(self, number: int) -> bytes:
        """The bytes of one unit; empty behind the last. Raises Busy if the disk does not return what it was given."""
        if number >= len(self._units):
            return b""
        unit = self._units[number]
        buffer = bytearray(unit.size)
        await self._read([unit], memoryview(buffer))
        return bytes(buffer)

    async def read_all(self, buffer: memoryview) -> None:
        """All bytes, to the front of ``buffer``. Raises as ``read_unit``."""
        await self._read(self._units, buffer)

    async def _read(self, units: list[_Unit], buffer: memoryview) -> None:
        try:
            whole = await self._spills._threads.run(_read, self._file, units, buffer)
        except OSError as error:
            raise self._spills._refusal(f"{self._spills._directory}: {error.strerror}") from None
        if not whole:
            raise self._spills._refusal(f"{self._spills._directory}: the disk returned other bytes than were written")

    def close(self) -> None:
        """Give the room back. May be called more than once; not while a call above is under way."""
        if not self._closed:
            self._closed = True
            self._file.close()
            self._spills._give_back(self._size)


def _open(directory: str) -> IO[bytes]:
    return tempfile.TemporaryFile(dir=directory, buffering=0)


def _write(file: IO[bytes], start: int, data: memoryview) -> list[_Unit]:
    room = os.fstatvfs(file.fileno())
    if room.f_bavail * room.f_frsize < len(data) + room.f_blocks * room.f_frsize // FREE_PART:
        raise OSError(0, f"less than one part in {FREE_PART} of the disk would be left free")
    units = []
    for at in range(0, len(data), UNIT_SIZE):
        unit = data[at : at + UNIT_SIZE]
        units.append(_Unit(start + at, len(unit), xxhash.xxh3_64_intdigest(unit)))
    at = 0
    while at < len(data):
        at += os.pwrite(file.fileno(), data[at:], start + at)
    return units


def _read(file: IO[bytes], units: list[_Unit], buffer: memoryview) -> bool:
    """Return whether the units were read and are what was written."""
    at = 0
    for unit in units:
        view = buffer[at : at + unit.size]
        if os.preadv(file.fileno(), [view], unit.start) != unit.size or xxhash.xxh3_64_intdigest(view) != unit.check:
            return False
        at += unit.size
    return True
