"""Scans: ranges of the metadata file, read in threads by a few scanners that callers share; more wait their turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import trio

from flared.meta.sqlite_file import Scanner

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from flared.background import Threads

T = TypeVar("T")

SCANS_MAX = 2


class Scans:
    """The range reads of a ``meta.kv.KV`` on a file."""

    def __init__(self, path: Path, threads: Threads, report: Callable[[bytes], None], *, writes: bool = True) -> None:
        """Blocks, like ``close``. ``report`` and ``writes`` are a Scanner's."""
        self._threads = threads
        self._scanners = [Scanner(path, report, writes=writes) for _ in range(SCANS_MAX)]
        self._free = trio.Semaphore(SCANS_MAX)

    async def scan(self, start: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        return await self._run(lambda scanner: scanner.scan(start, end, limit))

    async def scan_aliases(self, start: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes, bytes]]:
        return await self._run(lambda scanner: scanner.scan_aliases(start, end, limit))

    async def walk(
        self, start: bytes, end: bytes, limit: int, visit: Callable[[list[tuple[bytes, bytes]]], bytes | None]
    ) -> None:
        await self._run(lambda scanner: scanner.walk(start, end, limit, visit))

    def close(self) -> None:
        """Close the connections; not while anything is read."""
        for scanner in self._scanners:
            scanner.close()

    async def _run(self, read: Callable[[Scanner], T]) -> T:
        async with self._free:
            scanner = self._scanners.pop()
            try:
                return await self._threads.run(read, scanner)
            finally:
                self._scanners.append(scanner)
