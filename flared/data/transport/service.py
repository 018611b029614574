"""Service: a data node's server of piece calls. ``docs/chunk-api.md`` says what each call promises.

It never decides and never asks another node. Small puts of all connections meet in the engine's group commit; batches
are admitted a few at a time, so that memory does not grow with the number of callers.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from time import perf_counter
from typing import TYPE_CHECKING

import trio

from flared import __version__
from flared.access.keys import CHALLENGE, Keyring, data_audience
from flared.access.origin import foreign_reason
from flared.data.mark import mark_fields
from flared.data.pieces import CODEC_PLAIN, LARGE_SIZE, PIECE_SIZE_MAX, Piece, describe_piece
from flared.data.transport import wire
from flared.data.transport.metrics import CallCounts, data_metrics
from flared.data.transport.read_coalescer import ReadCoalescer
from flared.data.transport.spans import Units, send_span
from flared.errors import BadRequest, Busy, FlareError, Forbidden, ProtocolError, TooLarge, Unauthenticated, Unavailable
from flared.http.address import LOOPBACK
from flared.http.error_body import JSON, pack_error
from flared.http.eviction import TRUSTED
from flared.http.messages import Reply, Request, encode_fields
from flared.http.metrics import send_metrics
from flared.http.percent import parse_query
from flared.log import current_request
from flared.names import REQUEST_FIELD, NodeName, are_request_ids, parse_piece

if TYPE_CHECKING:
    from flared.data.disk.disk import Buffer
    from flared.data.volume.changes import Answers
    from flared.data.volume.volumes import Volumes
    from flared.http.exchange import Exchange
    from flared.http.server import Server
    from flared.metrics import Durations, Metric

log = logging.getLogger(__name__)

BATCHES_MAX = 8
"""Batches of each direction in memory at once: 32 MiB. Each api node has two links for either."""

TURN_BYTES_MAX = 512 * 1024
"""Bytes of a batch that is taken, or answered, in a turn: those of a hundred small pieces. For more than that a task
costs little. A connection holds one such body or reply at most, beside the batches above."""

READ_NAMES = 64
"""Small pieces read at a time, so that one batch holds at most a few MiB more than its answer may."""

LIST_DEFAULT = 1000

_BINARY = b"content-type: application/octet-stream\r\n"
_PIECE = _BINARY + b"accept-ranges: bytes\r\n"
_TEXT = b"content-type: text/plain; charset=utf-8\r\n"
_RETRY = b"retry-after: 1\r\n"

Call = Callable[[Request, Reply], Awaitable[None]]


class DataService:
    """Answers the requests of one data node. Callers must present a token that ``keyring`` accepts.

    Without a secret, and for what this machine may ask without it, ``hosts`` are the names the node may be called by.
    ``handler`` answers any request; for turns it is a ``http.exchange.QuickHandler``, which takes the small batches.
    """

    body_bytes_max = TURN_BYTES_MAX

    def __init__(
        self,
        node: NodeName,
        volumes: Volumes,
        keyring: Keyring,
        *,
        hosts: frozenset[str] = frozenset(),
        instance: str = "",
    ) -> None:
        self._node = node
        self._instance = instance
        """The same as in its heartbeats, so that an api node can find out which process answers here."""
        self._volumes = volumes
        self._keyring = keyring
        self._hosts = hosts
        self._audience = data_audience(node)
        self._server: Server | None = None
        self._units = Units()
        self._gather = ReadCoalescer(volumes.read_many)
        self._putting = trio.Semaphore(BATCHES_MAX)
        self._getting = trio.Semaphore(BATCHES_MAX)
        self._counts = CallCounts()
        self._calls: dict[str, dict[str, Call]] = {
            wire.PATH_PUT: {"POST": self._put_batch},
            wire.PATH_GET: {"POST": self._get_batch},
            wire.PATH_DELETE: {"POST": self._delete_batch},
            wire.PATH_QUARANTINE: {"POST": self._quarantine_batch},
            wire.PATH_LIST: {"GET": self._list, "HEAD": self._list},
            "/status": {"GET": self._status, "HEAD": self._status},
            "/metrics": {"GET": self._metrics, "HEAD": self._metrics},
        }
        self._in_turns: dict[str, Callable[[Exchange], bool]] = {
            wire.PATH_PUT: self._begin_put_batch,
            wire.PATH_GET: self._begin_get_batch,
            wire.PATH_DELETE: self._begin_delete_batch,
        }
        self._piece_calls: dict[str, Call] = {
            "PUT": self._put,
            "GET": self._get,
            "HEAD": self._head,
            "DELETE": self._delete,
        }
        self._open_calls: dict[str, dict[str, Call]] = {
            "/healthz": {"GET": self._healthz, "HEAD": self._healthz},
            "/readyz": {"GET": self._readyz, "HEAD": self._readyz},
        }

    def attach_server(self, server: Server) -> None:
        """Count the connections of ``server``, which has this service's handler, among the metrics."""
        self._server = server

    async def handler(self, request: Request, reply: Reply) -> None:
        """Answer one request; for ``http.server.Server``."""
        path = request.path
        asking = request.fields.get(REQUEST_FIELD, "")
        current_request.set(asking if are_request_ids(asking) else "")
        try:
            if path in self._open_calls:
                calls = self._open_calls[path]
            elif path == "/metrics":
                if not request.peer.startswith(LOOPBACK):
                    raise Unauthenticated("metrics are for this machine; elsewhere they are at metrics_listen")
                self._refuse_foreign(request)
                calls = self._calls[path]
            elif not self._keyring.secrets:
                self._refuse_foreign(request)
                calls = self._calls_at(path)
            elif not self._keyring.admits(request.fields.get("authorization"), self._audience):
                raise Unauthenticated(
                    f"this is data node {self._node}, which answers api nodes only, by 'Authorization: Flare …'; "
                    "clients ask the api node"
                )
            else:
                reply.prove(TRUSTED)
                calls = self._calls_at(path)
            call = calls.get(request.method)
            if call is None:
                await _send_unknown(reply, calls)
            else:
                if request.query and path != wire.PATH_LIST:
                    parse_query(request.query)  # which knows none
                await call(request, reply)
        except FlareError as error:
            # Broken HTTP is the connection's affair; and once the head is out, cutting it is the only honest answer.
            if reply.started or isinstance(error, ProtocolError):
                raise
            self._counts.refused += 1
            _log_failures(request.method.lower(), [error])
            await _send_error(reply, error)

    def begin(self, exchange: Exchange) -> bool:
        """Begin a small batch in turns; False if it is left to ``handler``, as all refusals are."""
        begin = self._in_turns.get(exchange.path)
        if begin is None or exchange.method != "POST" or exchange.query:
            return False
        fields = exchange.fields
        if not self._keyring.secrets:
            if foreign_reason("POST", fields, self._hosts):
                return False
        elif self._keyring.admits(fields.get("authorization"), self._audience):
            exchange.prove(TRUSTED)
        else:
            return False
        return begin(exchange)

    def answered(self, exchange: Exchange, status: int) -> None:
        """Batches are counted where they are answered; as ``http.exchange.QuickHandler`` wants it."""

    def _calls_at(self, path: str) -> dict[str, Call]:
        return self._piece_calls if path.startswith(wire.PATH_ONE) else self._calls.get(path, {})

    def _refuse_foreign(self, request: Request) -> None:
        """Raise Forbidden for a web page that came from elsewhere (``access.origin``)."""
        reason = foreign_reason(request.method, request.fields, self._hosts)
        if reason:
            raise Forbidden(reason)

    async def _put(self, request: Request, reply: Reply) -> None:
        started = trio.current_time()
        name = parse_piece(request.path[len(wire.PATH_ONE) :])
        size = request.body.length
        if size is None:
            raise BadRequest("a piece is sent with its Content-Length")
        if size > PIECE_SIZE_MAX:
            raise TooLarge(f"a piece has at most {PIECE_SIZE_MAX} bytes")
        if size < LARGE_SIZE:
            payload = await request.body.read_all(size)
            [stored] = await self._volumes.put_many([(_describe(request, name, payload), payload)])
        else:
            stored = await self._put_large(request, name, size)
        if isinstance(stored, FlareError):
            raise stored
        self._counts.stored += stored
        self._counts.bytes_stored += size
        self._counts.seconds["put"].observe(trio.current_time() - started)
        await reply.send(wire.STORED if stored else wire.THERE, b"")

    async def _put_large(self, request: Request, name: str, size: int) -> bool:
        if wire.says_piece(request.fields):
            wire.parse_piece_fields(request.fields, name, size)  # refused before its body is taken
        async with self._volumes.buffers.lease(size) as buffer:
            payload = buffer.payload[:size]
            at = 0
            while at < size:
                at += await request.body.receive_into(payload[at:])
            return await self._volumes.put_large(_describe(request, name, payload), buffer)

    async def _get(self, request: Request, reply: Reply) -> None:
        started = trio.current_time()
        name = parse_piece(request.path[len(wire.PATH_ONE) :])
        answer = await self._gather.read(name)
        if isinstance(answer, TooLarge):
            await self._send_large(name, request, reply)
        elif isinstance(answer, FlareError):
            raise answer
        else:
            piece, payload = answer
            span = wire.parse_range(request.fields.get("range"), piece.size)
            body = payload if span is None else memoryview(payload)[span[0] : span[1]]
            await reply.send(200 if span is None else 206, _piece_lines(piece, span), body)
            self._counts.bytes_sent += len(body)
        self._counts.sent += 1
        self._counts.seconds["get"].observe(trio.current_time() - started)

    async def _send_large(self, name: str, request: Request, reply: Reply) -> None:
        opened = await self._volumes.open(name)
        try:
            piece = opened.piece
            span = wire.parse_range(request.fields.get("range"), piece.size)
            start, end = span or (0, piece.size)
            verify = wire.VERIFIES_FIELD not in request.fields
            with self._units.lease() as unit:
                await reply.start(200 if span is None else 206, _piece_lines(piece, span), end - start)
                await send_span(reply, opened, start, end, unit, verify=verify)
            self._counts.bytes_sent += end - start
        finally:
            opened.close()

    async def _head(self, request: Request, reply: Reply) -> None:
        piece = await self._volumes.head(parse_piece(request.path[len(wire.PATH_ONE) :]))
        await reply.start(200, _piece_lines(piece, None), piece.size)

    async def _delete(self, request: Request, reply: Reply) -> None:
        started = trio.current_time()
        [deleted] = await self._volumes.delete_many([parse_piece(request.path[len(wire.PATH_ONE) :])])
        if isinstance(deleted, FlareError):
            raise deleted
        self._counts.deleted += deleted
        self._counts.seconds["delete"].observe(trio.current_time() - started)
        await reply.send(wire.DELETED_WHERE_ASKED if self._volumes.left_out else wire.DELETED, b"")

    async def _put_batch(self, request: Request, reply: Reply) -> None:
        async with _turn(self._putting):
            began = perf_counter()
            items = wire.parse_pieces(memoryview(await request.body.read_all(wire.PUT_BODY_BYTES_MAX)))
            results = await self._volumes.put_many(items)
            statuses = self._note_put(items, results, began)
        _log_failures("put_batch", results)
        await reply.send(200, _BINARY, statuses)

    def _begin_put_batch(self, exchange: Exchange) -> bool:
        """As ``_put_batch``, in turns, if the volume need not be waited for."""
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
                statuses = self._note_put(items, results, exchange.began)
                _log_failures_of(exchange, "put_batch", results)
                exchange.send(200, _BINARY, statuses)
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
            return wire.pack_statuses([wire.STORED] * stored)
        return wire.pack_statuses(
            [
                wire.status_of(result) if isinstance(result, FlareError) else wire.STORED if result else wire.THERE
                for result in results
            ]
        )

    async def _get_batch(self, request: Request, reply: Reply) -> None:
        async with _turn(self._getting):
            began = perf_counter()
            names = wire.parse_names(await request.body.read_all(wire.NAMES_BYTES_MAX))
            answers = await self._read_batch(names)
            await reply.send(200, _BINARY, self._note_get(names, answers, began))

    def _begin_get_batch(self, exchange: Exchange) -> bool:
        """As ``_get_batch``, in turns, if memory has all requested pieces."""
        try:
            names = wire.parse_names(bytes(exchange.body))
        except BadRequest:
            return False
        results = self._volumes.read_nowait(names, TURN_BYTES_MAX)
        if results is None:
            return False
        _log_failures_of(exchange, "get_batch", results)
        answers = [wire.status_of(result) if isinstance(result, FlareError) else result for result in results]
        exchange.send(200, _BINARY, self._note_get(names, answers, exchange.began))
        return True

    async def _read_batch(self, names: Sequence[str]) -> list[tuple[Piece, bytes] | int]:
        """Return the pieces of these names that exist, in their order, until the answer is full."""
        answers: list[tuple[Piece, bytes] | int] = []
        room = wire.BATCH_BYTES_MAX
        for start in range(0, len(names), READ_NAMES):
            results = await self._volumes.read_many(names[start : start + READ_NAMES])
            _log_failures("get_batch", results)
            room = _fill(answers, results, room)
            if room <= 0:
                break
        answers += [wire.ASK_AGAIN] * (len(names) - len(answers))
        return answers

    def _note_get(self, names: Sequence[str], answers: Sequence[tuple[Piece, bytes] | int], began: float) -> bytes:
        """Count what a batch came to; return the body that carries it."""
        sent = [answer[0].size for answer in answers if not isinstance(answer, int)]
        self._counts.sent += len(sent)
        self._counts.bytes_sent += sum(sent)
        self._counts.seconds["get_batch"].observe(perf_counter() - began)
        return wire.pack_answers(names, answers)

    async def _delete_batch(self, request: Request, reply: Reply) -> None:
        began = perf_counter()
        names = wire.parse_names(await request.body.read_all(wire.NAMES_BYTES_MAX))
        results = await self._volumes.delete_many(names)
        _log_failures("delete_batch", results)
        await reply.send(200, _BINARY, self._note_delete(results, began))

    def _begin_delete_batch(self, exchange: Exchange) -> bool:
        """As ``_delete_batch``, in turns, if no volume need be waited for."""
        try:
            names = wire.parse_names(bytes(exchange.body))
        except BadRequest:
            return False

        def done(results: Answers) -> None:
            try:
                statuses = self._note_delete(results, exchange.began)
                _log_failures_of(exchange, "delete_batch", results)
                exchange.send(200, _BINARY, statuses)
            except Exception as bug:  # of this call's; others of the same group are to hear all the same
                exchange.fail(bug)

        return self._volumes.delete_nowait(names, done)

    def _note_delete(self, results: Answers, began: float) -> bytes:
        """Count what a batch came to; return the body that says so."""
        self._counts.seconds["delete"].observe(perf_counter() - began)
        self._counts.deleted += results.count(True)
        return self._pack_deleted(results)

    async def _quarantine_batch(self, request: Request, reply: Reply) -> None:
        names = wire.parse_names(await request.body.read_all(wire.NAMES_BYTES_MAX))
        results = await self._volumes.quarantine_many(names)
        _log_failures("quarantine_batch", results)
        await reply.send(200, _BINARY, self._pack_deleted(results))

    def _pack_deleted(self, results: Answers) -> bytes:
        """Return the statuses of pieces that were deleted or hidden; a failed volume may still have any of them."""
        gone, absent = (wire.DELETED_WHERE_ASKED,) * 2 if self._volumes.left_out else (wire.DELETED, wire.ABSENT)
        return wire.pack_statuses(
            [
                wire.status_of(result) if isinstance(result, FlareError) else gone if result else absent
                for result in results
            ]
        )

    async def _list(self, request: Request, reply: Reply) -> None:
        query = parse_query(request.query, "after", "limit", wire.WORKING_QUERY, wire.QUARANTINED_QUERY)
        try:
            limit = min(int(query.get("limit", LIST_DEFAULT)), wire.LIST_MAX)
        except ValueError:
            limit = 0
        if limit < 1:
            raise BadRequest("limit is not a number from 1 on")
        if wire.QUARANTINED_QUERY in query:
            hidden = await self._volumes.list_quarantined(query.get("after", ""), limit)
            return await _send_json(reply, {"pieces": hidden, "next": hidden[-1][0] if len(hidden) == limit else None})
        rows, left_out = await self._volumes.list_working(query.get("after", ""), limit)
        if left_out and wire.WORKING_QUERY not in query:
            raise Busy(f"volume {left_out[0]} could not be asked")
        page: dict[str, object] = {"pieces": rows, "next": rows[-1][0] if len(rows) == limit else None}
        if wire.WORKING_QUERY in query:
            page["left_out"] = left_out
        return await _send_json(reply, page)

    async def _status(self, request: Request, reply: Reply) -> None:
        answer = {
            "name": self._node,
            "role": "data",
            "version": __version__,
            "instance": self._instance,
            "marks": [mark_fields(mark) for mark in self._volumes.marks.seen()],
            "storage": asdict(self._volumes.status()),
        }
        await _send_json(reply, answer)

    async def _healthz(self, request: Request, reply: Reply) -> None:
        await reply.send(200, _TEXT, b"alive\n")

    async def _readyz(self, request: Request, reply: Reply) -> None:
        states = {volume.state for volume in self._volumes.status().volumes}
        if "replaying" in states or not states - {"failed"}:
            raise Unavailable(f"volumes are {', '.join(sorted(states)) or 'not there'}")
        await reply.send(200, _TEXT, b"ready\n")

    async def _metrics(self, request: Request, reply: Reply) -> None:
        await send_metrics(reply, self.metrics())

    def metrics(self) -> Iterator[Metric | Durations]:
        """Return the metrics for /metrics."""
        return data_metrics(self._counts, self._volumes.status().volumes, self._server)


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


