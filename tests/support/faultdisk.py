"""A disk that loses what was not flushed: for power cuts on machines without device-mapper.

A FUSE file under a loop device under ext4. What the file system wrote but did not flush is volatile; ``power_cut``
loses it, or all but a random part of it, as a real disk's cache may, and mounts the disk again, so that the file
system's journal is replayed as after a real cut. What a killed process left in the
page cache is lost as well.

Needs root, /dev/fuse, loop devices, mkfs.ext4 and the Python module fusepy (Debian: fuse3 python3-fusepy e2fsprogs).
This file is also the program that serves the FUSE file: ``python faultdisk.py DIRECTORY``.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BLOCK = 4096
WAIT_SECONDS = 10.0

# ext4 would flush its journal every five seconds and so make writes durable that were not synced.
MOUNT_OPTIONS = "commit=3600"


def why_not() -> str | None:
    """A sentence if this machine cannot have a FaultDisk."""
    if os.geteuid() != 0:
        return "needs root, to mount"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "needs /dev/fuse"
    for program in ("mkfs.ext4", "losetup", "mount"):
        if not shutil.which(program):
            return f"needs {program}"
    return None if fuse_python() else "needs the Python module fusepy (Debian: fuse3 python3-fusepy)"


def fuse_python() -> str | None:
    """An interpreter that has fusepy: this one, or Debian's."""
    for python in (sys.executable, "/usr/bin/python3"):
        probe = [python, "-c", "try: import fusepy\nexcept ImportError: import fuse; fuse.FUSE"]
        with contextlib.suppress(OSError):
            if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
                return python
    return None


class FaultDisk:
    """``path`` is a mounted ext4 of ``mebibytes`` below ``directory``. Use as a context."""

    def __init__(self, directory: Path, mebibytes: int) -> None:
        self.path = directory / "mnt"
        self._fuse = directory / "fuse"
        self._backing = directory / "backing"
        self._directory = directory
        self._bytes = mebibytes << 20
        self._server: subprocess.Popen[bytes] | None = None
        self._loop = ""

    def __enter__(self) -> Self:
        self.path.mkdir(parents=True)
        self._fuse.mkdir()
        with open(self._backing, "wb") as backing:
            backing.truncate(self._bytes)
        python = fuse_python()
        assert python is not None, why_not()
        with open(self._directory / "faultdisk.log", "ab") as log:
            self._server = subprocess.Popen([python, __file__, str(self._directory)], stdout=log, stderr=log)
        try:
            wait_until((self._fuse / "disk").exists, "the FUSE file does not appear")
            self._attach()
            run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", self._loop)
            self._mount()
            run("sync", "-f", str(self.path))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for path in (self.path, self._fuse):
            if path == self._fuse and self._loop:
                run("losetup", "-d", self._loop, check=False)
                wait_until(self._is_detached, "the loop device stays", seconds=3, fail=False)
            if path.is_mount() and run("umount", str(path), check=False):
                run("umount", "-l", str(path), check=False)
        if self._server is not None:
            self._server.terminate()
            self._server.wait()

    def power_cut(self, *, kept: float = 0.0, seed: int = 0) -> None:
        """Lose what was not flushed, but for a random share ``kept`` of its blocks. The disk must not be in use."""
        self.control(f"cut {kept} {seed}")
        run("umount", str(self.path))
        run("losetup", "-d", self._loop)
        wait_until(self._is_detached, "the loop device stays")
        Path("/proc/sys/vm/drop_caches").write_text("1")
        self.control("go")
        self._attach()
        self._mount()

    def control(self, command: str) -> None:
        """``errors on|all|off``: every write and flush fails with EIO, or every read too. ``cut SHARE SEED``, ``go``:
        see ``power_cut``."""
        with open(self._fuse / "control", "wb", buffering=0) as control:
            control.write(command.encode())
        if command == "errors all":  # or the loop device would go on from the memory that it has of the file
            Path("/proc/sys/vm/drop_caches").write_text("1")

    def _attach(self) -> None:
        command = ["losetup", "-f", "--show", str(self._fuse / "disk")]
        self._loop = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def _mount(self) -> None:
        run("mount", "-o", MOUNT_OPTIONS, self._loop, str(self.path))

    def _is_detached(self) -> bool:
        command = ["losetup", "-j", str(self._fuse / "disk")]
        return not subprocess.run(command, capture_output=True, check=False).stdout.strip()


