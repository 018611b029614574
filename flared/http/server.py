"""The server: accepts, limits, sweeps and stops connections; ``connection.py`` exchanges the messages.

No request reads a clock or opens a cancel scope: one sweeper checks every connection once a second and cuts those
that have waited too long for their peer without progress.
"""

from __future__ import annotations

import errno
import logging
import math
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

import trio

from flared.errors import BodyTruncated, Busy, ConnectionLost, drop_tracebacks
from flared.http.address import Address
from flared.http.address import inherited_listeners as inherited_listeners
from flared.http.address import listening_address as listening_address
from flared.http.address import open_listeners as open_listeners
from flared.http.connection import Connection, Phase, ServerState
from flared.http.error_body import pack_error
from flared.http.eviction import ConnectionTable, is_local
from flared.http.messages import Handler, Reply, Request
from flared.http.parsing import HeadLimits
from flared.http.patience import Watch
from flared.http.stream import Stream, TcpStream
from flared.http.turn_connection import BodyBudget, TurnConnection

if TYPE_CHECKING:
    from flared.http.exchange import QuickHandler
    from flared.http.turns import Turns, TurnStatistics

log = logging.getLogger(__name__)

SHED_CONNECTIONS_MAX = 64
"""So many connections beyond the limit get a 503; any others are closed without an answer. This machine has as many
again for itself."""
SHED_SECONDS = 2.0
"""How long a connection beyond the limit has for the request that is answered 503."""
SHORTAGE_SECONDS = 10.0
"""At most one line of the log in so many seconds reports that room is short."""
SWEEP_SECONDS = 1.0
FIRST_REQUEST_SECONDS = 1.0
"""How long an accepted connection has for its first request when the server stops."""
ACCEPT_PAUSE_SECONDS = 0.1
_NO_ROOM = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


@dataclass(frozen=True, slots=True)
class ServerSettings:
    connections_max: int = 1024
    idle_seconds: float = 75.0
    """Between two requests."""
    head_seconds: float = 10.0
    """From the first byte of a head to its last."""
    stall_seconds: float = 30.0
    """While we wait for a body without a KiB moving: 1 KiB/s is slow, not dead (``patience``)."""
    linger_seconds: float = 5.0
    """How long a refused upload is still received and dropped, so that its sender sees the reply."""
    limits: HeadLimits = field(default_factory=HeadLimits)


@dataclass(frozen=True, slots=True)
class ServerStatistics:
    connections: int
    """Open now."""
    accepted: int
    strangers: int
    """Open connections whose client has proved nothing (``eviction``)."""
    shed: int
    """Connections refused because there were too many."""
    evicted: int
    """Idle connections closed to make room for others."""
    swept: int
    """Connections cut because their peer was idle, slow or dead."""
    requests: int
    refused: int
    """Requests whose head or body was not valid HTTP, or broke off."""
    failures: int
    """Handlers that ended in a bug."""
    handed_over: int
    """Requests answered by a task, for a server that answers in turns."""
    turns: TurnStatistics | None
    """The statistics of those turns."""
    bytes_received: int
    bytes_sent: int


class Listener(Protocol):
    """A source of connections: a listening socket, or a network in memory."""

    async def accept(self) -> Stream:
        """Return the next connection. Raise trio.ClosedResourceError after ``close``."""

    def close(self) -> None:
        """Accept no more connections."""


class TcpListener:
    """A Listener on a listening socket, which it owns."""

    def __init__(self, listening: socket.socket) -> None:
        listening.setblocking(False)
        self._socket = listening

    async def accept(self) -> Stream:
        while True:
            try:
                accepted, place = self._socket.accept()
                return TcpStream(accepted, str(Address(place[0], place[1])))
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._socket)
            except OSError as error:
                if self._socket.fileno() < 0:
                    raise trio.ClosedResourceError from error
                if error.errno in _NO_ROOM:
                    log.error("event=accept_failed error=%r", error.strerror)
                    await trio.sleep(ACCEPT_PAUSE_SECONDS)
                # any other error means that the connection was gone before we accepted it

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()


@dataclass(frozen=True, slots=True)
class InTurns:
    """The parts that a server needs to answer small requests without a task each."""

    turns: Turns
    quick: QuickHandler
    bodies: BodyBudget
    """The memory budget for bodies that do not arrive together with their head."""


