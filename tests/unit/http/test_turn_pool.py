"""Requests in turns against servers that leave, stall, move and misbehave, on a virtual clock."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from flared.errors import ConnectionLost, ProtocolError, RemoteProtocolError
from flared.http.pool import PoolSettings
from flared.http.server import Server, ServerSettings
from flared.http.tls import TlsStream
from flared.http.tls_context import Tls, TlsListener
from flared.http.tls_settings import TlsSettings
from flared.http.turn_pool import TurnPool
from flared.http.turns import Turns
from tests.support.certificates import trusting, write_certificate
from tests.support.memory_net import MemoryNetwork
from tests.unit.http.bench import Raw

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from trio.testing import MockClock

    from flared.http.messages import Handler, Reply, Request
    from flared.http.stream import Stream
    from flared.http.turn_client import TurnReply

PLACE = "node:1"
SETTINGS = PoolSettings(connections_max=2, connect_seconds=3, stall_seconds=10)


covered = Tls()
"""What servers and the pool speak in the test that runs now."""


@pytest.fixture(params=["plain", "tls"])
def way(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The test runs without TLS and with it."""
    if request.param == "tls":
        covered.load(TlsSettings(*write_certificate(tmp_path_factory.mktemp("tls")), "refuse"))
    yield
    covered.load(None)


async def echo(request: Request, reply: Reply) -> None:
    await reply.send(200, [], await request.body.read_all(1 << 24))


class Asker:
    """Posts bodies and keeps what came back, in the order it came."""

    def __init__(self, pool: TurnPool, net: MemoryNetwork, nursery: trio.Nursery) -> None:
        self.pool = pool
        self.net = net
        self.nursery = nursery
        self.heard: list[TurnReply | ProtocolError] = []

    def post(self, *bodies: bytes) -> None:
        for body in bodies:
            self.pool.post("/chunks/put", b"x-y: z\r\n", (body,), self.heard.append)

    async def serve(self, handler: Handler, settings: ServerSettings | None = None, *, place: str = PLACE) -> Server:
        server = Server(handler, settings)
        await self.nursery.start(server.serve, [TlsListener(self.net.listen(place), covered)])
        return server

    @property
    def bodies(self) -> list[bytes | type[ProtocolError]]:
        return [type(one) if isinstance(one, ProtocolError) else one.body for one in self.heard]


@asynccontextmanager
async def asking() -> AsyncIterator[Asker]:
    net, turns = MemoryNetwork(), Turns()

    async def connect(address: str) -> Stream:
        stream = await net.connect(address)
        if covered.context is None:
            return stream
        secure = TlsStream(stream, trusting(), host="localhost")
        await secure.shake_hands()
        return secure

    pool = TurnPool(PLACE, turns, SETTINGS, body_bytes_max=1 << 20, connect=connect)
    async with trio.open_nursery() as nursery:
        await nursery.start(turns.run)
        await nursery.start(pool.run)
        yield Asker(pool, net, nursery)
        nursery.cancel_scope.cancel()
    assert turns.statistics().failures == 0
    turns.close()


@pytest.mark.usefixtures("way")
async def test_bodies_of_any_size_come_back(autojump_clock: MockClock) -> None:
    async with asking() as asker:
        await asker.serve(echo)
        for fragmented in (False, True):
            if fragmented:
                asker.net.fragment(PLACE)
            for size in (0, 1, 5000, 20_000, 600_000):
                asker.post(b"x" * size)
                await trio.sleep(1)
        assert asker.bodies == [b"x" * size for size in (0, 1, 5000, 20_000, 600_000)] * 2
        assert asker.pool.statistics().connects == 1


@pytest.mark.usefixtures("way")
async def test_no_more_than_its_connections_are_used_and_the_rest_waits(autojump_clock: MockClock) -> None:
    async def slow(request: Request, reply: Reply) -> None:
        await trio.sleep(1)
        await echo(request, reply)

    async with asking() as asker:
        await asker.serve(slow)
        asker.post(b"a", b"b", b"c", b"d", b"e")
        await trio.testing.wait_all_tasks_blocked()
        assert asker.pool.statistics().busy == 2
        assert asker.pool.statistics().waiting == 3
        await trio.sleep(10)
        assert sorted(map(str, asker.bodies)) == sorted(map(str, [b"a", b"b", b"c", b"d", b"e"]))
        assert asker.pool.statistics().connects == 2


