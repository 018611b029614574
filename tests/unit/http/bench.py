"""A server on a memory network, and raw connections to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

import trio

from flared.errors import ConnectionLost
from flared.http.exchange import Exchange
from flared.http.messages import Handler, Reply, Request
from flared.http.server import InTurns, Listener, Server, ServerSettings
from flared.http.stream import Stream
from flared.http.tls import TlsStream
from flared.http.tls_context import Tls, TlsListener
from flared.http.turns import Turns
from tests.support.certificates import trusting
from tests.support.memory_net import MemoryNetwork

ADDRESS = "server:80"


class Raw:
    """A client that sends exactly the bytes of the test."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    async def send(self, data: bytes) -> None:
        while data:
            data = data[self.stream.send_nowait(data) :]
            if data:
                await self.stream.wait_writable()

    async def receive(self, size: int = 65536) -> bytes:
        """Some bytes; empty at the end, or where the connection was cut."""
        try:
            while (data := self.stream.receive_nowait(size)) is None:
                await self.stream.wait_readable()
        except ConnectionLost:
            return b""
        return data

    async def receive_until(self, ending: bytes) -> bytes:
        data = b""
        while not data.endswith(ending):
            more = await self.receive()
            assert more, f"the connection ended after {data!r}"
            data += more
        return data

    async def receive_all(self) -> bytes:
        data = b""
        while more := await self.receive():
            data += more
        return data


class Bench:
    """One server and the network it is on."""

    def __init__(self, network: MemoryNetwork, server: Server, nursery: trio.Nursery, *, tls: bool = False) -> None:
        self.network = network
        self.server = server
        self.nursery = nursery
        self.tls = tls

    async def connect(self) -> Raw:
        stream = await self.network.connect(ADDRESS)
        if not self.tls:
            return Raw(stream)
        covered = TlsStream(stream, trusting(), host="localhost")
        await covered.shake_hands()
        return Raw(covered)

    async def say(self, data: bytes) -> bytes:
        """Everything the server answers to ``data`` until it closes, or has nothing more to say for a minute."""
        try:
            raw = await self.connect()
        except ConnectionLost:
            return b""
        answer = b""
        with trio.move_on_after(60):
            await raw.send(data)
            while more := await raw.receive():
                answer += more
        raw.stream.close()
        return answer


Way = Literal["tasks", "turns", "later turns", "handed over"]
"""How requests are answered: each in its connection's task; at once in a turn; in a later turn; or by a task that a
turn asked for after having begun."""


class QuickEcho:
    """Answers as ``echo`` does, without a task; leaves the requests for all other handlers to their tasks."""

    body_bytes_max = 1 << 17

    def __init__(self, turns: Turns, handler: Handler, way: Way) -> None:
        self._turns = turns
        self._handler = handler
        self._way = way
        self.answers = 0

    def begin(self, exchange: Exchange) -> bool:
        if self._handler is not echo:
            return False
        text = f"{exchange.method} {exchange.path} {exchange.query} ".encode() + exchange.body
        if self._way == "turns":
            exchange.send(200, b"", text)
        elif self._way == "later turns":
            self._turns.soon(lambda: exchange.send(200, b"", text))
        else:
            self._turns.at_end(exchange.hand_over)
        return True

    def answered(self, exchange: Exchange, status: int) -> None:
        self.answers += 1


class Room:
    """A BodyBudget that says yes while there is room."""

    def __init__(self, left: int = 1 << 30) -> None:
        self.left = left

    def reserve_nowait(self, amount: int) -> bool:
        self.left -= amount
        if self.left < 0:
            self.left += amount
            return False
        return True

    def give_back(self, amount: int) -> None:
        self.left += amount


@asynccontextmanager
async def serve(
    handler: Handler,
    settings: ServerSettings | None = None,
    *,
    way: Way = "tasks",
    room: Room | None = None,
    tls: Tls | None = None,
) -> AsyncIterator[Bench]:
    network = MemoryNetwork()
    turns = Turns()
    room = room or Room()
    before = room.left
    in_turns = InTurns(turns, QuickEcho(turns, handler, way), room) if way != "tasks" else None
    server = Server(handler, settings, in_turns=in_turns)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(turns.run)
            listener: Listener = network.listen(ADDRESS)
            await nursery.start(server.serve, [TlsListener(listener, tls) if tls else listener])
            yield Bench(network, server, nursery, tls=tls is not None)
            nursery.cancel_scope.cancel()
    finally:
        assert turns.statistics().failures == 0
        turns.close()
    assert room.left == before, "a body's room was not given back"


async def echo(request: Request, reply: Reply) -> None:
    """Answers with what it was asked."""
    body = await request.body.read_all(1 << 24)
    text = f"{request.method} {request.path} {request.query} ".encode() + body
    await reply.send(200, [], text)
