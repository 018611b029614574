"""Keep-alive connections to one address: choose one for each request, and handle stale ones."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from flared.errors import ConnectionLost
from flared.http.address import HTTPS
from flared.http.client import BodyProducer as BodyProducer
from flared.http.client import ClientConnection
from flared.http.client import Response as Response
from flared.http.messages import DRAIN_BYTES_MAX
from flared.http.parsing import HeadLimits
from flared.http.stream import Buffer, Stream, connect_tcp

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PoolSettings:
    connections_max: int = 8
    """Further requests wait, first come, first served."""
    connect_seconds: float = 5.0
    stall_seconds: float = 30.0
    """How long the peer may neither accept nor send bytes while we wait for it."""
    idle_seconds: float = 30.0
    """A connection unused for longer is closed; less than a server's patience."""
    limits: HeadLimits = field(default_factory=HeadLimits)


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    idle: int
    busy: int
    waiting: int
    requests: int
    connects: int
    repeats: int
    """Requests sent again because their connection had become stale."""


class Pool:
    """Connections to one address. It owns no task; call ``close`` when it is no longer needed."""

    def __init__(
        self,
        address: str,
        settings: PoolSettings | None = None,
        connect: Callable[[str], Awaitable[Stream]] = connect_tcp,
    ) -> None:
        self.address = address
        self._settings = settings or PoolSettings()
        self._connect = connect
        self._turns = trio.Semaphore(self._settings.connections_max)
        self._idle: list[tuple[ClientConnection, float]] = []
        """The last one used is the last and is used next, so that superfluous ones age."""
        self._closed = False
        self._requests = self._connects = self._repeats = 0

    @asynccontextmanager
    async def request(
        self,
        method: str,
        target: str,
        fields: Sequence[tuple[str, str]] | bytes = (),
        body: Sequence[Buffer] | BodyProducer = (),
        *,
        repeatable: bool = False,
    ) -> AsyncIterator[Response]:
        """Send a request and yield the reply, whose body must be read inside the block.

        Raise ConnectionLost if the peer cannot be reached, goes away or stalls; RemoteProtocolError if it does not
        speak HTTP. With ``repeatable`` the request may be sent a second time if a kept connection turns out to be
        closed; a BodyProducer never is. A reply left unread costs its connection, unless the rest is small.
        """
        try:
            self._turns.acquire_nowait()
        except trio.WouldBlock:
            await self._turns.acquire()
        self._requests += 1
        try:
            connection, response = await self._exchange(method, target, fields, body, repeatable)
            try:
                yield response
                await connection.drain(DRAIN_BYTES_MAX)
            finally:
                self._give_back(connection)
        finally:
            self._turns.release()

    def close(self) -> None:
        """Close every idle connection now, and every busy one when its request is over."""
        self._closed = True
        self._drop_older_than(float("inf"))

    def statistics(self) -> PoolStatistics:
        return PoolStatistics(
            idle=len(self._idle),
            busy=self._settings.connections_max - self._turns.value,
            waiting=self._turns.statistics().tasks_waiting,
            requests=self._requests,
            connects=self._connects,
            repeats=self._repeats,
        )

    async def _exchange(
        self,
        method: str,
        target: str,
        fields: Sequence[tuple[str, str]] | bytes,
        body: Sequence[Buffer] | BodyProducer,
        repeatable: bool,
    ) -> tuple[ClientConnection, Response]:
        connection = self._take_idle()
        if connection is not None:
            received = connection.stream.received
            try:
                return connection, await _exchange_or_close(connection, method, target, fields, body)
            except ConnectionLost:
                silent = connection.stream.received == received
                if not (repeatable and silent and isinstance(body, Sequence)):
                    raise
            self._repeats += 1
        connection = await self._open()
        return connection, await _exchange_or_close(connection, method, target, fields, body)

    def _take_idle(self) -> ClientConnection | None:
        self._drop_older_than(trio.current_time() - self._settings.idle_seconds)
        while self._idle:
            connection, _ = self._idle.pop()
            if connection.is_quiet():
                return connection
            connection.close()
        return None

    def _give_back(self, connection: ClientConnection) -> None:
        if connection.reusable and not self._closed:
            self._idle.append((connection, trio.current_time()))
        else:
            connection.close()

    def _drop_older_than(self, moment: float) -> None:
        while self._idle and self._idle[0][1] < moment:
            self._idle.pop(0)[0].close()

    async def _open(self) -> ClientConnection:
        self._connects += 1
        with trio.move_on_after(self._settings.connect_seconds):
            stream = await self._connect(self.address)
            return ClientConnection(
                stream, self.address.removeprefix(HTTPS), self._settings.limits, self._settings.stall_seconds
            )
        raise ConnectionLost(f"{self.address} did not answer within {self._settings.connect_seconds:g} s")


async def _exchange_or_close(
    connection: ClientConnection,
    method: str,
    target: str,
    fields: Sequence[tuple[str, str]] | bytes,
    body: Sequence[Buffer] | BodyProducer,
) -> Response:
    try:
        return await connection.exchange(method, target, fields, body)
    except BaseException:
        connection.close()
        raise