@pytest.mark.usefixtures("way")
async def test_a_connection_that_died_idle_answers_its_next_request(autojump_clock: MockClock) -> None:
    async with asking() as asker:
        await asker.serve(echo)
        asker.post(b"a")
        await trio.sleep(1)
        asker.net.reset(PLACE)  # and the request below goes out before the pool's turn has noticed
        asker.post(b"b")
        await trio.sleep(1)
        assert asker.bodies == [b"a", b"b"]


async def test_a_request_that_meets_a_closing_connection_is_sent_again_once(autojump_clock: MockClock) -> None:
    """The peer's end and our request pass each other on the way."""
    async with asking() as asker:
        listener = asker.net.listen(PLACE)
        accepted: list[bytes] = []

        async def answer_once_and_close_at_the_second() -> None:
            while True:
                raw = Raw(await listener.accept())
                accepted.append(await raw.receive_until(b"a"))
                await raw.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                await raw.receive_until(b"a")
                raw.stream.close()

        asker.nursery.start_soon(answer_once_and_close_at_the_second)
        asker.post(b"a")
        await trio.sleep(1)
        asker.post(b"a")
        await trio.sleep(1)
        assert asker.bodies == [b"ok", b"ok"]
        assert len(accepted) == 2
        assert asker.pool.statistics().repeats == 1


@pytest.mark.usefixtures("way")
async def test_one_that_is_lost_tells_what_was_under_way_and_carries_what_was_queued(
    autojump_clock: MockClock,
) -> None:
    async def never(request: Request, reply: Reply) -> None:
        await trio.sleep_forever()

    async with asking() as asker:
        server = await asker.serve(never)
        asker.post(b"a", b"b", b"c")
        await trio.sleep(1)
        await server.stop(0)
        await asker.serve(echo)
        await trio.sleep(5)
        assert asker.bodies[:2] == [ConnectionLost, ConnectionLost]
        assert asker.bodies[2:] == [b"c"]


@pytest.mark.usefixtures("way")
async def test_a_missing_peer_fails_all_that_wait(autojump_clock: MockClock) -> None:
    async with asking() as asker:
        asker.post(b"a", b"b", b"c")
        await trio.sleep(1)
        assert asker.bodies == [ConnectionLost] * 3
        assert asker.heard[0] is not asker.heard[1]
        await asker.serve(echo)
        asker.post(b"d")
        await trio.sleep(1)
        assert asker.bodies[3:] == [b"d"]


@pytest.mark.usefixtures("way")
async def test_a_peer_that_cannot_be_connected_to_costs_the_time_of_a_connect(autojump_clock: MockClock) -> None:
    async with asking() as asker:
        await asker.serve(echo)
        asker.net.freeze(PLACE)
        asker.post(b"a")
        await trio.sleep(2.9)
        assert asker.bodies == []
        await trio.sleep(0.2)
        assert asker.bodies == [ConnectionLost]


@pytest.mark.usefixtures("way")
async def test_a_peer_that_stalls_is_cut_and_not_asked_again(autojump_clock: MockClock) -> None:
    asked = 0

    async def stall_after_the_first(request: Request, reply: Reply) -> None:
        nonlocal asked
        asked += 1
        if asked > 1:
            await trio.sleep_forever()
        await echo(request, reply)

    async with asking() as asker:
        await asker.serve(stall_after_the_first)
        asker.post(b"a")
        await trio.sleep(1)
        asker.post(b"b")
        await trio.sleep(9)
        assert asker.bodies == [b"a"]
        await trio.sleep(4)
        assert asker.bodies == [b"a", ConnectionLost]
        assert asked == 2


@pytest.mark.usefixtures("way")
async def test_a_slow_peer_that_moves_is_not_cut(autojump_clock: MockClock) -> None:
    async def trickle(request: Request, reply: Reply) -> None:
        await reply.start(200, [], 30)
        for _ in range(30):
            await reply.write(b"x")
            await trio.sleep(5)

    async with asking() as asker:
        await asker.serve(trickle)
        asker.post(b"a")
        await trio.sleep(160)
        assert asker.bodies == [b"x" * 30]


