"""Changes: the records to append to a volume, and the answers to their callers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import trio

from flared.data.disk.buffers import PieceBuffer
from flared.data.disk.disk import Buffer
from flared.data.index.index import Location
from flared.data.pieces import Piece
from flared.data.record import BLOCK
from flared.errors import Busy, FlareError

Answer = bool | FlareError
Answers = list[Answer]
_UNANSWERED = Busy("the volume stopped before this was durable")


class Batch:
    """The records of one call. When every one of them has an answer, ``done`` gets all answers, once.

    Until then the call's buffers may be read, even if the caller was cancelled. ``pending`` holds the names that are
    being changed on the volume; those of this batch leave it just before ``done``.
    """

    __slots__ = ("_done", "_finished", "_names", "_pending", "_waiting", "answers", "left")

    def __init__(self, count: int, pending: dict[str, Batch], done: Callable[[Answers], None]) -> None:
        self.answers: Answers = [_UNANSWERED] * count
        self.left = 0
        self._names: list[str] = []
        self._pending = pending
        self._done = done
        self._finished = False
        self._waiting: trio.Event | None = None

    def claim(self, names: Sequence[str]) -> None:
        """Note that these names are being changed, by this batch."""
        self._pending.update(dict.fromkeys(names, self))
        self._names += names

    def answer(self, number: int, answer: Answer) -> None:
        self.answers[number] = answer
        self.left -= 1
        if not self.left:
            self.finish()

    def finish(self) -> None:
        """End the batch; records without an answer get none. May be called again."""
        if self._finished:
            return
        self._finished = True
        pending = self._pending
        for name in self._names:
            del pending[name]
        if self._waiting is not None:
            self._waiting.set()
        self._done(self.answers)

    async def wait(self) -> None:
        """Return when the batch is finished; for tasks other than its caller, who gets ``done``."""
        if not self._finished:
            if self._waiting is None:
                self._waiting = trio.Event()
            await self._waiting.wait()


class Answered:
    """The ``done`` of a batch for a task that waits for the answers."""

    __slots__ = ("_answers", "_owner")

    def __init__(self) -> None:
        self._answers: Answers | None = None
        self._owner: trio.lowlevel.Task | None = None

    def __call__(self, answers: Answers) -> None:
        self._answers = answers
        if self._owner is not None:
            trio.lowlevel.reschedule(self._owner)

    async def wait_uncancellable(self) -> Answers:
        """Wait for the answers, also when cancelled. A shielded scope would cost 6 us more."""
        if self._answers is None:
            self._owner = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(_refuse_abort)
        assert self._answers is not None
        return self._answers


def _refuse_abort(_: object) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.FAILED


class Put(NamedTuple):
    """A record to append; ``payload`` is a PieceBuffer in a large segment."""

    batch: Batch
    number: int
    name: str
    piece: Piece
    payload: Buffer | PieceBuffer
    length: int
    """Bytes of the record."""
    absent: bool
    """True if the piece is known not to exist; otherwise the thread that writes queries the index."""


class Delete(NamedTuple):
    """A tombstone to append, for the piece at ``victim``."""

    batch: Batch
    number: int
    name: str
    victim: Location
    length: int = BLOCK
    """The most bytes that the record can have."""


class Hide(NamedTuple):
    """A quarantine record to append, for the piece at ``location``; with ``since_ms`` 0 the piece is shown again."""

    batch: Batch
    number: int
    name: str
    location: Location
    since_ms: int
    length: int = BLOCK


Change = Put | Delete | Hide
