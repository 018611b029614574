"""One connection while it needs no task: its small requests are received, answered and sent in turns.

It answers one request at a time; what arrives meanwhile waits in the kernel. A request that the handler does not take,
or that is not small, plain HTTP/1.1, gets a task (the way of ``Connection``), and when that is done turns go on. Both
ways share the stream, the bytes received and not used yet, and the head reader: nothing is parsed twice, and the
server's sweeper sees no difference.

Memory: a body that does not come with its head is gathered here, up to the handler's ``body_bytes_max``, paid from
``bodies``, the bound of the whole server. Where that has no room, a task takes the request and waits in line.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from flared.errors import ConnectionLost
from flared.http.connection import Connection, ServerState
from flared.http.exchange import Exchange, QuickHandler
from flared.http.parsing import HeadLimits, HeadRefused, RequestHead
from flared.http.stream import RECEIVE_BYTES
from flared.http.turns import ENDED, GONE, WRITABLE

if TYPE_CHECKING:
    from flared.http.eviction import Standing
    from flared.http.messages import Handler
    from flared.http.stream import Stream
    from flared.http.turns import Turns

log = logging.getLogger(__name__)

_ENDING = ENDED | GONE


class BodyBudget(Protocol):
    """Bytes that bodies under way may take in all."""

    def reserve_nowait(self, amount: int) -> bool: ...

    def give_back(self, amount: int) -> None: ...


class ConnectionOwner(Protocol):
    """The server, as its connections see it."""

    @property
    def turns(self) -> Turns: ...

    @property
    def bodies(self) -> BodyBudget: ...

    def start_task(self, connection: TurnConnection) -> None:
        """Run ``continue_in_task`` in a task."""

    def connection_closed(self, connection: TurnConnection) -> None: ...


class TurnConnection(Connection):
    """Lives in turns from ``begin`` until its owner hears ``connection_closed``, once."""

    def __init__(
        self,
        stream: Stream,
        number: int,
        handler: Handler,
        quick: QuickHandler,
        limits: HeadLimits,
        server: ServerState,
        owner: ConnectionOwner,
    ) -> None:
        super().__init__(stream, number, handler, limits, server)
        self.peer = stream.peer
        self._quick = quick
        self._owner = owner
        self._body_bytes_max = quick.body_bytes_max
        self._exchange: Exchange | None = None
        """The request that is being answered."""
        self._head: RequestHead | HeadRefused | None = None
        """Of that request, or of the one that a task is to answer."""
        self._in_task = False
        self._free = True
        """Another request may be taken: none is being answered, and the last reply has left."""
        self._readable = False
        """More may have come than was received."""
        self._peer_ended = False
        """Nothing more will come; what has come is still to be received."""
        self._body: bytearray | None = None
        """The body being gathered."""
        self._filled = 0
        self._reserved = 0
        self._unsent: memoryview | None = None
        self._advancing = False
        self._closed = False

    def begin(self) -> None:
        """Take part in turns from now on."""
        self.stream.watch(self._owner.turns, self._ready)

    @property
    def waiting(self) -> bool:
        """Return whether the connection waits for the peer now; while it waits for nodes and disks, it is not swept."""
        return self._link.waiting if self._in_task else self._unsent is not None or self._body is not None

    # Called by the turns

    def _ready(self, flags: int) -> None:
        """Send what is left, receive what has come. A bug costs this connection only."""
        try:
            if self._unsent is not None and flags & WRITABLE:
                self._flush()
            if flags & _ENDING:
                if flags & GONE and self._exchange is not None:
                    return self.close()
                self._peer_ended = True
            self._readable = True
            if self._free and self._link.data:
                self._advance()  # what came behind a request that has been answered since
            if self._free:
                self._receive()
                # One receive a turn, so that a connection that never stops sending leaves the others their turn.
                if self._readable and self._free:
                    self._owner.turns.soon(self._resume)
        except ConnectionLost:
            self.close()
        except Exception:
            self._server.failures += 1
            log.exception("event=connection_failed connection=%d", self.number)
            self.close()

    def _receive(self) -> None:
        if self._body is not None:
            return self._gather()
        self._readable = False
        data = self.stream.receive_nowait(RECEIVE_BYTES)
        if data is None:
            return None
        if not data:
            return self.close()
        # A short receive emptied the socket: what comes later raises a new edge. The end is seen by another receive.
        self._readable = len(data) == RECEIVE_BYTES or self._peer_ended
        link = self._link
        link.data = link.data[link.at :] + data if link.data else data
        link.at = 0
        return self._advance()

    def _gather(self) -> None:
        """Receive the rest of a body that did not come in one piece."""
        body, link = self._body, self._link
        assert body is not None
        with memoryview(body) as view:
            length = len(view) - 1
            while self._filled < length:
                # Until the kernel has no more: only then does the next byte raise an edge.
                count = self.stream.receive_into_nowait(view[self._filled :])
                if count is None:
                    self._readable = False
                    return None
                if not count:
                    return self._give_back_body()
                self._filled += count
        # A receive that left the last byte free emptied the socket, as a short one does in ``_receive``.
        self._readable = self._filled > length or self._peer_ended
        if self._filled > length:
            link.data, link.at = bytes(body[length:]), 0
        del body[length:]
        self._body = None
        assert isinstance(self._head, tuple)
        self._offer(self._head, body)
        return self._advance()

    def _advance(self) -> None:
        """Take one request after the other from what was received, while each is answered at once."""
        if self._advancing:
            return  # the loop below, further up the stack, goes on
        self._advancing = True
        link, server = self._link, self._server
        try:
            while self._free and self._body is None:
                data, at = link.data, link.at
                if not data:
                    self.phase = "idle"
                    break
                try:
                    head = self._heads.read(data, at)
                except HeadRefused as error:
                    self._give_to_task(error)
                    break
                if head is None:
                    self.phase = "head"
                    break
                self.phase = "exchange"
                self.requests += 1
                self._head = head
                fields, end = head[4], head[5]
                length = fields.length or 0
                stop = end + length
                last = server.stopping or self._evicted or self.is_shed
                if last or not head[3] or fields.needs_task or length > self._body_bytes_max:
                    link.skip(end - at)
                    self._give_to_task(head)
                elif stop < len(data):
                    link.at = stop
                    self._offer(head, data[end:stop])
                elif stop == len(data):
                    link.data, link.at = b"", 0
                    self._offer(head, data[end:])
                else:
                    link.skip(end - at)
                    self._begin_gathering(head, length)
        finally:
            self._advancing = False

    def _resume(self) -> None:
        self._ready(0)

    def _begin_gathering(self, head: RequestHead, length: int) -> None:
        if not self._owner.bodies.reserve_nowait(length):
            return self._give_to_task(head)
        link = self._link
        self._reserved = length
        self._body = bytearray(length + 1)  # with room to see that nothing comes behind it
        self._filled = len(link.data) - link.at
        memoryview(self._body)[: self._filled] = memoryview(link.data)[link.at :]
        link.data, link.at = b"", 0
        self._gather()
        return None

    def _give_back_body(self) -> None:
        """The peer stopped in the middle of the body: a task finds that out again, and says so."""
        assert self._body is not None
        link = self._link
        link.data, link.at = bytes(self._body[: self._filled]), 0
        self._body = None
        self._give_back_reserved()
        assert isinstance(self._head, tuple)
        self._give_to_task(self._head)

    def _offer(self, head: RequestHead, body: bytes | bytearray) -> None:
        """Have the handler begin the request; a task answers it if the handler does not."""
        self._free = False
        exchange = self._exchange = Exchange(self, self._quick, head, body)
        if not self._quick.begin(exchange):
            self.hand_over(exchange)

    # Called by the exchange

    def prove(self, standing: Standing) -> None:
        """The client of this connection has proved so much."""
        self._link.raise_standing(standing)

    def answer(self, exchange: Exchange, reply: bytes) -> None:
        """Send the reply, and go on with the next request. If the peer has left, nothing happens."""
        assert self._exchange is exchange or self._closed, "an exchange was answered twice"
        self._exchange = None
        if self._reserved:
            self._give_back_reserved()
        if self._closed:
            return
        try:
            sent = self.stream.send_nowait(reply)
        except ConnectionLost:
            return self.close()
        if sent != len(reply):
            self._unsent = memoryview(reply)[sent:]
            return None
        self._free = True
        if self._server.stopping:
            self._reply_left()
        if not self._link.data:
            self.phase = "idle"
        # Not at once: what the next request does wrong is none of this exchange's business.
        if not self._advancing and (self._readable or self._link.data):
            self._owner.turns.soon(self._resume)
        return None

    def hand_over(self, exchange: Exchange) -> None:
        """Have a task answer it from the start: the body goes back in front of what was received after it."""
        assert self._exchange is exchange or self._closed, "an exchange was answered twice"
        self._exchange = None
        self._give_back_reserved()
        if self._closed:
            return
        link = self._link
        if exchange.body:
            link.data, link.at = bytes(exchange.body) + link.data[link.at :], 0
        assert isinstance(self._head, tuple)
        self._give_to_task(self._head)

    def _give_back_reserved(self) -> None:
        if self._reserved:
            self._owner.bodies.give_back(self._reserved)
            self._reserved = 0

    def _flush(self) -> None:
        assert self._unsent is not None
        sent = self.stream.send_nowait(self._unsent)
        self._unsent = self._unsent[sent:] if sent < len(self._unsent) else None
        if self._unsent is None:
            self._reply_left()
            self._advance()

    def _reply_left(self) -> None:
        """Another request may come; when the server stops, only one that is here already."""
        self._free = True
        if self._server.stopping and not self._link.data:
            self.finish_receiving()

    # The general way

    def _give_to_task(self, head: RequestHead | HeadRefused) -> None:
        self._head = head
        self._in_task, self._free = True, False
        self._server.handed_over += 1
        self._owner.start_task(self)

    async def continue_in_task(self) -> None:
        """Answer the request that needs a task, then take part in turns again. Raises ConnectionLost, as ``converse``
        does; the caller closes the connection then, and when cancelled."""
        head, self._head = self._head, None
        if isinstance(head, HeadRefused):
            await self._refuse(head)
            keep = False
        else:
            assert head is not None
            keep = await self._exchange_in_task(head)
        self._in_task = False
        self._free = not self._closed
        if not keep or (self._server.stopping and not self._link.data):
            return self.close()
        self.phase = "idle"
        self._readable = True  # bytes that arrived meanwhile have raised their edge already
        self._resume()
        return None

    def close(self) -> None:
        """Close the stream, once. An exchange in progress is notified that its client has left."""
        if self._closed:
            return
        self._closed, self._free = True, False
        self._body = self._unsent = None
        self._give_back_reserved()
        self.stream.forget(self._owner.turns)
        self.stream.close()
        self._owner.connection_closed(self)
        if self._exchange is not None:
            self._exchange.leave()
