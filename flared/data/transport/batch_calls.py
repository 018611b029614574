"""The calls for many small pieces, in a task and in turns. ``docs/chunk-api.md`` says what each promises.

Small puts of all connections meet in the engine's group commit; batches are admitted a few at a time, so that memory
does not grow with the number of callers. What would have to wait is left to the task by its form in turns.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from time import perf_counter
from typing import TYPE_CHECKING

import trio

from flared.data.transport import statuses, wire
from flared.errors import BadRequest, FlareError, TooLarge
from flared.log import current_request
from flared.names import REQUEST_FIELD, are_request_ids

if TYPE_CHECKING:
    from flared.data.disk.disk import Buffer
    from flared.data.pieces import Piece
    from flared.data.transport.metrics import CallCounts
    from flared.data.volume.changes import Answers
    from flared.data.volume.volumes import Volumes
    from flared.http.exchange import Exchange
    from flared.http.messages import Reply, Request

log = logging.getLogger(__name__)

BATCHES_MAX = 8
"""Batches of each direction in memory at once: 32 MiB. Each api node has two links for either."""

TURN_BYTES_MAX = 512 * 1024
"""Bytes of a batch that is taken, or answered, in a turn: those of a hundred small pieces. For more than that a task
costs little. A connection holds one such body or reply at most, beside the batches above."""

READ_NAMES = 64
"""Small pieces read at a time, so that one batch holds at most a few MiB more than its answer may."""

BINARY = b"content-type: application/octet-stream\r\n"


class BatchCalls:
    """Puts, gets, deletes and hides of many; ``begin_`` is the form in turns, as ``QuickHandler.begin``."""

    def __init__(self, volumes: Volumes, counts: CallCounts) -> None:
        self._volumes = volumes
        self._counts = counts
        self._putting = trio.Semaphore(BATCHES_MAX)
        self._getting = trio.Semaphore(BATCHES_MAX)

    async def put(self, request: Request, reply: Reply) -> None:
        async with _turn(self._putting):
            began = perf_counter()
            items = wire.parse_pieces(memoryview(await request.body.read_all(wire.PUT_BODY_BYTES_MAX)))
            results = await self._volumes.put_many(items)
            answer = self._note_put(items, results, began)
        log_failures("put_batch", results)
        await reply.send(200, BINARY, answer)

    def begin_put(self, exchange: Exchange) -> bool:
        """As ``put``, in turns, if the volume need not be waited for."""
        try:
            items = wire.parse_pieces(memoryview(exchange.body))
            self._putting.acquire_nowait()
        except (BadRequest, TooLarge, trio.WouldBlock):
            return False

        def done(results: Answers | None) -> None:
            self._putting.release()
            if results is None:
                exchange.hand_over()
                return
            try:
                answer = self._note_put(items, results, exchange.began)
                log_failures_of(exchange, "put_batch", results)
                exchange.send(200, BINARY, answer)
            except Exception as bug:  # of this call's; others of the same group are to hear all the same
                exchange.fail(bug)

        began = self._volumes.put_nowait(items, done)
        if not began:
            self._putting.release()
        return began

    def _note_put(self, items: Sequence[tuple[Piece, Buffer]], results: Answers, began: float) -> bytes:
        """Count what a batch came to; return the body that says so."""
        self._counts.bytes_stored += sum([piece.size for piece, _ in items])
        self._counts.seconds["put_batch"].observe(perf_counter() - began)
        stored = results.count(True)
        self._counts.stored += stored
        if stored == len(results):
            return wire.pack_statuses([statuses.STORED] * stored)
        return wire.pack_statuses(
            [
                statuses.status_of(result)
                if isinstance(result, FlareError)
                else statuses.STORED
                if result
                else statuses.THERE
                for result in results
            ]
        )

    async def get(self, request: Request, reply: Reply) -> None:
        async with _turn(self._getting):
            began = perf_counter()
            names = wire.parse_names(await request.body.read_all(wire.NAMES_BYTES_MAX))
            answers = await self._read_batch(names)
            await reply.send(200, BINARY, self._note_get(names, answers, began))

    def begin_get(self, exchange: Exchange) -> bool:
        """As ``get``, in turns, if memory has all requested pieces."""
        try:
            names = wire.parse_names(bytes(exchange.body))
        except BadRequest:
            return False
        results = self._volumes.read_nowait(names, TURN_BYTES_MAX)
        if results is None:
            return False
        log_failures_of(exchange, "get_batch", results)
        answers = [statuses.status_of(result) if isinstance(result, FlareError) else result for result in results]
        exchange.send(200, BINARY, self._note_get(names, answers, exchange.began))
        return True

    async def _read_batch(self, names: Sequence[str]) -> list[tuple[Piece, bytes] | int]:
        """Return the pieces of these names that exist, in their order, until the answer is full."""
        answers: list[tuple[Piece, bytes] | int] = []
        room = wire.BATCH_BYTES_MAX
        for start in range(0, len(names), READ_NAMES):
            results = await self._volumes.read_many(names[start : start + READ_NAMES])
            log_failures("get_batch", results)
            room = _fill(answers, results, room)
            if room <= 0:
                break
        answers += [statuses.ASK_AGAIN] * (len(names) - len(answers))
        return answers

    def _note_get(self, names: Sequence[str], answers: Sequence[tuple[Piece, bytes] | int], began: float) -> bytes:
        """Count what a batch came to; return the body that carries it."""
        sent = [answer[0].size for answer in answers if not isinstance(answer, int)]
        self._counts.sent += len(sent)
        self._counts.bytes_sent += sum(sent)
        self._counts.seconds["get_batch"].observe(perf_counter() - began)
        return wire.pack_answers(names, answers)

    async def delete(self, request: Request, reply: Reply) -> None:
        began = perf_counter()
        names = wire.parse_names(await request.body.read_all(wire.NAMES_BYTES_MAX))
        results = await self._volumes.delete_many(names)
        log_failures("delete_batch", results)
        await reply.send(200, BINARY, self._note_delete(results, began))

    def begin_delete(self, exchange: Exchange) -> bool:
        """As ``delete``, in turns, if no volume need be waited for."""
        try:
            names = wire.parse_names(bytes(exchange.body))
        except BadRequest:
            return False

        def done(results: Answers) -> None:
            try:
                answer = self._note_delete(results, exchange.began)
                log_failures_of(exchange, "delete_batch", results)
                exchange.send(200, BINARY, answer)
            except Exception as bug:  # of this call's; others of the same group are to hear all the same
                exchange.fail(bug)

        return self._volumes.delete_nowait(names, done)

    def _note_delete(self, results: Answers, began: float) -> bytes:
        """Count what a batch came to; return the body that says so."""
        self._counts.seconds["delete"].observe(perf_counter() - began)
        self._counts.deleted += results.count(True)
        return self._pack_deleted(results)

    async def quarantine(self, request: Request, reply: Reply) -> None:
        names = wire.parse_names(await request.body.read_all(wire.NAMES_BYTES_MAX))
        results = await self._volumes.quarantine_many(names)
        log_failures("quarantine_batch", results)
        await reply.send(200, BINARY, self._pack_deleted(results))

    def _pack_deleted(self, results: Answers) -> bytes:
        """Return the statuses of pieces that were deleted or hidden; a failed volume may still have any of them."""
        gone, absent = (
            (statuses.DELETED_WHERE_ASKED,) * 2 if self._volumes.left_out else (statuses.DELETED, statuses.ABSENT)
        )
        return wire.pack_statuses(
            [
                statuses.status_of(result) if isinstance(result, FlareError) else gone if result else absent
                for result in results
            ]
        )


@asynccontextmanager
async def _turn(turns: trio.Semaphore) -> AsyncIterator[None]:
    """Hold one of ``turns``; costs no trip through the scheduler while there is one."""
    try:
        turns.acquire_nowait()
    except trio.WouldBlock:
        await turns.acquire()
    try:
        yield
    finally:
        turns.release()


def _fill(
    answers: list[tuple[Piece, bytes] | int], results: Iterable[tuple[Piece, bytes] | FlareError], room: int
) -> int:
    """Add these results to the answers of a get batch, as long as there is room; return what is left of it."""
    for result in results:
        if isinstance(result, FlareError):
            answers.append(statuses.status_of(result))
        elif room <= 0:
            answers.append(statuses.ASK_AGAIN)
        else:
            room -= result[0].size
            answers.append(result)
    return room


def log_failures_of(exchange: Exchange, call: str, results: Iterable[object]) -> None:
    """``log_failures`` in turns: which requests a batch is for is read only here."""
    errors = [result for result in results if isinstance(result, FlareError)]
    if errors:
        asking = exchange.fields.get(REQUEST_FIELD, "")
        token = current_request.set(asking if are_request_ids(asking) else "")
        try:
            log_failures(call, errors)
        finally:
            current_request.reset(token)


def log_failures(call: str, results: Iterable[object]) -> None:
    """Log one line for a call, for any number of failed records; errors of the call itself are logged elsewhere."""
    errors = [result for result in results if isinstance(result, FlareError)]
    failures = [error for error in errors if statuses.status_of(error) >= 500]
    if failures:
        first = failures[0]
        log.warning("event=call_failed call=%s records=%d error=%s message=%r",
                    call, len(failures), first.code, str(first))  # fmt: skip
    # Repair looks for what is noted as missing; who misses what should be here says so itself.
    absent = [error for error in errors if statuses.status_of(error) == statuses.ABSENT]
    if absent:
        log.info("event=pieces_absent call=%s records=%d message=%r", call, len(absent), str(absent[0]))
