"""Links: the small calls that wait for one data node travel together, one batch a request, on two links.

Everything queued in one turn leaves at its end, if a link is free: no timer, no added delay. While both are under way
the next batch gathers. Puts and gets have links of their own, so that a slow sync does not delay reads. Each caller
is called exactly once, in a turn, also if its batch fails; no task waits here.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import outcome
import trio

from flared.data.pieces import LARGE_SIZE, Piece, piece_is_good
from flared.data.transport import statuses, wire
from flared.errors import Busy, FlareError, NodeUnreachable, PieceCorrupt, ProtocolError
from flared.log import current_request, name_requests

if TYPE_CHECKING:
    from flared.http.turns import Turns
    from flared.names import NodeName

log = logging.getLogger(__name__)

T = TypeVar("T")

Done = Callable[[FlareError | None], None]
Heard = Callable[["tuple[Piece, bytes] | FlareError"], None]
RequestId = int | str
"""As ``log.current_request`` has it."""
Put = tuple[Piece, bytes | memoryview, Done, RequestId]
Post = Callable[[str, bytes, str, Callable[["bytes | FlareError"], None]], None]
"""Send a body to a path of the node, for the requests named; the callback gets the body of its 200, or what went
wrong, once, in a turn."""

LINKS = 2
"""One is under way while the node works on the other; a third only makes batches smaller."""

WAITING_BYTES_MAX = 64 * 1024 * 1024
"""Payload that may wait for one node, beside the api node's memory budget: puts that reached their quorum are answered
while their pieces for a node that stalls still wait."""

WAITING_RECORDS_MAX = 32 * wire.RECORDS_MAX


@dataclass(frozen=True, slots=True)
class LinkStatistics:
    batches: int
    records: int
    failed_batches: int
    waiting: int


class _Links(ABC):
    """The common part of puts and gets: at most ``links`` batches in flight, the next one sent at the end of a turn."""

    def __init__(self, node: NodeName, post: Post, turns: Turns, links: int = LINKS) -> None:
        self._links = links
        self._node = node
        self._post = post
        self._turns = turns
        self._under_way = 0
        self._flush_planned = False
        self._open = False
        self._batches = self._records = self._failed_batches = 0

    def open(self) -> None:
        """Send what is queued from now on."""
        self._open = True

    def close(self) -> None:
        """Send nothing more; refuse everything that waits. Batches in flight are answered through ``post``."""
        self._open = False
        self._refuse_waiting()

    def statistics(self) -> LinkStatistics:
        return LinkStatistics(self._batches, self._records, self._failed_batches, self._count_waiting())

    def _plan_flush(self) -> None:
        if not self._flush_planned and self._under_way < self._links:
            self._flush_planned = True
            self._turns.at_end(self._flush)

    def _flush(self) -> None:
        """Send waiting calls as long as a link is free."""
        self._flush_planned = False
        while self._under_way < self._links and self._count_waiting():
            self._under_way += 1
            self._batches += 1
            self._send_batch()

    def _came_back(self, failed: bool) -> None:
        """Free the link of a batch that was answered."""
        self._under_way -= 1
        self._failed_batches += failed
        if self._count_waiting():
            self._plan_flush()

    def _stopped(self) -> NodeUnreachable:
        return NodeUnreachable(self._node, "its links are closed")

    def _blame(self, error: FlareError) -> FlareError:
        """Return a new error for one caller of a failed batch, since each is raised in another place."""
        if isinstance(error, NodeUnreachable):
            return NodeUnreachable(error.node, error.reason)
        return NodeUnreachable(self._node, str(error)) if isinstance(error, ProtocolError) else type(error)(str(error))

    @abstractmethod
    def _count_waiting(self) -> int: ...

    @abstractmethod
    def _send_batch(self) -> None:
        """Take a batch and post it."""

    @abstractmethod
    def _refuse_waiting(self) -> None: ...


class PutLinks(_Links):
    """The small puts for one node."""

    def __init__(self, node: NodeName, post: Post, turns: Turns, links: int = LINKS) -> None:
        super().__init__(node, post, turns, links)
        self._waiting: list[Put] = []
        self._waiting_bytes = 0

    def put_nowait(
        self, piece: Piece, payload: bytes | memoryview, done: Done, request: RequestId | None = None
    ) -> None:
        """Queue a piece smaller than LARGE_SIZE. ``payload`` is not copied: it must stay as it is until ``done``.

        ``done`` is called once, in a turn; or at once, if the links are closed or far too much waits. ``request`` is
        the one it is for; the task's own if it is not given.
        """
        assert len(payload) == piece.size < LARGE_SIZE
        if not self._open:
            done(self._stopped())
        elif len(self._waiting) >= WAITING_RECORDS_MAX or self._waiting_bytes >= WAITING_BYTES_MAX:
            done(Busy(f"too much waits for node {self._node}"))
        else:
            self._waiting.append((piece, payload, done, current_request.get() if request is None else request))
            self._waiting_bytes += piece.size
            if not self._flush_planned:
                self._plan_flush()

    async def put(self, piece: Piece, payload: bytes) -> None:
        """The same for a task: returns or raises. Cancelled, the piece may be sent all the same."""
        answered = trio.Event()
        refusal: FlareError | None = None

        def done(error: FlareError | None) -> None:
            nonlocal refusal
            refusal = error
            answered.set()

        self.put_nowait(piece, payload, done)
        await answered.wait()
        if refusal is not None:
            raise refusal

    def _count_waiting(self) -> int:
        return len(self._waiting)

    def _send_batch(self) -> None:
        batch = self._take()
        self._records += len(batch)
        body = wire.pack_pieces([put[0] for put in batch], [put[1] for put in batch])

        def answered(answer: bytes | FlareError) -> None:
            self._answered(batch, answer)

        self._post(wire.PATH_PUT, body, name_requests([put[3] for put in batch]), answered)

    def _take(self) -> list[Put]:
        """Remove and return as many waiting calls as fit into one batch."""
        batch = self._waiting
        if len(batch) <= wire.RECORDS_MAX and self._waiting_bytes <= wire.BATCH_BYTES_MAX:
            self._waiting, self._waiting_bytes = [], 0
            return batch
        count, size = 0, 0
        for piece, _, _, _ in batch[: wire.RECORDS_MAX]:
            if size + piece.size > wire.BATCH_BYTES_MAX:
                break
            count += 1
            size += piece.size
        self._waiting = batch[count:]
        self._waiting_bytes -= size
        return batch[:count]

    def _answered(self, batch: Sequence[Put], answer: bytes | FlareError) -> None:
        codes: Sequence[int] = ()
        error = answer if isinstance(answer, FlareError) else None
        if isinstance(answer, bytes):
            try:
                codes = wire.parse_statuses(answer, len(batch))
            except ProtocolError as broken:
                error = broken
        self._came_back(error is not None)
        if error is not None:
            self._settle(batch, [self._blame(error) for _ in batch])
        else:
            self._settle(
                batch,
                [
                    None if status == statuses.STORED else statuses.put_error(self._node, put[0].name, status)
                    for put, status in zip(batch, codes, strict=True)
                ],
            )

    def _settle(self, batch: Sequence[Put], answers: Sequence[FlareError | None]) -> None:
        for (_, _, done, _), answer in zip(batch, answers, strict=True):
            try:
                done(answer)
            except Exception:  # a bug of one caller's is not the others'
                log.exception("event=callback_failed node=%s", self._node)

    def _refuse_waiting(self) -> None:
        batch, self._waiting, self._waiting_bytes = self._waiting, [], 0
        self._settle(batch, [self._stopped() for _ in batch])


class Interest:
    """One caller that waits for a small piece; it calls ``drop`` when it no longer does."""

    __slots__ = ("heard", "request")

    def __init__(self, heard: Heard | None, request: RequestId) -> None:
        self.heard = heard
        self.request = request

    def drop(self) -> None:
        self.heard = None


class GetLinks(_Links):
    """The small gets for one node."""

    def __init__(self, node: NodeName, post: Post, turns: Turns, links: int = LINKS) -> None:
        super().__init__(node, post, turns, links)
        self._waiting: dict[str, list[Interest]] = {}
        """Several may wait for the same name."""

    def read_nowait(self, name: str, heard: Heard, request: RequestId | None = None) -> Interest:
        """Ask for a piece. ``heard`` is called once, in a turn, unless the interest is dropped before; or at once if
        the links are closed. It gets the piece, verified (its name, its length, its checksum), or NoSuchPiece,
        PieceCorrupt, TooLarge (get it alone), NodeUnreachable.
        """
        interest = Interest(heard, current_request.get() if request is None else request)
        if not self._open:
            heard(self._stopped())
            return interest
        waiting = self._waiting.get(name)
        if waiting is None:
            self._waiting[name] = [interest]
            if not self._flush_planned:
                self._plan_flush()
        else:
            waiting.append(interest)
        return interest

    async def read(self, name: str) -> tuple[Piece, bytes]:
        """The same for a task: returns the piece or raises the error. Cancelling only drops the interest."""
        if not self._open:
            raise self._stopped()
        task = trio.lowlevel.current_task()

        def heard(answer: tuple[Piece, bytes] | FlareError) -> None:
            trio.lowlevel.reschedule(
                task, outcome.Error(answer) if isinstance(answer, FlareError) else outcome.Value(answer)
            )

        interest = self.read_nowait(name, heard)

        def drop(_: object) -> trio.lowlevel.Abort:
            interest.drop()
            return trio.lowlevel.Abort.SUCCEEDED

        piece: tuple[Piece, bytes] = await trio.lowlevel.wait_task_rescheduled(drop)
        return piece

    def _count_waiting(self) -> int:
        return len(self._waiting)

    def _send_batch(self) -> None:
        batch = self._take()
        if not batch:
            self._under_way -= 1
            self._batches -= 1
            return
        self._records += len(batch)
        names = list(batch)
        requests = name_requests([interest.request for interests in batch.values() for interest in interests])

        def answered(answer: bytes | FlareError) -> None:
            self._answered(batch, names, answer)

        self._post(wire.PATH_GET, wire.pack_names(names), requests, answered)

    def _take(self) -> dict[str, list[Interest]]:
        waiting, self._waiting = self._waiting, {}
        batch = {name: kept for name, interests in waiting.items() if (kept := [one for one in interests if one.heard])}
        if len(batch) > wire.RECORDS_MAX:
            items = list(batch.items())
            batch, self._waiting = dict(items[: wire.RECORDS_MAX]), dict(items[wire.RECORDS_MAX :])
        return batch

    def _answered(self, batch: dict[str, list[Interest]], names: Sequence[str], answer: bytes | FlareError) -> None:
        answers: Sequence[tuple[Piece, bytes] | int] = ()
        error = answer if isinstance(answer, FlareError) else None
        if isinstance(answer, bytes):
            try:
                answers = wire.parse_answers(answer, names)
            except ProtocolError as broken:
                error = broken
        if error is not None:
            blamed = error
            self._came_back(True)
            for interests in batch.values():
                self._refuse(interests, lambda: self._blame(blamed))
            return
        # What did not fit goes to the front; those who asked for it since join it.
        again = {
            name: batch[name] for name, found in zip(names[1:], answers[1:], strict=True) if found == statuses.ASK_AGAIN
        }
        for name, interests in self._waiting.items():
            again.setdefault(name, []).extend(interests)
        self._waiting = again
        self._came_back(False)
        for number, (name, found) in enumerate(zip(names, answers, strict=True)):
            if found != statuses.ASK_AGAIN or number == 0:
                self._settle(name, batch[name], found)

    def _settle(self, name: str, interests: Sequence[Interest], answer: tuple[Piece, bytes] | int) -> None:
        if isinstance(answer, int):
            self._refuse(interests, lambda: statuses.get_error(self._node, name, answer))
        elif piece_is_good(*answer):
            for interest in interests:
                self._tell(interest, answer)
        else:
            self._refuse(interests, lambda: PieceCorrupt(f"node {self._node} sent {name} with a wrong checksum"))

    def _refuse(self, interests: Sequence[Interest], make_error: Callable[[], FlareError]) -> None:
        # Each gets an error of its own: raising one in several tasks would mix up their tracebacks.
        for interest in interests:
            self._tell(interest, make_error())

    def _tell(self, interest: Interest, answer: tuple[Piece, bytes] | FlareError) -> None:
        heard, interest.heard = interest.heard, None
        if heard is not None:
            try:
                heard(answer)
            except Exception:  # a bug of one caller's is not the others'
                log.exception("event=callback_failed node=%s", self._node)

    def _refuse_waiting(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for interests in waiting.values():
            self._refuse(interests, self._stopped)