class Server:
    """Serves HTTP/1.1: small requests in turns, if it has the parts for that; else one task for each connection."""

    def __init__(
        self, handler: Handler, settings: ServerSettings | None = None, *, in_turns: InTurns | None = None
    ) -> None:
        self._handler = handler
        self._settings = settings or ServerSettings()
        self._in_turns = in_turns
        self._patience: dict[Phase, float] = {
            "idle": self._settings.idle_seconds,
            "head": self._settings.head_seconds,
            "exchange": self._settings.stall_seconds,
            "linger": self._settings.linger_seconds,
        }
        self._seen: dict[Connection, Watch] = {}
        """Every open connection, and the sweeper's observation of it."""
        self._listeners: list[Listener] = []
        self._nursery: trio.Nursery | None = None
        self._emptied = trio.Event()
        self._state = ServerState()
        self._table: ConnectionTable[Connection] = ConnectionTable(self._settings.connections_max)
        self._shortage = _Shortage()
        self._accepted = self._shed = self._swept = 0
        self._past_requests = self._past_received = self._past_sent = 0

    async def serve(
        self,
        listeners: Sequence[Listener | socket.socket],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until ``stop`` has finished, or until cancelled, which cuts every connection."""
        self._listeners = [TcpListener(one) if isinstance(one, socket.socket) else one for one in listeners]
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._sweep)
                for listener in self._listeners:
                    nursery.start_soon(self._accept, listener)
                task_status.started()
        finally:
            for listener in self._listeners:
                listener.close()
            for connection in [one for one in self._seen if isinstance(one, TurnConnection)]:
                connection.close()

    async def stop(self, grace_seconds: float) -> None:
        """Accept no more connections, close idle ones, give the others ``grace_seconds``, then cut them."""
        self._state.stopping = True
        for listener in self._listeners:
            listener.close()
        for connection in self._seen:
            if connection.phase == "idle" and connection.requests:
                connection.finish_receiving()
        for _ in range(2):
            await trio.lowlevel.checkpoint()  # let the tasks of connections just accepted begin
        if self._seen:
            with trio.move_on_after(grace_seconds):
                # The request of a client that has only just connected is still on its way.
                with trio.move_on_after(FIRST_REQUEST_SECONDS):
                    await self._emptied.wait()
                for connection in self._seen:
                    if connection.phase in ("idle", "head"):
                        connection.finish_receiving()
                await self._emptied.wait()
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    def limit_connections(self, connections_max: int) -> None:
        """Accept at most so many from now on; open connections stay."""
        self._settings = replace(self._settings, connections_max=connections_max)
        self._table.resize(connections_max)

    async def serve_stream(self, stream: Stream) -> None:
        """Serve one connection to its end, in the caller's task."""
        self._accepted += 1
        connection = Connection(stream, self._accepted, self._handler, self._settings.limits, self._state)
        self._enter(connection)
        try:
            await self._contain(connection, connection.converse)
        finally:
            stream.close()
            self.connection_closed(connection)

    def _serve_in_turns(self, stream: Stream, in_turns: InTurns) -> None:
        self._accepted += 1
        connection = TurnConnection(
            stream, self._accepted, self._handler, in_turns.quick, self._settings.limits, self._state, self
        )
        self._enter(connection)
        connection.begin()

    def _enter(self, connection: Connection) -> None:
        """Add the connection to the table. Without room, evict an idle one, or answer only one request."""
        entry = self._table.enter(connection, connection.stream.peer)
        if entry.evicted is not None:
            entry.evicted.evict()
        if entry.admitted:
            connection.watch_proof(partial(self._table.prove, connection))
        else:
            self._shed += 1
            connection.shed(_answer_full)
        self._seen[connection] = Watch(trio.current_time() + self._settings.idle_seconds)

    def start_task(self, connection: TurnConnection) -> None:
        assert self._nursery is not None
        self._nursery.start_soon(self._continue_in_task, connection)

    async def _continue_in_task(self, connection: TurnConnection) -> None:
        ended = True
        try:
            ended = not await self._contain(connection, connection.continue_in_task)
        finally:
            if ended:
                connection.close()

    async def _contain(self, connection: Connection, serve: Callable[[], Awaitable[None]]) -> bool:
        """Run ``serve``; return False if the connection was lost."""
        try:
            await serve()
        except (BodyTruncated, Busy, ConnectionLost) as error:
            log.debug("event=connection_lost connection=%d message=%r", connection.number, str(error))
            drop_tracebacks(error)
            return False
        return True

    def connection_closed(self, connection: Connection) -> None:
        connection.watch_proof(None)
        self._table.leave(connection)
        del self._seen[connection]
        self._past_requests += connection.requests
        self._past_received += connection.stream.received
        self._past_sent += connection.stream.sent
        if self._state.stopping and not self._seen:
            self._emptied.set()

    @property
    def turns(self) -> Turns:
        assert self._in_turns is not None
        return self._in_turns.turns

    @property
    def bodies(self) -> BodyBudget:
        assert self._in_turns is not None
        return self._in_turns.bodies

    def statistics(self) -> ServerStatistics:
        return ServerStatistics(
            connections=len(self._seen),
            strangers=self._table.strangers,
            accepted=self._accepted,
            shed=self._shed,
            evicted=self._table.evictions,
            swept=self._swept,
            requests=self._past_requests + sum(connection.requests for connection in self._seen),
            refused=self._state.refused,
            failures=self._state.failures,
            handed_over=self._state.handed_over,
            turns=self._in_turns.turns.statistics() if self._in_turns is not None else None,
            bytes_received=self._past_received + sum(connection.stream.received for connection in self._seen),
            bytes_sent=self._past_sent + sum(connection.stream.sent for connection in self._seen),
        )

    async def _accept(self, listener: Listener) -> None:
        assert self._nursery is not None
        while True:
            try:
                stream = await listener.accept()
            except trio.ClosedResourceError:
                return
            extra = SHED_CONNECTIONS_MAX * (2 if is_local(stream.peer) else 1)
            if len(self._seen) >= self._settings.connections_max + extra:
                self._shed += 1
                stream.close()
            elif self._in_turns is None:
                self._nursery.start_soon(self.serve_stream, stream)
            else:
                self._serve_in_turns(stream, self._in_turns)
            await trio.lowlevel.checkpoint()  # in a flood of connections accept never waits, so let others run

    async def _sweep(self) -> None:
        while True:
            await trio.sleep(SWEEP_SECONDS)
            now = trio.current_time()
            for connection, watch in list(self._seen.items()):  # a copy, because one in turns may end here
                self._check_progress(connection, watch, now)
            self._shortage.report(self._table, self._shed, now)

    def _check_progress(self, connection: Connection, watch: Watch, now: float) -> None:
        received, acknowledged = connection.count_bytes()
        if watch.observe(
            now,
            stage=(connection.requests, connection.phase),
            patience_seconds=SHED_SECONDS if connection.is_shed else self._patience[connection.phase],
            busy=connection.phase == "exchange" and not connection.waiting,
            received=received,
            acknowledged=acknowledged,
        ):
            connection.resting_since = now
        elif now >= watch.deadline:
            self._swept += 1
            log.debug(
                "event=swept connection=%d phase=%s peer=%s",
                connection.number, connection.phase, connection.stream.peer,
            )  # fmt: skip
            if connection.phase == "idle":
                connection.stream.finish_receiving()
            else:
                connection.stream.abort()


class _Shortage:
    """Logs that room is short: one line at a time, with the events since the last one."""

    def __init__(self) -> None:
        self._told = (0, 0)
        self._due = -math.inf

    def report(self, table: ConnectionTable[Connection], shed: int, now: float) -> None:
        counts = (table.evictions, shed)
        if counts == self._told or now < self._due:
            return
        source, strangers = table.busiest_source()
        log.warning(
            "event=connections_short evicted=%d refused=%d limit=%d open=%d strangers=%d busiest=%s from_there=%d",
            counts[0] - self._told[0], counts[1] - self._told[1],
            table.connections_max, len(table), table.strangers, source or "none", strangers,
        )  # fmt: skip
        self._told, self._due = counts, now + SHORTAGE_SECONDS


async def _answer_full(request: Request, reply: Reply) -> None:
    reply.close = True
    body = pack_error("Busy", "too many connections", "")
    await reply.send(503, [("retry-after", "1"), ("content-type", "application/json")], body)
