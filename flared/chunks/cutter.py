"""Cut a body into chunks, within the memory budget, without letting a slow sender hold what others wait for.

An upload first fills a stage of at most STAGE_SIZE; only then does it ask for a chunk's lease. A leased chunk that
does not fill within FILL_SECONDS while others wait is spilled to an unlinked file and asks again when it is whole.
Stages have a budget of their own, because a stage's holder waits for a lease: were both paid from one, stages could
take all of it and wait for ever. Where that budget is used up, a stage is STAGE_SIZE_MIN.
"""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable, Callable
from typing import IO, TYPE_CHECKING, Protocol

import trio

from flared.chunks.budget import Lease, MemoryBudget
from flared.errors import BodyTruncated, MetadataFull

if TYPE_CHECKING:
    from flared.background import Threads

STAGE_SIZE = 256 * 1024
STAGE_SIZE_MIN = 4 * 1024
SPILL_UNIT_SIZE = 64 * 1024
FILL_SECONDS = 2.0


class BodySource(Protocol):
    """Where a body comes from: an HTTP request, a form's part, a test."""

    @property
    def length(self) -> int | None:
        """Bytes in all, or None while that is not known."""

    async def receive_into(self, buffer: memoryview) -> int:
        """1 to len(buffer) bytes; 0 at the end. Raises BodyTruncated or ConnectionLost. Safe to cancel: no byte
        is lost."""

    async def read_all(self, limit: int) -> bytes:
        """Everything at once; TooLarge if it is more than ``limit``."""


class Cut:
    """One chunk's plain bytes. ``last`` is known when the body's length is, or when its end was seen."""

    __slots__ = ("_lease", "last", "view")

    def __init__(self, view: memoryview, lease: Lease, *, last: bool) -> None:
        self.view = view
        self.last = last
        self._lease = lease

    def shrink(self, beside: int) -> None:
        self._lease.shrink(beside)

    def release(self) -> None:
        self.view = memoryview(b"")
        self._lease.release()


Obtain = Callable[[int], Awaitable[Lease]]
"""Get a lease for a chunk of this size, as the holder's situation allows: waiting, or by finishing something first."""


class Cutter:
    """Yields the chunks of one body, in order."""

    def __init__(
        self,
        source: BodySource,
        chunk_size: int,
        *,
        budget: MemoryBudget,
        stages: MemoryBudget,
        threads: Threads,
        obtain: Obtain,
        spill_directory: str,
    ) -> None:
        self._source = source
        self._chunk_size = chunk_size
        self._budget = budget
        self._stages = stages
        self._threads = threads
        self._obtain = obtain
        self._spill_directory = spill_directory
        self._taken = 0
        self._received = 0
        self._ended = False
        self._slow = True
        self._ahead = b""

    async def next(self) -> Cut | None:
        """The next chunk, as long as the chunk size unless it is the last; None when the body has ended."""
        want = self._chunk_size
        if self._source.length is not None:
            want = min(want, self._source.length - self._taken)
        if (self._ended and not self._ahead) or not want:
            return None
        lease, filled = await self._start(want)
        try:
            filled, lease = await self._fill(lease, filled, want)
            self._taken += filled
            if not filled:
                lease.release()
                return None
            return Cut(lease.view[:filled], lease, last=await self._is_last())
        except BaseException:
            lease.release()
            raise

    async def _start(self, want: int) -> tuple[Lease, int]:
        """A lease with the chunk's first bytes in it, and their count."""
        if not self._slow:
            # A sender that filled its last chunk in time has earned its lease.
            lease = await self._obtain(want)
            lease.view[: len(self._ahead)] = self._ahead
            return lease, len(self._ahead)
        size = min(want, STAGE_SIZE)
        reserved = self._stages.reserve_nowait(size)
        try:
            stage = bytearray(size if reserved else min(size, STAGE_SIZE_MIN))
            filled = len(self._ahead)
            stage[:filled] = self._ahead
            with memoryview(stage) as view:
                while filled < len(stage) and not self._ended:
                    filled += await self._receive(view[filled:])
            lease = await self._obtain(want if not self._ended else max(filled, 1))
            lease.view[:filled] = stage[:filled]
            return lease, filled
        finally:
            if reserved:
                self._stages.give_back(size)

    async def _fill(self, lease: Lease, filled: int, want: int) -> tuple[int, Lease]:
        """Receive until the chunk is full; gives the lease away and takes another when a spill was needed."""
        self._slow = False
        while filled < want and not self._ended:
            with trio.move_on_after(FILL_SECONDS) as scope:
                while filled < want and not self._ended:
                    filled += await self._receive(lease.view[filled:want])
            if scope.cancelled_caught and filled < want and self._budget.waiting:
                self._slow = True
                return await self._spill(lease, filled, want)
        return filled, lease

    async def _spill(self, lease: Lease, filled: int, want: int) -> tuple[int, Lease]:
        try:
            spill: IO[bytes] = tempfile.TemporaryFile(dir=self._spill_directory, buffering=0)  # noqa: SIM115  # closed below
        except OSError as error:
            raise MetadataFull(f"a slow upload could not be set aside: {error.strerror}") from None
        with spill:
            await self._write_spill(spill, lease.view[:filled])
            lease.release()
            stage = memoryview(bytearray(SPILL_UNIT_SIZE))
            while filled < want and not self._ended:
                received = await self._receive(stage[: want - filled])
                await self._write_spill(spill, stage[:received])
                filled += received
            lease = await self._obtain(want)
            try:
                await self._threads.run(_read_back, spill, lease.view[:filled])
            except BaseException:
                lease.release()
                raise
        return filled, lease

    async def _write_spill(self, spill: IO[bytes], view: memoryview) -> None:
        try:
            await self._threads.run(_write_all, spill, view)
        except OSError as error:
            raise MetadataFull(f"a slow upload could not be set aside: {error.strerror}") from None

    async def _receive(self, buffer: memoryview) -> int:
        received = await self._source.receive_into(buffer)
        self._received += received
        if not received:
            self._ended = True
            length = self._source.length
            if length is not None and self._received < length:
                raise BodyTruncated(f"the body ended after {self._received} of {length} bytes")
        return received

    async def _is_last(self) -> bool:
        """Whether nothing follows; for a body of unknown length that takes a look ahead."""
        length = self._source.length
        if length is not None:
            return self._taken >= length
        self._ahead = b""
        if not self._ended:
            ahead = bytearray(1)
            received = await self._receive(memoryview(ahead))
            self._ahead = bytes(ahead[:received])
        return self._ended


def _write_all(spill: IO[bytes], view: memoryview) -> None:
    while len(view):
        written = spill.write(view)
        view = view[written:]


def _read_back(spill: IO[bytes], view: memoryview) -> None:
    spill.seek(0)
    filled = 0
    while filled < len(view):
        received = spill.readinto(view[filled:])  # type: ignore[attr-defined]  # unbuffered: a FileIO
        assert received, "a spill file is shorter than what was written to it"
        filled += received
