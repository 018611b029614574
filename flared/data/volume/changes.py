"""Changes: what is to be appended to a volume, and how whoever asked for it hears of the outcome."""

from __future__ import annotations

from typing import NamedTuple

import trio

from flared.data.disk.buffers import PieceBuffer
from flared.data.disk.disk import Buffer
from flared.data.index.index import Location
from flared.data.pieces import Piece
from flared.errors import Busy, FlareError

Answer = bool | FlareError
_UNANSWERED = Busy("the volume stopped before this was durable")


class Batch:
    """The records of one call; the caller waits until every one of them has its answer."""

    __slots__ = ("_owner", "answers", "done", "left")

    def __init__(self, count: int) -> None:
        self.answers: list[Answer] = [_UNANSWERED] * count
        self.left = 0
        self.done = trio.Event()
        self._owner: trio.lowlevel.Task | None = None

    def answer(self, number: int, answer: Answer) -> None:
        self.answers[number] = answer
        self.left -= 1
        if not self.left:
            self.finish()

    def finish(self) -> None:
        """Nothing more is answered: whoever waits goes on."""
        self.done.set()
        owner, self._owner = self._owner, None
        if owner is not None:
            trio.lowlevel.reschedule(owner)

    async def wait_whatever_comes(self) -> None:
        """Until all is answered, also when cancelled. For one caller; a shielded scope costs 6 us more."""
        if not self.done.is_set():
            self._owner = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(_refuse_abort)


def _refuse_abort(_: object) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.FAILED


class Put(NamedTuple):
    """A record to append; ``payload`` is a PieceBuffer in a large segment."""

    batch: Batch
    number: int
    name: str
    piece: Piece
    payload: Buffer | PieceBuffer
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
