"""RealDisk: the file systems of the operating system. It translates every OSError into an error of Flare's."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import sqlite3
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from flared.data.disk.disk import WOULD_BLOCK, Buffer, File, Lock, Space
from flared.errors import Busy, VolumeFailed, VolumeFull

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_IOV_MAX = 1024
_PROBE_BYTES = 4096
_KEEP_SIZE = 1
_PUNCH_HOLE = 2
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
_BLOCK = 4096
_BOUNCE_BYTES_MAX = 1024 * 1024
_NOT_OPEN = -1
_REFUSED = -2


@contextmanager
def mapped(path: str) -> Iterator[None]:
    """Translate an OSError inside the block."""
    try:
        yield
    except OSError as error:
        raise failure(path, error) from error


def failure(path: str, error: OSError) -> VolumeFull | VolumeFailed:
    if error.errno in _NO_ROOM:
        return VolumeFull(f"{path}: no room left on the disk")
    return VolumeFailed(f"{path}: {error.strerror or error}")


_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


def _fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    while _libc.fallocate(fd, mode, offset, length):
        number = ctypes.get_errno()
        if number in _UNSUPPORTED:
            return
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))


class RealFile:
    """A file of the operating system."""

    __slots__ = ("_fd", "_nowait", "_opening", "_path", "_uncached", "direct")

    def __init__(self, path: str, fd: int, *, direct: bool = False) -> None:
        self._path = path
        self._fd = fd
        self._uncached = _NOT_OPEN
        """The same file opened with O_DIRECT, once it is needed."""
        self._opening = threading.Lock()
        self._nowait = hasattr(os, "RWF_NOWAIT")
        self.direct = direct

    def size(self) -> int:
        with mapped(self._path):
            return os.fstat(self._fd).st_size

    def allocated(self) -> int:
        with mapped(self._path):
            return os.fstat(self._fd).st_blocks * 512

    def write(self, offset: int, buffers: Sequence[Buffer]) -> None:
        with mapped(self._path):
            for start in range(0, len(buffers), _IOV_MAX):
                offset += self._write(offset, buffers[start : start + _IOV_MAX])

    def _write(self, offset: int, buffers: Sequence[Buffer]) -> int:
        wanted = sum(map(len, buffers))
        done = os.pwritev(self._fd, buffers, offset)
        if done < wanted:  # a signal, or the last bytes of a disk: the next attempt shows which
            rest = memoryview(b"".join(buffers))
            if self.direct:
                raise OSError(errno.ENOSPC, "short direct write")
            while done < wanted:
                done += os.pwrite(self._fd, rest[done:], offset + done)
        return wanted

    def sync(self) -> None:
        with mapped(self._path):
            os.fdatasync(self._fd)

    def read_into(self, offset: int, buffer: memoryview) -> int:
        with mapped(self._path):
            done = os.preadv(self._fd, [buffer], offset)
            while 0 < done < len(buffer):
                more = os.preadv(self._fd, [buffer[done:]], offset + done)
                if not more:
                    break
                done += more
            return done

    def read_nowait(self, offset: int, buffer: memoryview) -> int:
        if not self._nowait:
            return WOULD_BLOCK
        try:
            return os.preadv(self._fd, [buffer], offset, os.RWF_NOWAIT)
        except BlockingIOError:
            return WOULD_BLOCK
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise failure(self._path, error) from error
            self._nowait = False  # the file system does not support it: always use a thread
            return WOULD_BLOCK

    def read_uncached(self, offset: int, buffer: memoryview) -> int:
        fd = self._open_uncached()
        done = 0
        while fd >= 0 and done < len(buffer):
            try:
                count = _read_direct(fd, offset + done, buffer[done:])
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    raise failure(self._path, error) from error
                break  # the file system opens with O_DIRECT, but does not read
            if not count:
                return done
            done += count
        return done + (self.read_into(offset + done, buffer[done:]) if done < len(buffer) else 0)

    def _open_uncached(self) -> int:
        with self._opening:
            if self._uncached == _NOT_OPEN:
                try:
                    # Not by its path: the file may have been unlinked while it is still read.
                    link = f"/proc/self/fd/{self._fd}"
                    self._uncached = os.open(link, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
                except OSError:  # the file system refuses O_DIRECT: use ordinary reads
                    self._uncached = _REFUSED
            return self._uncached

    def allocate(self, offset: int, length: int) -> None:
        with mapped(self._path):
            _fallocate(self._fd, _KEEP_SIZE, offset, length)

    def punch(self, offset: int, length: int) -> None:
        with mapped(self._path):
            _fallocate(self._fd, _PUNCH_HOLE | _KEEP_SIZE, offset, length)

    def truncate(self, size: int) -> None:
        with mapped(self._path):
            os.ftruncate(self._fd, size)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._uncached >= 0:
            os.close(self._uncached)
            self._uncached = _REFUSED


def _read_direct(fd: int, offset: int, buffer: memoryview) -> int:
    """Read some bytes from ``offset`` on; at least one, unless the file ends there."""
    skip = offset % _BLOCK
    whole = len(buffer) & -_BLOCK
    if whole and not skip:
        try:
            return os.preadv(fd, [buffer[:whole]], offset)
        except OSError as error:
            if error.errno != errno.EINVAL:  # EINVAL means that the buffer is not aligned as it must be
                raise
    room = -(-min(skip + len(buffer), _BOUNCE_BYTES_MAX) // _BLOCK) * _BLOCK
    with mmap.mmap(-1, room, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as bounce:
        count = max(0, min(os.preadv(fd, [bounce], offset - skip) - skip, len(buffer)))
        buffer[:count] = bounce[skip : skip + count]
    return count


class RealLock:
    """An flock, held until it is closed or the process ends in any way."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def close(self) -> None:
        os.close(self._fd)


