"""Units: the memory that a stream reads into, and what every stream of a chunk can do.

A client keeps its unit while it reads at a fair pace, or while no other client wants the memory. Otherwise the unit is
taken away: ``put_back`` returns the unsent bytes, and the stream goes on by slices, for which memory is leased only
while reading from the data nodes, never while waiting for the client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from flared.chunks.spill import UNIT_SIZE as SLICE_SIZE
from flared.data.pieces import BLOCK_SIZE

if TYPE_CHECKING:
    from flared.chunks.budget import Lease, MemoryBudget

__all__ = ["SLICE_SIZE"]

UNIT_SIZE = 1024 * 1024
"""Bytes that move at once: larger units save system calls, smaller ones let 64 readers share the budget."""
UNIT_SIZE_MIN = BLOCK_SIZE
FRAMES_UNIT_SIZE = 2 * UNIT_SIZE
"""Half of it for stored bytes, half for what they decode to."""
FRAMES_UNIT_SIZE_MIN = 4 * BLOCK_SIZE
"""A frame may lie across two blocks."""

REREAD_SIZE = FRAMES_UNIT_SIZE_MIN
"""Of ``Chunks.blocks``, for one slice: enough for every shape."""


class ChunkStream(Protocol):
    async def prepare(self) -> None:
        """Ask for the bytes, so that they are under way while the chunk before is still being sent."""

    async def next(self, *, slow: bool) -> bytes | memoryview | None:
        """The next verified bytes, to be used before the next call; None at the end.

        ``slow``: as bytes of at most SLICE_SIZE, with nothing leased when this returns. So it is, too, where no unit
        can be had. Raises ChunkLost or Unavailable when no piece can serve the rest.
        """

    async def put_back(self, count: int) -> bool:
        """The client is slow over the last ``count`` bytes. True if their memory was given back because others want
        it: they will come again. False: keep sending them."""

    async def close(self) -> None:
        """Give back what is held; nothing is written to it any more."""


def lease_unit(units: MemoryBudget, large: int, small: int) -> Lease | None:
    """A large unit while half of them are free, then small ones, then none."""
    statistics = units.statistics()
    lease = units.lease_nowait(large) if 2 * statistics.leased < statistics.total else None
    return lease or units.lease_nowait(small)


def is_wanted(units: MemoryBudget) -> bool:
    """Return whether other clients get less than they ask for, or wait."""
    statistics = units.statistics()
    return bool(statistics.waiting) or 2 * statistics.leased >= statistics.total


def release(lease: Lease | None) -> None:
    if lease is not None:
        lease.release()
