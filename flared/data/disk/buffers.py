"""Reused 4 KiB-aligned buffers for O_DIRECT and sockets: fresh memory costs a page fault every 4 KiB."""

from __future__ import annotations

import mmap
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from flared.data.record import BLOCK
from flared.errors import TooLarge

_GRAIN = 64 * 1024
_IDLE_SECONDS = 5.0
_FREE_MAX = 16
"""Most buffers kept for reuse; with more, most would have unusual sizes."""


def aligned_memory(length: int) -> mmap.mmap:
    """Return zeroed memory that begins at a page. Private: shared memory counts twice and never gets huge pages."""
    return mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


class PieceBuffer:
    """Room for one piece and, in front of it, for its header: both go to the disk in one write."""

    __slots__ = ("_memory", "capacity", "header", "payload", "whole")

    def __init__(self, capacity: int) -> None:
        self._memory = aligned_memory(BLOCK + capacity)
        self.capacity = capacity
        self.whole = memoryview(self._memory)
        self.header = self.whole[:BLOCK]
        self.payload = self.whole[BLOCK:]
        """4 KiB-aligned; at least as long as requested."""

    def close(self) -> None:
        """Free the memory, or let the last holder of a view free it."""
        self.header.release()
        try:
            self.payload.release()
            self.whole.release()
            self._memory.close()
        except BufferError:
            pass


class BufferPool:
    """At most ``capacity_bytes`` of buffers, leased in the order of the requests; unused ones are freed in time."""

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity = capacity_bytes
        self._free: list[PieceBuffer] = []
        self._free_bytes = 0
        self._leased_bytes = 0
        self._waiting: deque[tuple[int, trio.Event]] = deque()
        self._used_at = 0.0

    @property
    def leased_bytes(self) -> int:
        return self._leased_bytes

    @asynccontextmanager
    async def lease(self, size: int) -> AsyncIterator[PieceBuffer]:
        """Wait for a buffer with room for ``size`` bytes of payload. Raise TooLarge if none can ever have it."""
        capacity = _rounded(size)
        if capacity > self._capacity:
            raise TooLarge(f"{size} bytes do not fit into the {self._capacity} bytes for buffers")
        await self._admit(capacity)
        try:
            buffer = self._take(capacity)
            try:
                yield buffer
            finally:
                self._put_back(buffer)
        finally:
            self._leased_bytes -= capacity
            self._wake()

    async def run_trimmer(self) -> None:
        """Free buffers that were not used for a while, until cancelled."""
        while True:
            await trio.sleep(_IDLE_SECONDS)
            if self._free and trio.current_time() - self._used_at >= _IDLE_SECONDS:
                self.trim(0)

    def trim(self, keep_bytes: int) -> None:
        """Free unused buffers until at most ``keep_bytes`` are left."""
        while self._free and self._free_bytes > keep_bytes:
            buffer = self._free.pop(0)
            self._free_bytes -= buffer.capacity
            buffer.close()

    async def _admit(self, capacity: int) -> None:
        if self._waiting or self._leased_bytes + capacity > self._capacity:
            turn = trio.Event()
            entry = (capacity, turn)
            self._waiting.append(entry)
            try:
                await turn.wait()
            except BaseException:
                if turn.is_set():
                    self._leased_bytes -= capacity
                else:
                    self._waiting.remove(entry)
                self._wake()
                raise
        else:
            self._leased_bytes += capacity

    def _wake(self) -> None:
        while self._waiting and self._leased_bytes + self._waiting[0][0] <= self._capacity:
            capacity, turn = self._waiting.popleft()
            self._leased_bytes += capacity
            turn.set()

    def _take(self, capacity: int) -> PieceBuffer:
        for index in range(len(self._free) - 1, -1, -1):  # the newest first: it is the warmest
            if self._free[index].capacity == capacity:
                buffer = self._free.pop(index)
                self._free_bytes -= capacity
                return buffer
        self.trim(max(0, self._capacity - self._leased_bytes))
        return PieceBuffer(capacity)

    def _put_back(self, buffer: PieceBuffer) -> None:
        self._used_at = trio.current_time()
        if len(self._free) >= _FREE_MAX:
            self.trim(self._free_bytes - self._free[0].capacity)
        self._free.append(buffer)
        self._free_bytes += buffer.capacity


def _rounded(size: int) -> int:
    """Round up to one of four sizes for each doubling, so that buffers of similar size can replace each other."""
    grain = max(_GRAIN, 1 << max(0, (size - 1).bit_length() - 3))
    return max(grain, -(-size // grain) * grain)
