"""Files that a download creates: inside the target directory, and whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat

from flarectl.answers import MTIME, ObjectInfo
from flarectl.errors import OutputClosed, Refusal, from_os
from flarectl.tasks import in_abandonable_thread, in_thread

PAGE = 4096
DIRECT_BYTES_MIN = 1024 * 1024
"""Larger files are written past the page cache: for 1 GiB, half the time and an eighth of the system time."""


class Directory:
    """The directory that a command's files go into. Nothing is ever written outside of it."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._files: list[str] = []

    def place(self, relative: str) -> str:
        """Return the path for a key. Raise Refusal if it leads out of the directory or collides with another key.

        Must be called in the order of the keys.
        """
        if any(part in ("", ".", "..") for part in relative.split("/")):
            raise Refusal(f"{relative!r} is not a path inside {self.root}: it has an empty part, '.' or '..'")
        # Keys with a common beginning follow each other, so a stack remembers every key that can collide.
        while self._files and not relative.startswith(self._files[-1]):
            self._files.pop()
        for file in self._files:
            if relative.startswith(f"{file}/"):
                raise Refusal(f"{relative}: {file} is an object too, and a file cannot be a directory")
        self._files.append(relative)
        return relative if self.root == "." else os.path.join(self.root, relative)

    def make_parent(self, path: str) -> None:
        """Create the directories above ``path``. Raise Refusal if a symbolic link would lead out."""
        parent = os.path.dirname(path) or "."
        try:
            root = os.path.realpath(self.root)
            if os.path.commonpath((root, os.path.realpath(parent))) != root:
                raise Refusal(f"{path}: a symbolic link on the way leads out of {self.root}")
            os.makedirs(parent, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise Refusal(f"{path}: a part of {parent} is a file here, not a directory") from None
        except OSError as error:
            raise from_os(error, parent) from None


class PartialFile:
    """A Sink: a hidden temporary file beside its final name, until ``finish``."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._temporary = ""
        self._descriptor = -1
        self._direct = -1

    async def open(self, info: ObjectInfo) -> None:
        await in_thread(self._open, info.size)

    async def write(self, data: memoryview, offset: int) -> None:
        await in_thread(self._write, data, offset)

    async def finish(self, info: ObjectInfo) -> None:
        """Sync the file, set the object's time, and only then give it its name."""
        await in_thread(self._finish, info)

    def discard(self) -> None:
        """Remove the temporary file; does nothing after ``finish``."""
        for descriptor in (self._descriptor, self._direct):
            if descriptor >= 0:
                os.close(descriptor)
        self._descriptor = self._direct = -1
        if self._temporary:
            with contextlib.suppress(OSError):
                os.unlink(self._temporary)
            self._temporary = ""

    def _open(self, size: int) -> None:
        try:
            mode = self._mode()
            directory, name = os.path.split(self.path)
            temporary = os.path.join(directory, f".{name[:60]}.{os.urandom(4).hex()}.part")
            flags = os.O_WRONLY | os.O_CLOEXEC
            self._descriptor = os.open(temporary, flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
            self._temporary = temporary
            if mode is not None:
                os.fchmod(self._descriptor, mode)
            if size >= DIRECT_BYTES_MIN:
                with contextlib.suppress(OSError):  # some file systems do not support it
                    self._direct = os.open(temporary, flags | os.O_DIRECT)
        except OSError as error:
            raise from_os(error, self.path) from None

    def _mode(self) -> int | None:
        """Return the permissions of the file that will be replaced, if any. Raise Refusal if it is not a file."""
        try:
            mode = os.stat(self.path).st_mode
        except FileNotFoundError:
            return None
        if stat.S_ISDIR(mode):
            raise Refusal(f"{self.path}: it is a directory here")
        if not stat.S_ISREG(mode):
            raise Refusal(f"{self.path}: it is not a regular file; to write into it, use cat and redirect")
        return stat.S_IMODE(mode)

    def _write(self, data: memoryview, offset: int) -> None:
        try:
            if self._direct >= 0 and offset % PAGE == 0:
                done = self._write_direct(data[: len(data) - len(data) % PAGE], offset)
                data, offset = data[done:], offset + done
            _write_all(self._descriptor, data, offset)
        except OSError as error:
            raise from_os(error, self.path) from None

    def _write_direct(self, data: memoryview, offset: int) -> int:
        """Write past the page cache; return how many bytes the file system accepted."""
        try:
            _write_all(self._direct, data, offset)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return 0
        return len(data)

    def _finish(self, info: ObjectInfo) -> None:
        try:
            if (mtime := parse_mtime(info.user.get(MTIME, ""))) is not None:
                os.utime(self._descriptor, ns=(mtime, mtime))
            os.fsync(self._descriptor)
            os.rename(self._temporary, self.path)
            self._temporary = ""
        except OSError as error:
            raise from_os(error, self.path) from None


class StandardOutput:
    """A Sink that expects the bytes in order."""

    async def open(self, info: ObjectInfo) -> None:
        pass

    async def write(self, data: memoryview, offset: int) -> None:
        await in_abandonable_thread(self._write, data)

    def _write(self, data: memoryview) -> None:
        try:
            while data:
                data = data[os.write(1, data) :]
        except BrokenPipeError:
            raise OutputClosed("the reader of the output went away") from None
        except OSError as error:
            raise from_os(error, "standard output") from None


def parse_mtime(text: str) -> int | None:
    """Return nanoseconds from rclone's seconds with a fraction; None if it is not such a number."""
    whole, _, fraction = text.partition(".")
    sign = -1 if whole.startswith("-") else 1
    digits = whole.removeprefix("-")
    if not re.fullmatch(r"[0-9]{1,11}", digits) or not re.fullmatch(r"[0-9]*", fraction):
        return None
    nanoseconds = int(f"{fraction[:9]:0<9}")
    return sign * (int(digits) * 1_000_000_000 + nanoseconds)


def _write_all(descriptor: int, data: memoryview, offset: int) -> None:
    while data:
        done = os.pwrite(descriptor, data, offset)
        data, offset = data[done:], offset + done