@pytest.mark.usefixtures("way")
async def test_what_is_no_http_or_too_long_is_an_error(autojump_clock: MockClock) -> None:
    async def too_long(request: Request, reply: Reply) -> None:
        await reply.send(200, [], bytes((1 << 20) + 1))

    async with asking() as asker:
        await asker.serve(too_long)
        asker.post(b"a")
        await trio.sleep(1)
        assert asker.bodies == [RemoteProtocolError]
        assert asker.pool.statistics().idle == 0


@pytest.mark.usefixtures("way")
async def test_a_reply_that_ends_its_connection_is_heard(autojump_clock: MockClock) -> None:
    async def last_word(request: Request, reply: Reply) -> None:
        reply.close = True
        await reply.send(503, [], b"later")

    async with asking() as asker:
        await asker.serve(last_word)
        for _ in range(3):
            asker.post(b"a")
            await trio.sleep(1)
        assert asker.bodies == [b"later"] * 3
        assert asker.pool.statistics().connects == 3


@pytest.mark.usefixtures("way")
async def test_what_waits_is_not_sent_on_a_connection_that_ends(autojump_clock: MockClock) -> None:
    async def last_word(request: Request, reply: Reply) -> None:
        reply.close = True
        await reply.send(503, [], b"later")

    async with asking() as asker:
        await asker.serve(last_word)
        asker.post(*[b"a"] * 6)
        await trio.sleep(1)
        assert asker.bodies == [b"later"] * 6
        assert asker.pool.statistics().repeats == 0


async def test_nothing_follows_a_request_that_was_answered_before_it_was_sent_whole(autojump_clock: MockClock) -> None:
    """The peer would take the next request for the rest of this one's body."""
    async with asking() as asker:
        listener = asker.net.listen(PLACE)
        connections: list[bytearray] = []

        async def answer_at_once() -> None:
            while True:
                stream = await listener.accept()
                connections.append(bytearray())
                asker.nursery.start_soon(listen, stream, connections[-1])

        async def listen(stream: Stream, taken: bytearray) -> None:
            raw = Raw(stream)
            taken += await raw.receive(1000)
            await raw.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            while more := await raw.receive():
                taken += more

        asker.nursery.start_soon(answer_at_once)
        asker.post(*[bytes(1 << 20)] * 4)
        await trio.sleep(5)
        assert asker.bodies == [b"ok"] * 4
        assert [taken.count(b"POST") for taken in connections] == [1] * 4


async def test_an_old_address_that_cannot_be_reached_costs_nothing_after_a_move(autojump_clock: MockClock) -> None:
    async with asking() as asker:
        await asker.serve(echo, place="node:2")
        asker.net.freeze(PLACE)
        asker.post(b"a", b"b", b"c")
        await trio.sleep(1)
        asker.pool.move("node:2")
        await trio.sleep(5)
        assert {*asker.bodies} == {b"a", b"b", b"c"}


@pytest.mark.usefixtures("way")
async def test_another_address_is_used_from_the_next_request_on(autojump_clock: MockClock) -> None:
    async def other(request: Request, reply: Reply) -> None:
        await reply.send(200, [], b"other")

    async def slow(request: Request, reply: Reply) -> None:
        await trio.sleep(5)
        await echo(request, reply)

    async with asking() as asker:
        await asker.serve(slow)
        await asker.serve(other, place="node:2")
        asker.post(b"a")
        await trio.sleep(1)
        asker.pool.move("node:2")
        asker.post(b"b")
        await trio.sleep(1)
        assert asker.bodies == [b"other"]
        await trio.sleep(10)
        assert asker.bodies == [b"other", b"a"]
        asker.post(b"c")
        await trio.sleep(1)
        assert asker.bodies[2:] == [b"other"]


@pytest.mark.usefixtures("way")
async def test_a_pool_that_ends_tells_everybody(autojump_clock: MockClock) -> None:
    async def never(request: Request, reply: Reply) -> None:
        await trio.sleep_forever()

    async with asking() as asker:
        await asker.serve(never)
        asker.post(b"a", b"b", b"c")
        await trio.sleep(1)
    asker.post(b"d")
    assert asker.bodies == [ConnectionLost] * 4