def _describe(request: Request, name: str, payload: bytes | memoryview) -> Piece:
    """The Piece as its sender described it; a sender that did not (curl) has it computed here."""
    fields = request.fields
    if wire.says_piece(fields):
        return wire.parse_piece_fields(fields, name, len(payload))
    scheme = wire.parse_scheme_field(fields)
    return describe_piece(name, payload, codec=CODEC_PLAIN, scheme=scheme, plain_size=len(payload))


def _piece_lines(piece: Piece, span: tuple[int, int] | None) -> bytes:
    lines = _PIECE + wire.piece_lines(piece)
    return lines + b"content-range: bytes %d-%d/%d\r\n" % (span[0], span[1] - 1, piece.size) if span else lines


async def _send_json(reply: Reply, answer: object) -> None:
    await reply.send(200, JSON, json.dumps(answer, separators=(",", ":")).encode() + b"\n")


async def _send_error(reply: Reply, error: FlareError) -> None:
    status = wire.status_of(error)
    lines = JSON + (_RETRY if status == 503 else CHALLENGE if isinstance(error, Unauthenticated) else b"")
    await reply.send(status, lines + _error_line(error.code), pack_error(error.code, str(error)))


def _fill(
    answers: list[tuple[Piece, bytes] | int], results: Iterable[tuple[Piece, bytes] | FlareError], room: int
) -> int:
    """Add these results to the answers of a get batch, as long as there is room; return what is left of it."""
    for result in results:
        if isinstance(result, FlareError):
            answers.append(wire.status_of(result))
        elif room <= 0:
            answers.append(wire.ASK_AGAIN)
        else:
            room -= result[0].size
            answers.append(result)
    return room


