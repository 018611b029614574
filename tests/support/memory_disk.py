"""A Disk in memory that can crash, tear, flip, fill up and fail, all drawn from one seed.

What was written but not synced survives a crash in parts: each block of 512 bytes on its own. Names that were not
synced into their directory survive or not. A database is as it was at some moment since its last durable transaction.
"""

from __future__ import annotations

import itertools
import random
import sqlite3
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flared.data.disk.disk import WOULD_BLOCK, Buffer, File, Lock, Space
from flared.errors import Busy, VolumeFailed, VolumeFull

if TYPE_CHECKING:
    from collections.abc import Sequence

BLOCK = 4096
SECTOR = 512
_numbers = itertools.count()


class PowerCut(BaseException):
    """The power is gone. Everything that touches the disk gets this until ``restart``."""


@dataclass
class _Content:
    """One file: what readers see, what is surely on the platter, and what was done since."""

    data: bytearray = field(default_factory=bytearray)
    durable: bytes = b""
    pending: list[tuple[str, int, bytes]] = field(default_factory=list)
    blocks: set[int] = field(default_factory=set)
    cached: bytes | None = None
    """The page cache's copy of a file that rotted below it."""


class _Connection(sqlite3.Connection):
    """Tells its disk of durable commits."""

    image: _Image | None = None
    full = False

    def execute(self, statement: str, parameters: object = (), /) -> sqlite3.Cursor:
        assert self.image
        self.image.disk.check()
        if statement.startswith("PRAGMA synchronous"):
            self.full = statement.endswith("FULL")
        cursor = super().execute(statement, parameters)  # type: ignore[arg-type]
        if statement == "COMMIT":
            self.image.committed(durable=self.full)
        return cursor


class _Image:
    """A database file: an anchor connection keeps it alive; ``past`` are moments a crash may go back to."""

    def __init__(self, disk: MemoryDisk, past: Sequence[bytes]) -> None:
        self.disk = disk
        self.uri = f"file:flare{next(_numbers)}?mode=memory&cache=shared"
        self.anchor = sqlite3.connect(self.uri, uri=True, check_same_thread=False)
        self.past = list(past)
        if past:
            source = sqlite3.connect(":memory:")
            source.deserialize(past[-1])
            source.backup(self.anchor)
            source.close()

    def committed(self, *, durable: bool) -> None:
        self.past = [] if durable else self.past[-3:]
        self.past.append(self.anchor.serialize())


