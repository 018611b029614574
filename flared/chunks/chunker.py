"""Cut a body into chunks, within the memory budget, without letting a slow sender hold what others wait for.

An upload begins in OWN_SIZE, which every client has; filled, that becomes a stage of at most STAGE_SIZE; only a full
stage asks for a chunk's lease. Who falls behind at any of these while others want the memory is set aside: the bytes go
to a spill, and ask for a lease when the chunk is whole, so that the lease is held for the data nodes alone. A chunk
that ends within its stage never takes a lease.
Stages have a budget of their own, because a stage's holder waits for a lease: were both paid from one, stages could
take all of it and wait for ever. Where that is used up, a sender that filled its OWN_SIZE in time waits with that.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

import trio

from flared.chunks.budget import Lease, MemoryBudget
from flared.chunks.spill import UNIT_SIZE
from flared.errors import BodyTruncated

if TYPE_CHECKING:
    from flared.chunks.spill import Spill, Spills

OWN_SIZE = UNIT_SIZE
"""The memory that every client may hold for any time: with a thousand of them, 32 MiB beside the budget."""
STAGE_SIZE = 256 * 1024
FILL_SECONDS = 2.0
"""A client that takes longer over a stage that others want is set aside."""
PACE_SECONDS = 0.25
PACE_PART = 8
"""A leased chunk that others wait for has to grow by one part in so many of its size in each PACE_SECONDS: 4 MiB/s for
a chunk of 8 MiB."""


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


class Held(Protocol):
    """Memory that goes back once: a Lease, or a stage."""

    def shrink(self, amount: int) -> None: ...

    def release(self) -> None: ...


class _Stage:
    """The memory that an upload fills before it has a lease; from OWN_SIZE on it is in the books, with its coding."""

    def __init__(self, stages: MemoryBudget, size: int) -> None:
        self._stages = stages
        self._reserved = 0
        self.view = memoryview(bytearray(size))

    def grow(self, size: int, filled: int) -> bool:
        """Take ``size`` bytes, with the first ``filled`` as they are; False if they are not to be had."""
        if not self._stages.reserve_nowait(2 * size):
            return False
        self._reserved = 2 * size
        before, self.view = self.view, memoryview(bytearray(size))
        self.view[:filled] = before[:filled]
        return True

    @property
    def counted(self) -> bool:
        """Return whether it is more than the client's own."""
        return bool(self._reserved)

    def shrink(self, amount: int) -> None:
        """Nothing: it is small."""

    def release(self) -> None:
        self.view = memoryview(b"")
        if self._reserved:
            self._stages.give_back(self._reserved)
            self._reserved = 0


class PlainChunk:
    """One chunk's plain bytes. ``last`` is known when the body's length is, or when its end was seen."""

    __slots__ = ("_held", "last", "view")

    def __init__(self, view: memoryview, held: Held, *, last: bool) -> None:
        self.view = view
        self.last = last
        self._held = held

    def shrink(self, beside: int) -> None:
        self._held.shrink(beside)

    def release(self) -> None:
        self.view = memoryview(b"")
        self._held.release()


Obtain = Callable[[int], Awaitable[Lease]]
"""Get a lease for a chunk of this size, as the holder's situation allows: waiting, or by finishing something first."""