def _log_failures_of(exchange: Exchange, call: str, results: Iterable[object]) -> None:
    """``_log_failures`` in turns: which requests a batch is for is read only here."""
    errors = [result for result in results if isinstance(result, FlareError)]
    if errors:
        asking = exchange.fields.get(REQUEST_FIELD, "")
        token = current_request.set(asking if are_request_ids(asking) else "")
        try:
            _log_failures(call, errors)
        finally:
            current_request.reset(token)


def _log_failures(call: str, results: Iterable[object]) -> None:
    """Log one line for a call, for any number of failed records; errors of the call itself are logged elsewhere."""
    errors = [result for result in results if isinstance(result, FlareError)]
    failures = [error for error in errors if wire.status_of(error) >= 500]
    if failures:
        first = failures[0]
        log.warning("event=call_failed call=%s records=%d error=%s message=%r",
                    call, len(failures), first.code, str(first))  # fmt: skip
    # Repair looks for what is noted as missing; who misses what should be here says so itself.
    absent = [error for error in errors if wire.status_of(error) == wire.ABSENT]
    if absent:
        log.info("event=pieces_absent call=%s records=%d message=%r", call, len(absent), str(absent[0]))


async def _send_unknown(reply: Reply, calls: dict[str, Call]) -> None:
    """Answer a path that does not exist, or a method that it does not support."""
    if not calls:
        await reply.send(404, JSON + _error_line("NoSuchPath"), pack_error("NoSuchPath", "no such call"))
        return
    allow = b"allow: %b\r\n" % ", ".join(sorted(calls)).encode()
    message = f"this path supports {', '.join(sorted(calls))}"
    await reply.send(405, JSON + allow + _error_line("BadMethod"), pack_error("BadMethod", message))


def _error_line(code: str) -> bytes:
    return encode_fields([(wire.ERROR_FIELD, code)])
