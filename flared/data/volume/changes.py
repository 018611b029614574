"""Changes: what is to be appended to a volume, and how whoever asked for it hears of the outcome."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import trio

from flared.data.disk.buffers import PieceBuffer
from flared.data.disk.disk import Buffer
from flared.data.index.index import Location
from flared.data.pieces import Piece
from flared.errors import Busy, FlareError

Answer = bool | FlareError
Answers = list[Answer]
_UNANSWERED = Busy("the volume stopped before this was durable")


class Batch:
    """The records of one call, under way until every one of them has its answer; then ``done`` gets them, once.

    Until then the call's buffers are read, whoever has lost interest meanwhile. ``pending`` holds the names that are
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
        """Nothing more is answered. Not an error if that is known already."""
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
        """Return when the batch is finished; for others than the caller, who hears by ``done``."""
        if not self._finished:
            if self._waiting is None:
                self._waiting = trio.Event()
            await self._waiting.wait()


class Answered:
    """What a task waits for that began a batch: ``done`` is this object, called with the answers."""

    __slots__ = ("_answers", "_owner")

    def __init__(self) -> None:
        self._answers: Answers | None = None
        self._owner: trio.lowlevel.Task | None = None

    def __call__(self, answers: Answers) -> None:
        self._answers = answers
        if self._owner is not None:
            trio.lowlevel.reschedule(self._owner)

    async def wait_uncancellable(self) -> Answers:
        """Return the answers; also when cancelled it waits for them. A shielded scope would cost 6 us more."""
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
    """Known not to be there; else the index is asked, in the thread that writes."""


class Delete(NamedTuple):
    """A tombstone to append, for the piece at ``victim``."""

    batch: Batch
    number: int
    name: str
    victim: Location


class Hide(NamedTuple):
    """A quarantine record to append, for the piece at ``location``; with ``since_ms`` 0 the piece is shown again."""

    batch: Batch
    number: int
    name: str
    location: Location
    since_ms: int


Change = Put | Delete | Hide