class RealDisk:
    """The operating system's file systems."""

    def make_directory(self, path: str) -> None:
        with mapped(path):
            made = path
            while not os.path.isdir(made):
                made = os.path.dirname(made)
            os.makedirs(path, exist_ok=True)
        while path != made:
            path = os.path.dirname(path)
            self.sync_directory(path)

    def list(self, path: str) -> list[str]:
        with mapped(path):
            return os.listdir(path)

    def read(self, path: str) -> bytes | None:
        with mapped(path):
            try:
                with open(path, "rb") as file:
                    return file.read()
            except FileNotFoundError:
                return None

    def replace(self, path: str, content: bytes) -> None:
        temporary = path + ".new"
        with mapped(path):
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
            try:
                os.write(fd, content)
                os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(temporary, path)
        self.sync_directory(os.path.dirname(path))

    def create(self, path: str, *, direct: bool) -> File:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with mapped(path):
            if direct:
                with suppress(OSError):  # the file system refuses O_DIRECT: use an ordinary write
                    return RealFile(path, os.open(path, flags | os.O_DIRECT, 0o640), direct=True)
                with suppress(FileNotFoundError):  # Linux creates the file before it refuses
                    os.unlink(path)
            return RealFile(path, os.open(path, flags, 0o640))

    def open(self, path: str, *, write: bool = False) -> File:
        with mapped(path):
            return RealFile(path, os.open(path, (os.O_RDWR if write else os.O_RDONLY) | os.O_CLOEXEC))

    def remove(self, path: str) -> None:
        with mapped(path), suppress(FileNotFoundError):
            os.unlink(path)

    def sync_directory(self, path: str) -> None:
        with mapped(path):
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def space(self, path: str) -> Space:
        with mapped(path):
            found, file_system = os.statvfs(path), os.stat(path).st_dev
        return Space(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize, file_system)

    def probe(self, path: str) -> None:
        with mapped(path):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                os.pread(fd, _PROBE_BYTES, 0)
            finally:
                os.close(fd)

    def lock(self, path: str) -> Lock:
        with mapped(path):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(fd, 20, 0).decode("ascii", "replace").strip() or "unknown"
                os.close(fd)
                raise Busy(f"{os.path.dirname(path)} is held by another process, pid {holder}") from None
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        return RealLock(fd)

    def connect(self, path: str) -> sqlite3.Connection:
        return sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=64)
