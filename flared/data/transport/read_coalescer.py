"""ReadCoalescer: looks up and reads together the single reads that arrive in one turn of the event loop.

The first of them leads: it lets other tasks run once, so that all that are ready join, and then reads for all. That
halves the cost of a read; and since the answers leave together, a client's host wakes up once, not for each.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import trio

from flared.data.pieces import Piece
from flared.errors import Busy, FlareError

Found = tuple[Piece, bytes] | FlareError

NAMES_MAX = 64
"""Small pieces read at a time: at most 8 MiB of them in memory."""


class _Reader:
    """A read that waits for the leader."""

    __slots__ = ("answer", "task")

    def __init__(self, task: trio.lowlevel.Task) -> None:
        self.task: trio.lowlevel.Task | None = task
        self.answer: Found | None = None

    def drop(self, _: object) -> trio.lowlevel.Abort:
        self.task = None
        return trio.lowlevel.Abort.SUCCEEDED

    def wake(self) -> None:
        if self.task is not None:
            trio.lowlevel.reschedule(self.task)
            self.task = None


class ReadCoalescer:
    def __init__(self, read_many: Callable[[Sequence[str]], Awaitable[list[Found]]]) -> None:
        self._read_many = read_many
        self._names: list[str] = []
        self._readers: list[_Reader] = []

    async def read(self, name: str) -> Found:
        """Return the result of ``read_many`` for this name; Busy if the leader was cancelled."""
        names = self._names
        names.append(name)
        if len(names) == 1:
            return await self._lead()
        reader = _Reader(trio.lowlevel.current_task())
        self._readers.append(reader)
        if len(names) == NAMES_MAX:
            self._names, self._readers = [], []  # the next read leads the next group
        await trio.lowlevel.wait_task_rescheduled(reader.drop)
        return reader.answer or Busy("the read was cancelled with the connection that led its group; try again")

    async def _lead(self) -> Found:
        names, readers = self._names, self._readers
        try:
            try:
                await trio.lowlevel.checkpoint()
            finally:
                if self._names is names:
                    self._names, self._readers = [], []
            first, *others = await self._read_many(names)
            for reader, answer in zip(readers, others, strict=True):
                reader.answer = answer
        finally:
            for reader in readers:
                reader.wake()
        return first