class Cache:
    """The disk behind the FUSE file: a backing file, and the blocks written since the last flush."""

    def __init__(self, backing: int) -> None:
        self._backing = backing
        self._volatile: dict[int, bytearray] = {}
        self._lock = threading.Lock()
        self._dropping = False
        self._errors = False
        self._read_errors = False

    def read(self, size: int, offset: int) -> bytes:
        with self._lock:
            if self._read_errors:
                raise OSError(errno.EIO, "the disk fails")
            data = bytearray(os.pread(self._backing, size, offset))
            for number in range(offset // BLOCK, (offset + size - 1) // BLOCK + 1):
                block = self._volatile.get(number)
                if block is not None:
                    start, end = max(offset, number * BLOCK), min(offset + size, (number + 1) * BLOCK)
                    data[start - offset : end - offset] = block[start - number * BLOCK : end - number * BLOCK]
            return bytes(data)

    def write(self, data: bytes, offset: int) -> int:
        with self._lock:
            if self._dropping:
                return len(data)
            self._refuse_if_failing()
            position, end = offset, offset + len(data)
            while position < end:
                number = position // BLOCK
                stop = min(end, (number + 1) * BLOCK)
                block = self._volatile.get(number)
                if block is None:
                    block = self._volatile[number] = bytearray(os.pread(self._backing, BLOCK, number * BLOCK))
                block[position - number * BLOCK : stop - number * BLOCK] = data[position - offset : stop - offset]
                position = stop
            return len(data)

    def flush(self) -> None:
        with self._lock:
            if not self._dropping:
                self._refuse_if_failing()
                self._keep(lambda: True)

    def control(self, words: list[str]) -> None:
        with self._lock:
            match words:
                case ["errors", state]:
                    self._errors = state in ("on", "all")
                    self._read_errors = state == "all"
                case ["cut", share, seed]:
                    chance = random.Random(int(seed))
                    self._keep(lambda: chance.random() < float(share))
                    self._dropping = True
                case ["go"]:
                    self._dropping = False
                    self._errors = self._read_errors = False

    def _keep(self, choose: Callable[[], bool]) -> None:
        for number, block in sorted(self._volatile.items()):
            if choose():
                os.pwrite(self._backing, block, number * BLOCK)
        self._volatile.clear()

    def _refuse_if_failing(self) -> None:
        if self._errors:
            raise OSError(errno.EIO, "the disk fails")


def serve(directory: Path) -> None:
    """Serve ``disk`` and ``control`` at ``directory``/fuse until unmounted."""
    try:
        fuse = importlib.import_module("fusepy")  # Debian's name for it
    except ImportError:
        fuse = importlib.import_module("fuse")
    backing = os.open(directory / "backing", os.O_RDWR)
    size = os.fstat(backing).st_size
    cache = Cache(backing)

    @contextlib.contextmanager
    def fuse_errors() -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise fuse.FuseOSError(error.errno) from None

    class Operations(fuse.Operations):  # type: ignore[name-defined,misc]  # untyped, and found only now
        def getattr(self, path: str, handle: object = None) -> dict[str, float]:
            now = time.time()
            common = {"st_atime": now, "st_mtime": now, "st_ctime": now, "st_uid": 0, "st_gid": 0, "st_nlink": 1}
            match path:
                case "/":
                    return {**common, "st_mode": 0o40755}
                case "/disk" | "/control":
                    return {**common, "st_mode": 0o100600, "st_size": size if path == "/disk" else 0}
            raise fuse.FuseOSError(errno.ENOENT)

        def readdir(self, path: str, handle: object) -> list[str]:
            return [".", "..", "disk", "control"]

        def open(self, path: str, flags: int) -> int:
            return 0

        def truncate(self, path: str, length: int, handle: object = None) -> None: ...

        def utimens(self, path: str, times: object = None) -> None: ...

        def read(self, path: str, size: int, offset: int, handle: object) -> bytes:
            with fuse_errors():
                return cache.read(size, offset)

        def write(self, path: str, data: bytes, offset: int, handle: object) -> int:
            if path == "/control":
                cache.control(data.decode().split())
                return len(data)
            with fuse_errors():
                return cache.write(data, offset)

        def fsync(self, path: str, datasync: bool, handle: object) -> int:
            with fuse_errors():
                cache.flush()
            return 0

        def flush(self, path: str, handle: object) -> int:
            return 0

    fuse.FUSE(
        Operations(), str(directory / "fuse"), foreground=True, nothreads=False, big_writes=True, max_write=131072
    )


def run(*command: str, check: bool = True) -> int:
    return subprocess.run(command, check=check, capture_output=not check).returncode


def wait_until(holds: Callable[[], bool], what: str, *, seconds: float = WAIT_SECONDS, fail: bool = True) -> None:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            if fail:
                raise TimeoutError(what)
            return
        time.sleep(0.02)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