class Chunker:
    """Yields the chunks of one body, in order."""

    def __init__(
        self,
        source: BodySource,
        chunk_size: int,
        *,
        budget: MemoryBudget,
        stages: MemoryBudget,
        spills: Spills,
        obtain: Obtain,
    ) -> None:
        self._source = source
        self._chunk_size = chunk_size
        self._budget = budget
        self._stages = stages
        self._spills = spills
        self._obtain = obtain
        self._taken = 0
        self._received = 0
        self._ended = False
        self._slow = True
        self._ahead = b""

    async def next(self) -> PlainChunk | None:
        """The next chunk, as long as the chunk size unless it is the last; None when the body has ended.

        Raises what the body raises; BodyTruncated; and Busy if the sender is slow and its bytes find no room.
        """
        want = self._chunk_size
        if self._source.length is not None:
            want = min(want, self._source.length - self._taken)
        if self._ended or not want:
            return None
        held, view = await (self._fill_stage(want) if self._slow else self._fill_lease(want, None, 0))
        if not len(view):
            held.release()
            return None
        self._taken += len(view)
        length = self._source.length
        return PlainChunk(view, held, last=self._ended if length is None else self._taken >= length)

    async def _fill_stage(self, want: int) -> tuple[Held, memoryview]:
        """A sender that has earned no lease yet, or has lost it: a chunk, and what holds it."""
        stage = _Stage(self._stages, min(want, OWN_SIZE))
        try:
            filled, slow = await self._fill(stage, self._begin(stage.view), want)
            if not self._is_whole(filled, want) and stage.grow(min(want, STAGE_SIZE), filled):
                filled, slow = await self._fill(stage, filled, want)
            if self._is_whole(filled, want):
                return stage, stage.view[:filled]
            if slow and self._is_crowded():
                return await self._spill(stage, stage.view[:filled], want)
            return await self._fill_lease(want, stage, filled)
        except BaseException:
            stage.release()
            raise

    async def _fill(self, stage: _Stage, filled: int, want: int) -> tuple[int, bool]:
        """Receive until the stage is full or the chunk whole, or it takes FILL_SECONDS and others want the memory.
        How much is there, and whether it took that long."""
        started = trio.current_time()
        view, slow = stage.view, False
        end = len(view) + (len(view) == want)  # a whole chunk takes a look at what follows, too
        while filled < end and not self._is_whole(filled, want) and not (slow and stage.counted and self._is_crowded()):
            patience = math.inf if not stage.counted else PACE_SECONDS if slow else FILL_SECONDS
            with trio.move_on_after(patience):
                while filled < end and not self._is_whole(filled, want):
                    filled = await self._receive_part(view, filled, want)
            slow = trio.current_time() - started >= FILL_SECONDS
        return filled, slow

    def _is_crowded(self) -> bool:
        """Return whether others want the memory that a stage, or the lease it leads to, would take."""
        statistics = self._stages.statistics()
        return bool(self._budget.waiting) or 2 * statistics.leased >= statistics.total

    async def _fill_lease(self, want: int, stage: _Stage | None, filled: int) -> tuple[Held, memoryview]:
        """A chunk received into a lease for as long as it keeps pace. It begins with what is in ``stage``."""
        lease = await self._obtain(want)
        try:
            if stage is None:
                filled = self._begin(lease.view)
            else:
                lease.view[:filled] = stage.view[:filled]
                stage.release()
            while not self._is_whole(filled, want):
                before = filled
                with trio.move_on_after(PACE_SECONDS) as scope:
                    while not self._is_whole(filled, want):
                        filled = await self._receive_part(lease.view, filled, want)
                behind = scope.cancelled_caught and filled - before < want // PACE_PART
                if behind and not self._is_whole(filled, want) and self._budget.waiting:
                    return await self._spill(lease, lease.view[:filled], want)
        except BaseException:
            lease.release()
            raise
        self._slow = False
        return lease, lease.view[:filled]

    async def _spill(self, held: Held, begun: memoryview, want: int) -> tuple[Held, memoryview]:
        """Set the sender aside until its chunk is whole: it holds OWN_SIZE meanwhile, and a file."""
        self._slow = True
        spill = await self._spills.open()
        try:
            await spill.append(begun)
            filled = len(begun)
            held.release()
            own = memoryview(bytearray(OWN_SIZE))
            while not self._is_whole(filled, want):
                part, room = 0, min(OWN_SIZE, want - filled)
                while not self._is_whole(filled + part, want) and (part < room or not room):
                    part = await self._receive_part(own[:room], part, room)
                if part:
                    await spill.append(own[:part])
                filled += part
            return await self._read_back(spill, filled)
        finally:
            spill.close()

    async def _read_back(self, spill: Spill, size: int) -> tuple[Held, memoryview]:
        lease = await self._obtain(size)
        try:
            await spill.read_all(lease.view[:size])
        except BaseException:
            lease.release()
            raise
        return lease, lease.view[:size]

    def _begin(self, view: memoryview) -> int:
        """Put what was looked at ahead in front."""
        filled = len(self._ahead)
        view[:filled] = self._ahead
        self._ahead = b""
        return filled

    def _is_whole(self, filled: int, want: int) -> bool:
        """Return whether the chunk is received, and it is known whether it is the last."""
        return self._ended or (filled == want and (self._source.length is not None or bool(self._ahead)))

    async def _receive_part(self, view: memoryview, filled: int, want: int) -> int:
        """Receive behind the first ``filled`` bytes of ``view``; if these are all, the first byte of what follows.
        Returns how many bytes of ``view`` are filled then."""
        if filled < want:
            return filled + await self._receive(view[filled:want])
        ahead = bytearray(1)
        self._ahead = bytes(ahead[: await self._receive(memoryview(ahead))])
        return filled

    async def _receive(self, buffer: memoryview) -> int:
        received = await self._source.receive_into(buffer)
        self._received += received
        if not received:
            self._ended = True
            length = self._source.length
            if length is not None and self._received < length:
                raise BodyTruncated(f"the body ended after {self._received} of {length} bytes")
        return received
