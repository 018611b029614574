"""Links: whatever small calls wait for one data node travel together, one batch a request, on two links.

A free link takes everything that waits, at once: no timer, no added delay. While both are under way the next batch
gathers. Puts and gets have links of their own, so that a slow sync does not delay reads. Each caller hears exactly
once, whatever becomes of the batch it was in.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import outcome
import trio

from flared.data import wire
from flared.data.pieces import LARGE_SIZE, Piece, piece_is_good
from flared.errors import Busy, FlareError, NodeUnreachable, PieceCorrupt, ProtocolError
from flared.log import current_request, name_requests

if TYPE_CHECKING:
    from flared.names import NodeName

T = TypeVar("T")

Done = Callable[[FlareError | None], None]
Put = tuple[Piece, bytes | memoryview, Done, int | str]
"""The last is the request that it is for, as ``log.current_request`` has it."""
Post = Callable[[str, bytes, int], Awaitable[bytes]]
"""Send a body to a path of the node; the body of its 200, at most so long. Raises FlareError for anything else."""

LINKS = 2
"""One is under way while the node works on the other; a third only makes batches smaller."""

WAITING_BYTES_MAX = 64 * 1024 * 1024
"""Payload that may wait for one node. The api node's memory budget is reached long before; this is the second lock."""

WAITING_RECORDS_MAX = 32 * wire.RECORDS_MAX


@dataclass(frozen=True, slots=True)
class LinkStatistics:
    batches: int
    records: int
    failed_batches: int
    waiting: int


