"""One served connection: head, handler, reply, and again, until either side ends it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from flared.errors import (
    BodyTruncated,
    Busy,
    ConnectionLost,
    FlareError,
    RemoteProtocolError,
    TooLarge,
    drop_tracebacks,
    leaves,
)
from flared.http.error_body import FAILED, JSON, pack_error
from flared.http.eviction import Standing
from flared.http.messages import EMPTY_BODY, READ_BYTES, Body, Handler, Reply, Request, open_body
from flared.http.parsing import HeadLimits, HeadReader, HeadRefused, RequestHead
from flared.http.stream import RECEIVE_BYTES, REFILL_COST, Link, Stream

log = logging.getLogger(__name__)

Phase = Literal["idle", "head", "exchange", "linger"]

_KEEP_ALIVE = b"connection: keep-alive\r\n"


@dataclass(slots=True)
class ServerState:
    """The state that all connections of a server share: whether it stops, and counters."""

    stopping: bool = False
    requests: int = 0
    refused: int = 0
    failures: int = 0
    handed_over: int = 0
    """Requests on connections in turns that were answered by a task."""


class Connection:
    """Serves one Stream; ``phase``, ``waiting`` and ``count_bytes`` are for the server's sweeper.

    It is an ``eviction.Occupant``.
    """

    def __init__(self, stream: Stream, number: int, handler: Handler, limits: HeadLimits, server: ServerState) -> None:
        self.stream = stream
        self.number = number
        self.phase: Phase = "idle"
        self.requests = 0
        self.resting_since = 0.0
        """When the sweeper last saw progress."""
        self._link = Link(stream)
        self._handler = handler
        self._heads = HeadReader(limits)
        self._server = server
        self._evicted = False
        self.is_shed = False
        self._arrived = 0

    @property
    def resting(self) -> bool:
        """Return whether no request is being answered, so that closing the connection breaks nothing off."""
        return self.phase != "exchange"

    def watch_proof(self, prove: Callable[[Standing], None] | None) -> None:
        """Have ``prove`` called whenever a handler finds that the client has proved more than before.

        Pass None when the connection has ended: a callback that refers to it would leave it to the garbage collector.
        """
        self._link.prove = prove

    def shed(self, handler: Handler) -> None:
        """Answer only its first request, by ``handler``, because there is no room for the connection."""
        self.is_shed = True
        self._handler = handler

    def evict(self) -> None:
        """Close it to make room. A request that was already received is still answered."""
        self._evicted = True
        self._link.finish_receiving()

    def finish_receiving(self) -> None:
        """Answer the requests that have arrived, and then end: the server stops."""
        self._link.finish_receiving()

    @property
    def waiting(self) -> bool:
        """Return whether a body waits for the peer now."""
        return self._link.waiting

    def count_bytes(self) -> tuple[int, int]:
        """Return the bytes received and the bytes acknowledged, as far as they show that the peer is alive.

        In a head only its end counts: it must not trickle in. At rest the end of a reply may still be unacknowledged.
        """
        if self.phase not in ("exchange", "idle"):
            return 0, 0
        stream = self.stream
        if self._arrived != stream.sent:
            self._arrived = stream.sent - stream.unacknowledged()
        return stream.received if self.phase == "exchange" else 0, self._arrived

    @property
    def secure(self) -> bool:
        """The stream is encrypted."""
        return bool(getattr(self.stream, "encrypted", False))

    async def converse(self) -> None:
        """Answer one request after the other. Raise ConnectionLost; the caller closes the stream."""
        link, stream, server = self._link, self.stream, self._server
        while link.data or not server.stopping or not self.requests:
            if link.data:
                await link.moved(REFILL_COST)  # pipelined requests must let other tasks run, too
            else:
                self.phase = "idle"
                # The peer has only just received its reply, so nothing can be here: do not try to receive first.
                await stream.wait_readable()
                link.unblocked = 0
                received = stream.receive_nowait(RECEIVE_BYTES)
                if received is None:
                    continue
                if not received:
                    return
                link.data = received
            try:
                head = self._heads.read(link.data, link.at) or await self._read_slow_head()
            except HeadRefused as error:
                return await self._refuse(error)
            if head is None:
                return
            link.skip(head[5] - link.at)
            self.phase = "exchange"
            self.requests += 1
            if not await self._exchange_in_task(head):
                return

    async def _exchange_in_task(self, head: RequestHead) -> bool:
        """Have the handler answer one request, whose body follows. Return whether another request may come."""
        link = self._link
        method, path, query, minor, fields, _ = head
        ending = self._server.stopping or self._evicted
        reply = Reply(link, method == "HEAD", fields.close or ending)
        if not minor:
            reply.close = not fields.keep_alive or ending
            reply.ending = _KEEP_ALIVE
        body: Body = EMPTY_BODY
        if fields.length != 0:
            body = open_body(link, fields.length, reply.send_continue if fields.expects_continue and minor else None)
            reply.body = body
        request = Request(method, path, query, fields.values, body, self.stream.peer)
        request.secure = self.secure
        try:
            await self._handler(request, reply)
        except Exception as error:
            await self._recover(request, reply, error)
        if reply.close or body is not EMPTY_BODY or not reply.finished:
            return await self._settle(request, reply)
        return True

    async def _read_slow_head(self) -> RequestHead | None:
        """Gather a head that arrives in parts. Return None if the peer leaves."""
        self.phase = "head"
        while await self._link.refill():
            head = self._heads.read(self._link.data, self._link.at)
            if head is not None:
                return head
        return None

    async def _settle(self, request: Request, reply: Reply) -> bool:
        """Finish after a handler that left a part of the request or reply.

        Return whether another request may come.
        """
        body = reply.body  # what the handler saw of it may be a wrapper
        if not reply.finished:
            await self._complain(request, reply)
        if not reply.close and not body.finished:
            await body.read_all(body.left or 0)
        if reply.close and (self._link.data or not body.finished):
            await self._linger()
        return not reply.close

    async def _recover(self, request: Request, reply: Reply, error: Exception) -> None:
        """Handle an exception of the handler: answer it if that is still possible, and end the connection."""
        reply.close = True
        cause = _single_cause(error)
        what = f"connection={self.number} request={self.requests} method={request.method} path={request.path!r}"
        if isinstance(cause, BodyTruncated | Busy | ConnectionLost | RemoteProtocolError | TooLarge):
            self._server.refused += 1
            log.info("event=request_broken %s error=%s message=%r", what, cause.code, str(cause))
        else:
            self._server.failures += 1
            log.error("event=handler_failed %s started=%s", what, reply.started, exc_info=error)
        drop_tracebacks(error)
        if not reply.started:
            status, code, message = _explain(cause)
            await self._send_error(reply, status, code, message)

    async def _complain(self, request: Request, reply: Reply) -> None:
        """End the connection because the handler returned without a whole reply, which must not look complete."""
        if not reply.close or not reply.started:
            self._server.failures += 1
            log.error(
                "event=reply_unfinished connection=%d request=%d method=%s path=%r started=%s",
                self.number, self.requests, request.method, request.path, reply.started,
            )  # fmt: skip
        reply.close = True
        if not reply.started:
            await self._send_error(reply, *_explain(None))
        else:
            raise ConnectionLost("a reply was not finished")

    async def _refuse(self, error: HeadRefused) -> None:
        self._server.refused += 1
        log.info(
            "event=head_refused connection=%d peer=%s status=%d message=%r",
            self.number, self.stream.peer, error.status, str(error),
        )  # fmt: skip
        reply = Reply(self._link, False, True)
        await self._send_error(reply, error.status, "BadRequest", str(error))
        await self._linger()

    async def _send_error(self, reply: Reply, status: int, code: str, message: str) -> None:
        await reply.send(status, JSON, pack_error(code, message, f"{self.number}-{self.requests}"))

    async def _linger(self) -> None:
        """Receive and drop what the peer still sends: closing at once would reset the connection under our reply.

        The sweeper limits the time.
        """
        self.phase = "linger"
        self.stream.finish_sending()
        link = self._link
        with memoryview(bytearray(READ_BYTES)) as scratch:
            while await link.receive_into(scratch):
                pass


def _single_cause(error: Exception) -> BaseException:
    """Return what a nursery in a handler wrapped, if it is one thing."""
    causes = leaves(error)
    return causes[0] if len(causes) == 1 else error


def _explain(cause: BaseException | None) -> tuple[int, str, str]:
    if isinstance(cause, TooLarge):
        return 413, cause.code, str(cause)
    if isinstance(cause, Busy):
        return 503, cause.code, str(cause)
    if isinstance(cause, BodyTruncated | RemoteProtocolError):
        return 400, cause.code, str(cause)
    code = cause.code if isinstance(cause, FlareError) else "InternalError"
    return 500, code, FAILED
