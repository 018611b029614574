"""A server on a memory network, and raw connections to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from flared.errors import ConnectionLost
from flared.http.messages import Handler, Reply, Request
from flared.http.server import Server, ServerSettings
from flared.http.stream import Stream
from tests.support.memory_net import MemoryNetwork

ADDRESS = "server:80"


class Raw:
    """A client that sends exactly what it is told."""

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

    def __init__(self, network: MemoryNetwork, server: Server, nursery: trio.Nursery) -> None:
        self.network = network
        self.server = server
        self.nursery = nursery

    async def connect(self) -> Raw:
        return Raw(await self.network.connect(ADDRESS))

    async def say(self, data: bytes) -> bytes:
        """Everything the server answers to ``data`` until it closes, or has nothing more to say for a minute."""
        raw = await self.connect()
        answer = b""
        with trio.move_on_after(60):
            await raw.send(data)
            while more := await raw.receive():
                answer += more
        raw.stream.close()
        return answer


@asynccontextmanager
async def serve(handler: Handler, settings: ServerSettings | None = None) -> AsyncIterator[Bench]:
    network = MemoryNetwork()
    server = Server(handler, settings)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve, [network.listen(ADDRESS)])
        yield Bench(network, server, nursery)
        nursery.cancel_scope.cancel()


async def echo(request: Request, reply: Reply) -> None:
    """Answers with what it was asked."""
    body = await request.body.read_all(1 << 24)
    text = f"{request.method} {request.path} {request.query} ".encode() + body
    await reply.send(200, [], text)