class _Links(ABC):
    """What puts and gets share: link tasks that sleep while nothing waits."""

    def __init__(self, node: NodeName, post: Post) -> None:
        self._node = node
        self._post = post
        self._idle = trio.lowlevel.ParkingLot()
        self._woken = False
        self._open = False
        self._batches = self._records = self._failed_batches = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Carry what is queued until cancelled; then everything still waiting is refused."""
        self._open = True
        try:
            async with trio.open_nursery() as nursery:
                for _ in range(LINKS):
                    nursery.start_soon(self._carry_on)
                task_status.started()
        finally:
            self._open = False
            self._refuse_waiting()

    async def _carry_on(self) -> None:
        while True:
            while not self._count_waiting():
                await self._idle.park()
                self._woken = False
            await self._carry_next()

    def _wake(self) -> None:
        """Wake one link, once: it takes all that is queued until it runs."""
        if self._idle and not self._woken:
            self._woken = True
            self._idle.unpark()

    def _stopped(self) -> NodeUnreachable:
        return NodeUnreachable(self._node, "its links are closed")

    def _blame(self, error: FlareError) -> FlareError:
        return NodeUnreachable(self._node, str(error)) if isinstance(error, ProtocolError) else error

    def statistics(self) -> LinkStatistics:
        return LinkStatistics(self._batches, self._records, self._failed_batches, self._count_waiting())

    @abstractmethod
    def _count_waiting(self) -> int: ...

    @abstractmethod
    async def _carry_next(self) -> None:
        """Take a batch, send it, and tell each who waits for it."""

    @abstractmethod
    def _refuse_waiting(self) -> None: ...


class PutLinks(_Links):
    """Small puts on their way to one node."""

    def __init__(self, node: NodeName, post: Post) -> None:
        super().__init__(node, post)
        self._waiting: list[Put] = []
        self._waiting_bytes = 0

    def put_nowait(self, piece: Piece, payload: bytes | memoryview, done: Done) -> None:
        """Queue a piece smaller than LARGE_SIZE. ``payload`` is not copied: it must stay as it is until ``done``.

        ``done`` is called once, from a link's task; or at once, if the links are closed or far too much waits.
        """
        assert len(payload) == piece.size < LARGE_SIZE
        if not self._open:
            done(self._stopped())
        elif len(self._waiting) >= WAITING_RECORDS_MAX or self._waiting_bytes >= WAITING_BYTES_MAX:
            done(Busy(f"too much waits for node {self._node}"))
        else:
            self._waiting.append((piece, payload, done, current_request.get()))
            self._waiting_bytes += piece.size
            self._wake()

    def _count_waiting(self) -> int:
        return len(self._waiting)

    async def _carry_next(self) -> None:
        batch = self._take()
        try:
            current_request.set(name_requests(put[3] for put in batch))
            body = wire.pack_pieces([put[0] for put in batch], [put[1] for put in batch])
            answer = await self._post(wire.PATH_PUT, body, 2 * len(batch))
            statuses = wire.parse_statuses(answer, len(batch))
        except FlareError as error:
            self._failed_batches += 1
            _settle_all(batch, self._blame(error))
        except BaseException:
            _settle_all(batch, self._stopped())
            raise
        else:
            self._settle(batch, statuses)

    def _take(self) -> list[Put]:
        """As much of what waits as fits into one batch."""
        batch = self._waiting
        if len(batch) <= wire.RECORDS_MAX and self._waiting_bytes <= wire.BATCH_BYTES_MAX:
            self._waiting, self._waiting_bytes = [], 0
        else:
            count, size = 0, 0
            for piece, _, _, _ in batch[: wire.RECORDS_MAX]:
                if size + piece.size > wire.BATCH_BYTES_MAX:
                    break
                count += 1
                size += piece.size
            self._waiting = batch[count:]
            self._waiting_bytes -= size
            del batch[count:]
            self._wake()
        self._batches += 1
        self._records += len(batch)
        return batch

    def _settle(self, batch: Sequence[Put], statuses: Sequence[int]) -> None:
        for (piece, _, done, _), status in zip(batch, statuses, strict=True):
            done(None if status == wire.STORED else wire.put_error(self._node, piece.name, status))

    def _refuse_waiting(self) -> None:
        batch, self._waiting, self._waiting_bytes = self._waiting, [], 0
        _settle_all(batch, self._stopped())


def _settle_all(batch: Sequence[Put], error: FlareError) -> None:
    for _, _, done, _ in batch:
        done(error)


class _Asked:
    """One name that somebody waits for; several may wait for the same."""

    __slots__ = ("tasks",)

    def __init__(self) -> None:
        self.tasks: list[trio.lowlevel.Task] = []

    def answer(self, answer: tuple[Piece, bytes]) -> None:
        tasks, self.tasks = self.tasks, []
        for task in tasks:
            trio.lowlevel.reschedule(task, outcome.Value(answer))

    def refuse(self, make_error: Callable[[], FlareError]) -> None:
        tasks, self.tasks = self.tasks, []
        for task in tasks:
            # Each gets an error of its own: raising one in several tasks would mix up their tracebacks.
            trio.lowlevel.reschedule(task, outcome.Error(make_error()))


class GetLinks(_Links):
    """Small gets on their way to one node."""

    def __init__(self, node: NodeName, post: Post) -> None:
        super().__init__(node, post)
        self._waiting: dict[str, _Asked] = {}

    async def get(self, name: str) -> tuple[Piece, bytes]:
        """The piece of this name, verified: its name, its length, its checksum.

        Raises NoSuchPiece, PieceCorrupt, TooLarge (get it alone), NodeUnreachable. Cancelling only drops the interest.
        """
        if not self._open:
            raise self._stopped()
        asked = self._waiting.get(name)
        if asked is None:
            asked = self._waiting[name] = _Asked()
            self._wake()
        task = trio.lowlevel.current_task()
        asked.tasks.append(task)

        def drop(_: object) -> trio.lowlevel.Abort:
            asked.tasks.remove(task)
            return trio.lowlevel.Abort.SUCCEEDED

        answer: tuple[Piece, bytes] = await trio.lowlevel.wait_task_rescheduled(drop)
        return answer

    def _count_waiting(self) -> int:
        return len(self._waiting)

    async def _carry_next(self) -> None:
        batch = self._take()
        names = list(batch)
        if not names:
            return
        asking = (task for asked in batch.values() for task in asked.tasks)
        current_request.set(name_requests(task.context.get(current_request, 0) for task in asking))
        try:
            answer = await self._post(wire.PATH_GET, wire.pack_names(names), wire.GET_BODY_BYTES_MAX)
            answers = wire.parse_answers(answer, names)
        except FlareError as error:
            self._failed_batches += 1
            blamed = self._blame(error)
            _refuse_all(batch, lambda: _like(blamed))
        except BaseException:
            _refuse_all(batch, self._stopped)
            raise
        else:
            self._settle(batch, answers)

    def _take(self) -> dict[str, _Asked]:
        batch = {name: asked for name, asked in self._waiting.items() if asked.tasks}
        self._waiting = {}
        if len(batch) > wire.RECORDS_MAX:
            items = list(batch.items())
            batch = dict(items[: wire.RECORDS_MAX])
            self._waiting = dict(items[wire.RECORDS_MAX :])
            self._wake()
        if batch:
            self._batches += 1
            self._records += len(batch)
        return batch

    def _settle(self, batch: dict[str, _Asked], answers: Sequence[tuple[Piece, bytes] | int]) -> None:
        again: dict[str, _Asked] = {}
        first = True
        for (name, asked), answer in zip(batch.items(), answers, strict=True):
            if isinstance(answer, int):
                if answer == wire.ASK_AGAIN and not first:
                    again[name] = asked
                else:
                    self._refuse(asked, name, answer)
            elif piece_is_good(*answer):
                asked.answer(answer)
            else:
                self._refuse_corrupt(asked, name)
            first = False
        if again:
            self._queue_again(again)

    def _refuse(self, asked: _Asked, name: str, status: int) -> None:
        asked.refuse(lambda: wire.get_error(self._node, name, status))

    def _refuse_corrupt(self, asked: _Asked, name: str) -> None:
        asked.refuse(lambda: PieceCorrupt(f"node {self._node} sent {name} with a wrong checksum"))

    def _queue_again(self, again: dict[str, _Asked]) -> None:
        """What did not fit goes to the front; those who asked for it since join it."""
        for name, asked in self._waiting.items():
            early = again.setdefault(name, asked)
            if early is not asked:
                early.tasks.extend(asked.tasks)
                asked.tasks = early.tasks  # one list now: whoever gives up is found in it
        self._waiting = again
        self._wake()

    def _refuse_waiting(self) -> None:
        batch, self._waiting = self._waiting, {}
        _refuse_all(batch, self._stopped)


def _refuse_all(batch: dict[str, _Asked], make_error: Callable[[], FlareError]) -> None:
    for asked in batch.values():
        asked.refuse(make_error)


def _like(error: FlareError) -> FlareError:
    if isinstance(error, NodeUnreachable):
        return NodeUnreachable(error.node, error.reason)
    return type(error)(str(error))