class MemoryDisk:
    """Is a Disk. Faults are set from outside; ``random`` decides all that a real disk would."""

    def __init__(self, seed: int = 0, *, capacity: int = 1 << 30) -> None:
        self.random = random.Random(seed)
        self.capacity = capacity
        self.fail_writes = 0
        self.fail_syncs = 0
        self.fail_reads = 0
        self.cold_share = 0.3
        """How many reads find nothing in the page cache."""
        self.syncs = 0
        self.cut_at_sync = 0
        """Cut the power at this sync (counted from 1): before or after it took effect."""
        self.dead = False
        self.broken = False
        """Fail every call from now on."""
        self.broken_below: set[str] = set()
        """So is it for what lies below these paths: of several disks one has died."""
        self._files: dict[str, _Content] = {}
        self._durable_files: dict[str, _Content] = {}
        self._directories: set[str] = {"/"}
        self._databases: dict[str, _Image] = {}
        self._locks: set[str] = set()

    # Faults

    def check(self, path: str = "") -> None:
        if self.dead:
            raise PowerCut
        if self.broken or any(path.startswith(below) for below in self.broken_below):
            raise VolumeFailed(f"{path or 'the disk'}: Input/output error")

    def revive(self) -> None:
        """After the process alone was killed: what it wrote is all there, but no more durable than before."""
        self.dead = False
        self.cut_at_sync = 0
        self._locks.clear()

    def restart(self) -> None:
        """After a power cut, or instead of one: only what a disk may keep is left."""
        self.revive()
        choose = self.random
        for path in sorted({*self._files, *self._durable_files}):
            now, then = self._files.get(path), self._durable_files.get(path)
            kept = now if now is then or choose.random() < 0.5 else then
            if kept is None:
                self._files.pop(path, None)
            else:
                self._files[path] = kept
                self._tear(kept)
        self._durable_files = dict(self._files)
        for path, image in self._databases.items():
            moment = choose.randrange(len(image.past)) if image.past else -1
            self._databases[path] = _Image(self, image.past[: moment + 1])
            image.anchor.close()

    def _tear(self, content: _Content) -> None:
        data = bytearray(content.durable)
        for what, offset, written in content.pending:
            if what == "write":
                self._apply_part(data, offset, written)
            elif self.random.random() < 0.5:
                _apply(data, what, offset, written)
        content.data = data
        content.durable = bytes(data)
        content.pending = []
        content.blocks = {block for block in content.blocks if block * BLOCK < len(data)}

    def _apply_part(self, data: bytearray, offset: int, written: bytes) -> None:
        luck = self.random.choice((0.0, 0.5, 1.0))
        end = offset + len(written)
        at = offset
        while at < end:
            stop = min(end, (at // SECTOR + 1) * SECTOR)
            if self.random.random() < luck:
                _apply(data, "write", at, written[at - offset : stop - offset])
            at = stop

    def flip(self, path: str, offset: int, *, cached: bool = False) -> None:
        """Rot one bit, below the page cache and above it. ``cached``: only below it, until the next write."""
        content = self._files[path]
        content.cached = bytes(content.data) if cached else None
        content.data[offset] ^= 1 << self.random.randrange(8)
        content.durable = bytes(content.data)

    def lose(self, path: str) -> None:
        """Remove a file or a database for good, as a bad disk would."""
        self._files.pop(path, None)
        self._durable_files.pop(path, None)
        if path in self._databases:
            self._databases.pop(path).anchor.close()

    def paths(self) -> list[str]:
        return sorted(self._files)

    def size(self, path: str) -> int:
        return len(self._files[path].data)

    def used(self) -> int:
        return sum(len(content.blocks) for content in self._files.values()) * BLOCK

    def synced(self) -> None:
        """Every sync passes here, before it takes effect."""
        self.check()
        self.syncs += 1
        if self.syncs == self.cut_at_sync:
            self.dead = True

    # Disk

    def make_directory(self, path: str) -> None:
        self.check(path)
        while path not in self._directories:
            self._directories.add(path)
            path = path.rpartition("/")[0] or "/"

    def list(self, path: str) -> list[str]:
        self.check(path)
        return sorted(name.rpartition("/")[2] for name in self._files if name.rpartition("/")[0] == path)

    def read(self, path: str) -> bytes | None:
        self.check(path)
        content = self._files.get(path)
        return bytes(content.data) if content else None

    def replace(self, path: str, content: bytes) -> None:
        self.synced()
        fresh = _Content(bytearray(content), bytes(content))
        self._files[path] = fresh
        if not self.dead or self.random.random() < 0.5:
            self._durable_files[path] = fresh
        self.check(path)

    def create(self, path: str, *, direct: bool) -> File:
        self.check(path)
        if path in self._files:
            raise VolumeFailed(f"{path}: it is there")
        self._files[path] = _Content()
        return MemoryFile(self, path, self._files[path], direct=direct)

    def open(self, path: str, *, write: bool = False) -> File:
        self.check(path)
        if path not in self._files:
            raise VolumeFailed(f"{path}: no such file")
        return MemoryFile(self, path, self._files[path], direct=False)

    def remove(self, path: str) -> None:
        self.check(path)
        self._files.pop(path, None)
        if path in self._databases:
            self._databases.pop(path).anchor.close()

    def sync_directory(self, path: str) -> None:
        self.synced()
        if not self.dead or self.random.random() < 0.5:
            for name in {*self._files, *self._durable_files}:
                if name.rpartition("/")[0] == path:
                    if name in self._files:
                        self._durable_files[name] = self._files[name]
                    else:
                        del self._durable_files[name]
        self.check(path)

    def space(self, path: str) -> Space:
        self.check(path)
        return Space(self.capacity, self.capacity - self.used())

    def probe(self, path: str) -> None:
        self.check(path)
        if path not in self._files:
            raise VolumeFailed(f"{path}: no such file")

    def lock(self, path: str) -> Lock:
        self.check(path)
        if path in self._locks:
            raise Busy(f"{path.rpartition('/')[0]} is held by another process, pid 1")
        self._locks.add(path)
        return _MemoryLock(self._locks, path)

    def connect(self, path: str) -> sqlite3.Connection:
        self.check(path)
        if path not in self._databases:
            self._databases[path] = _Image(self, [])
        image = self._databases[path]
        connection = sqlite3.connect(
            image.uri, uri=True, isolation_level=None, check_same_thread=False, factory=_Connection
        )
        connection.image = image
        return connection


class _MemoryLock:
    def __init__(self, locks: set[str], path: str) -> None:
        self._locks = locks
        self._path = path

    def close(self) -> None:
        self._locks.discard(self._path)


class MemoryFile:
    """Is a File."""

    def __init__(self, disk: MemoryDisk, path: str, content: _Content, *, direct: bool) -> None:
        self._disk = disk
        self._path = path
        self._content = content
        self.direct = direct

    def size(self) -> int:
        self._disk.check(self._path)
        return len(self._content.data)

    def allocated(self) -> int:
        self._disk.check(self._path)
        return len(self._content.blocks) * BLOCK

    def write(self, offset: int, buffers: Sequence[Buffer]) -> None:
        self._disk.check(self._path)
        whole = b"".join(buffers)
        if self.direct:
            assert offset % BLOCK == 0, "a direct write begins at a multiple of 4096"
            assert len(whole) % BLOCK == 0, "a direct write has a multiple of 4096 bytes"
        if self._disk.fail_writes:
            self._disk.fail_writes -= 1
            self._write(offset, whole[: self._disk.random.randrange(len(whole))])
            raise VolumeFailed(f"{self._path}: Input/output error")
        wanted = set(range(offset // BLOCK, -(-(offset + len(whole)) // BLOCK))) - self._content.blocks
        if len(wanted) * BLOCK > self._disk.capacity - self._disk.used():
            raise VolumeFull(f"{self._path}: no room left on the disk")
        self._write(offset, whole)

    def _write(self, offset: int, whole: bytes) -> None:
        if whole:
            self._content.blocks.update(range(offset // BLOCK, -(-(offset + len(whole)) // BLOCK)))
            self._do("write", offset, whole)

    def _do(self, what: str, offset: int, written: bytes) -> None:
        _apply(self._content.data, what, offset, written)
        self._content.cached = None
        self._content.pending.append((what, offset, written))

    def sync(self) -> None:
        self._disk.check(self._path)
        self._disk.synced()
        if self._disk.fail_syncs:
            self._disk.fail_syncs -= 1
            self._disk._tear(self._content)  # what failed to reach the disk is dropped from memory too
            raise VolumeFailed(f"{self._path}: Input/output error")
        if not self._disk.dead or self._disk.random.random() < 0.5:
            self._content.durable = bytes(self._content.data)
            self._content.pending = []
        self._disk.check(self._path)

    def read_into(self, offset: int, buffer: memoryview) -> int:
        cached = self._content.cached
        return self._read(self._content.data if cached is None else cached, offset, buffer)

    def _read(self, content: bytes | bytearray, offset: int, buffer: memoryview) -> int:
        self._disk.check(self._path)
        if self._disk.fail_reads:
            self._disk.fail_reads -= 1
            raise VolumeFailed(f"{self._path}: Input/output error")
        part = content[offset : offset + len(buffer)]
        buffer[: len(part)] = part
        return len(part)

    def read_nowait(self, offset: int, buffer: memoryview) -> int:
        if self._disk.random.random() < self._disk.cold_share:
            return WOULD_BLOCK
        return self.read_into(offset, buffer)

    def read_uncached(self, offset: int, buffer: memoryview) -> int:
        return self._read(self._content.data, offset, buffer)

    def allocate(self, offset: int, length: int) -> None:
        self._disk.check(self._path)
        wanted = set(range(offset // BLOCK, (offset + length) // BLOCK)) - self._content.blocks
        if len(wanted) * BLOCK > self._disk.capacity - self._disk.used():
            raise VolumeFull(f"{self._path}: no room left on the disk")
        self._content.blocks |= wanted

    def punch(self, offset: int, length: int) -> None:
        self._disk.check(self._path)
        self._content.blocks -= set(range(-(-offset // BLOCK), (offset + length) // BLOCK))
        self._do("punch", offset, bytes(max(0, min(length, len(self._content.data) - offset))))

    def truncate(self, size: int) -> None:
        self._disk.check(self._path)
        self._content.blocks = {block for block in self._content.blocks if block * BLOCK < size}
        self._do("truncate", size, b"")

    def close(self) -> None:
        """Always allowed."""


def _apply(data: bytearray, what: str, offset: int, written: bytes) -> None:
    if what == "truncate":
        del data[offset:]
        return
    if len(data) < offset + len(written) and what == "write":
        data.extend(bytes(offset + len(written) - len(data)))
    data[offset : offset + len(written)] = written[: max(0, len(data) - offset)]
