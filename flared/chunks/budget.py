"""MemoryBudget: one bound for every body that passes through, and the reused buffers that it pays for.

The bound holds for any sizes of objects and any number of clients: leased plus kept buffers never exceed
``total`` (a single lease larger than that is cut down to it in the books, so that it can pass alone). After the total
was made smaller, what is leased already may be more than it until it was given back; nothing new is leased meanwhile.

The bound is on bytes that live, not on what the books say of them. A buffer that was given back is lent again or
emptied: its pages go back to the kernel at once, even while an exception that is not collected yet still refers to
it. So no garbage collection is needed for it to hold.
"""

from __future__ import annotations

import mmap
from collections import deque
from dataclasses import dataclass
from typing import Self

import trio

BUFFER_SIZE_MIN = 64 * 1024
_NOTHING = memoryview(b"")


@dataclass(frozen=True, slots=True)
class BudgetStatistics:
    total: int
    leased: int
    kept: int
    waiting: int


class Lease:
    """Buffers reserved together. ``view`` is the first ``size`` bytes of a page-aligned buffer; its old contents are
    undefined. ``release`` may be called more than once; the view must not be used after it."""

    __slots__ = ("_amount", "_budget", "_buffer", "view")

    def __init__(self, budget: MemoryBudget, amount: int, buffer: memoryview, size: int) -> None:
        self._budget = budget
        self._amount = amount
        self._buffer = buffer
        self.view = buffer[:size]

    def shrink(self, amount: int) -> None:
        """Give back what was reserved beyond the buffer and ``amount`` bytes beside it."""
        keep = min(self._amount, len(self._buffer) + amount)
        if self._amount > keep:
            self._budget.give_back(self._amount - keep)
            self._amount = keep

    def release(self) -> None:
        if self._amount:
            amount, self._amount = self._amount, 0
            # A holder of this lease must not keep a buffer mapped that the budget no longer counts.
            buffer, self._buffer, self.view = self._buffer, _NOTHING, _NOTHING
            self._budget._return(buffer, amount)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class _Waiter:
    __slots__ = ("granted", "taken", "wanted")

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.taken = 0
        """The amounts in the books once it is granted."""
        self.granted = trio.Event()


class MemoryBudget:
    """First come, first served: a large request is never overtaken by small ones for ever."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._leased = 0
        self._kept: dict[int, list[memoryview]] = {}
        self._kept_bytes = 0
        self._idle: set[int] = set()
        self._waiters: deque[_Waiter] = deque()

    @property
    def waiting(self) -> int:
        return len(self._waiters)

    def resize(self, total: int) -> None:
        """From now on lease up to ``total`` bytes. Who holds a lease keeps it; who waits, waits for no more."""
        self.total = total
        self._make_room()
        self._grant()

    def reserve_nowait(self, amount: int) -> bool:
        """Take ``amount`` bytes out of the budget, if they are free and no lease waits; return whether it did.

        For amounts far below the total: larger ones take a lease, which can pass alone.
        """
        if self._waiters or self._leased + amount > self.total:
            return False
        self._leased += amount
        return True

    async def reserve(self, amount: int) -> int:
        """Take ``amount`` bytes out of the budget, or all of it if that is less; waits in line.

        Returns what was taken, which is to be given back.
        """
        taken = min(amount, self.total)
        if self.reserve_nowait(taken):
            return taken
        waiter = _Waiter(amount)
        self._waiters.append(waiter)
        try:
            await waiter.granted.wait()
        except trio.Cancelled:
            if waiter.granted.is_set():
                self.give_back(waiter.taken)
            else:
                self._waiters.remove(waiter)
                self._grant()
            raise
        return waiter.taken

    def give_back(self, amount: int) -> None:
        self._leased -= amount
        self._grant()

    def lease_nowait(self, size: int, *, beside: int = 0) -> Lease | None:
        """A buffer of ``size`` bytes, and ``beside`` bytes in the books for what the holder makes itself."""
        amount = min(buffer_size(size) + beside, self.total)
        return self._lease(size, amount) if self.reserve_nowait(amount) else None

    async def lease(self, size: int, *, beside: int = 0) -> Lease:
        """Like ``lease_nowait``, but waits. A holder of another lease must not: that is how deadlocks are made."""
        return self._lease(size, await self.reserve(buffer_size(size) + beside))

    def trim(self) -> None:
        """Unmap the kept buffers of every size not used since the last call."""
        for size in [size for size in self._kept if size in self._idle]:
            for buffer in self._kept.pop(size):
                _empty(buffer)
                self._kept_bytes -= size
        self._idle = set(self._kept)

    def statistics(self) -> BudgetStatistics:
        return BudgetStatistics(self.total, self._leased, self._kept_bytes, len(self._waiters))

    def _lease(self, size: int, amount: int) -> Lease:
        rounded = buffer_size(size)
        self._idle.discard(rounded)
        kept = self._kept.get(rounded)
        if kept:
            buffer = kept.pop()
            self._kept_bytes -= rounded
        else:
            buffer = _map(rounded)
        self._make_room()
        return Lease(self, amount, buffer, size)

    def _return(self, buffer: memoryview, amount: int) -> None:
        size = len(buffer)
        self._kept.setdefault(size, []).append(buffer)
        self._kept_bytes += size
        self._leased -= amount
        self._make_room()
        self._grant()

    def _make_room(self) -> None:
        """Unmap kept buffers, the largest first, until leased and kept together fit."""
        while self._kept_bytes and self._leased + self._kept_bytes > self.total:
            size = max(size for size, buffers in self._kept.items() if buffers)
            _empty(self._kept[size].pop())
            self._kept_bytes -= size

    def _grant(self) -> None:
        while self._waiters:
            taken = min(self._waiters[0].wanted, self.total)
            if self._leased + taken > self.total:
                return
            waiter = self._waiters.popleft()
            waiter.taken = taken
            self._leased += taken
            waiter.granted.set()


def buffer_size(size: int) -> int:
    """``size`` rounded up to a power of two, so that few sizes of buffers are kept."""
    return max(BUFFER_SIZE_MIN, 1 << (size - 1).bit_length()) if size else BUFFER_SIZE_MIN


def _map(size: int) -> memoryview:
    """Private, because the pages of a shared mapping outlive MADV_DONTNEED."""
    return memoryview(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


def _empty(buffer: memoryview) -> None:
    """Give the pages back now. The mapping itself, which costs nothing, goes with the last reference to it."""
    mapping = buffer.obj
    assert isinstance(mapping, mmap.mmap)
    mapping.madvise(mmap.MADV_DONTNEED)
