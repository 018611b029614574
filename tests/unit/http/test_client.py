"""Our client against our server, against rude ones on the memory network, and against the standard library's."""

from __future__ import annotations

import http.server
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from flared.errors import BodyTruncated, ConnectionLost, LocalProtocolError, RemoteProtocolError
from flared.http.messages import ChunkedBody, Reply, Request
from flared.http.pool import Pool, PoolSettings
from flared.http.server import Server, listening_address, open_listeners
from tests.support.memory_net import MemoryNetwork
from tests.unit.http.bench import ADDRESS, Bench, Raw, echo, serve

if TYPE_CHECKING:
    from trio.testing import MockClock

LIMIT = 1 << 26


class Parts:
    """A BodyProducer of given parts."""

    def __init__(self, parts: list[bytes], length: int | None = None) -> None:
        self.length = length
        self._parts = iter(parts)

    async def next(self) -> bytes | None:
        await trio.lowlevel.checkpoint()
        return next(self._parts, None)


@contextmanager
def pool_of(bench: Bench, settings: PoolSettings | None = None) -> Iterator[Pool]:
    pool = Pool(ADDRESS, settings, connect=bench.network.connect)
    try:
        yield pool
    finally:
        pool.close()


async def test_requests_share_a_connection(autojump_clock: MockClock) -> None:
    async with serve(echo) as bench:
        with pool_of(bench) as pool:
            for method in ("GET", "PUT", "DELETE"):
                async with pool.request(method, "/a?b") as response:
                    assert response.status == 200
                    assert await response.body.read_all(LIMIT) == f"{method} /a b ".encode()
            assert pool.statistics().connects == 1
            assert bench.server.statistics().requests == 3


BODIES = [
    [],
    [b"abc"],
    [b"abc", bytearray(b"def"), memoryview(b"ghi")],
    [b"x" * 1000] * 1200,
    [b"y" * 3_000_000, b"z"],
]


@pytest.mark.parametrize("parts", BODIES, ids=range(5))
@pytest.mark.parametrize("how", ["parts", "source", "chunks"])
async def test_bodies_both_ways(parts: list[bytes], how: str, autojump_clock: MockClock) -> None:
    whole = b"".join(parts)
    body: list[bytes] | Parts = parts
    if how != "parts":
        body = Parts(parts, len(whole) if how == "source" else None)
    async with serve(echo) as bench:
        with pool_of(bench) as pool:
            async with pool.request("PUT", "/", [("x", "y")], body) as response:
                assert await response.body.read_all(LIMIT) == b"PUT /  " + whole
            async with pool.request("GET", "/") as response:
                assert response.status == 200
            assert pool.statistics().connects == 1


async def test_fields_may_follow_a_body_of_unknown_length(autojump_clock: MockClock) -> None:
    class Trailed(Parts):
        def trailer(self) -> list[tuple[str, str]]:
            return [("X-Sum", " a b "), ("x-other", "1")]

    found: list[dict[str, str]] = []

    async def handler(request: Request, reply: Reply) -> None:
        assert isinstance(request.body, ChunkedBody)
        assert await request.body.read_all(LIMIT) == b"abcdef"
        found.append(request.body.trailer)
        await reply.send(200, b"")

    async with serve(handler) as bench:
        with pool_of(bench) as pool:
            for body in (Trailed([b"abc", b"def"]), Parts([b"abcdef"])):
                async with pool.request("PUT", "/", body=body) as response:
                    assert response.status == 200
            assert pool.statistics().connects == 1
    assert found == [{"x-sum": "a b", "x-other": "1"}, {}]


async def test_head_and_204_have_no_body(autojump_clock: MockClock) -> None:
    async def handler(request: Request, reply: Reply) -> None:
        await reply.send(204 if request.path == "/204" else 200, [], b"" if request.path == "/204" else b"abc")

    async with serve(handler) as bench:
        with pool_of(bench) as pool:
            async with pool.request("HEAD", "/") as response:
                assert response.fields["content-length"] == "3"
                assert await response.body.read_all(LIMIT) == b""
            async with pool.request("GET", "/204") as response:
                assert response.body.length == 0
            assert pool.statistics().connects == 1


async def test_a_reply_left_unread_costs_its_connection_if_it_is_large(autojump_clock: MockClock) -> None:
    async def handler(request: Request, reply: Reply) -> None:
        await reply.send(200, [], bytes(int(request.path[1:])))

    async with serve(handler) as bench:
        with pool_of(bench) as pool:
            for size, connects in ((1000, 1), (1_000_000, 1), (10, 2)):
                async with pool.request("GET", f"/{size}") as response:
                    assert response.body.length == size
                assert pool.statistics().connects == connects


async def test_the_pool_is_bounded_and_fair(autojump_clock: MockClock) -> None:
    order: list[int] = []

    async def slow(request: Request, reply: Reply) -> None:
        await trio.sleep(1)
        await reply.send(200, [])

    async with serve(slow) as bench:
        with pool_of(bench, PoolSettings(connections_max=2)) as pool:

            async def ask(number: int) -> None:
                async with pool.request("GET", "/"):
                    order.append(number)

            started = trio.current_time()
            async with trio.open_nursery() as nursery:
                for number in range(6):
                    nursery.start_soon(ask, number)
                    await trio.testing.wait_all_tasks_blocked()
            assert trio.current_time() - started == pytest.approx(3)
            assert [sorted(order[at : at + 2]) for at in (0, 2, 4)] == [[0, 1], [2, 3], [4, 5]]
            assert pool.statistics().connects == 2


async def test_a_stale_connection_is_noticed(autojump_clock: MockClock) -> None:
    async with serve(echo) as bench:
        with pool_of(bench) as pool:
            async with pool.request("GET", "/"):
                pass
            bench.network.reset(ADDRESS)
            async with pool.request("POST", "/"):
                pass
            assert pool.statistics().connects == 2
            assert pool.statistics().repeats == 0


@asynccontextmanager
async def rude_server(*answers: bytes) -> AsyncIterator[MemoryNetwork]:
    """Takes a head, sends the next of ``answers``, and closes the connection where there is none left for it."""
    network = MemoryNetwork()
    listener = network.listen(ADDRESS)
    left = list(answers)

    async def converse(raw: Raw) -> None:
        while await raw.receive():
            if not left or (said := left.pop(0)) == b"":
                break
            await raw.send(said)
            if said.endswith(b"!"):
                break
        raw.stream.close()

    async def accept() -> None:
        while True:
            nursery.start_soon(converse, Raw(await listener.accept()))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept)
        yield network
        nursery.cancel_scope.cancel()


FINE = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


async def test_a_request_is_repeated_only_if_that_is_safe(autojump_clock: MockClock) -> None:
    async with rude_server(FINE, b"", FINE, b"", FINE) as network:
        pool = Pool(ADDRESS, connect=network.connect)
        async with pool.request("GET", "/"):
            pass
        async with pool.request("GET", "/", repeatable=True) as response:
            assert await response.body.read_all(2) == b"ok"
        assert pool.statistics().repeats == 1
        with pytest.raises(ConnectionLost):
            async with pool.request("GET", "/"):
                pass
        assert pool.statistics().repeats == 1
        assert pool.statistics().busy == 0
        pool.close()


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"!", ConnectionLost),
        (b"HTTP/1.1 200 OK\r\nx!", ConnectionLost),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab!", BodyTruncated),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nab!", BodyTruncated),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n!", RemoteProtocolError),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nab!", RemoteProtocolError),
        (b"HTTP/1.1 200 OK\r\nx: a\r\n folded\r\n\r\n!", RemoteProtocolError),
        (b"SSH-2.0-OpenSSH\r\n\r\n!", RemoteProtocolError),
        (b"HTTP/1.1 101 Switching\r\n\r\n!", RemoteProtocolError),
        (b"\n!", RemoteProtocolError),
    ],
    ids=range(10),
)
async def test_replies_that_break_off_or_are_none(
    said: bytes, error: type[Exception], autojump_clock: MockClock
) -> None:
    async with rude_server(said) as network:
        pool = Pool(ADDRESS, connect=network.connect)
        with pytest.raises(error):
            async with pool.request("GET", "/") as response:
                await response.body.read_all(LIMIT)
        assert pool.statistics().idle == 0
        pool.close()


async def test_interim_replies_are_passed_over(autojump_clock: MockClock) -> None:
    async with rude_server(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nx: y\r\n\r\n" + FINE) as network:
        pool = Pool(ADDRESS, connect=network.connect)
        async with pool.request("GET", "/") as response:
            assert (response.status, await response.body.read_all(2)) == (200, b"ok")
        pool.close()


async def test_an_early_reply_is_heard_and_the_rest_not_sent(autojump_clock: MockClock) -> None:
    async def refuse(request: Request, reply: Reply) -> None:
        await reply.send(507, [], b"full")

    async with serve(refuse) as bench:
        with pool_of(bench) as pool:
            source = Parts([b"x" * 100_000] * 1000, 100_000_000)
            async with pool.request("PUT", "/", (), source) as response:
                assert response.status == 507
                assert await response.body.read_all(LIMIT) == b"full"
            assert await source.next() is not None
            assert pool.statistics().idle == 0


async def test_a_peer_that_stalls_is_given_up(autojump_clock: MockClock) -> None:
    async with serve(echo) as bench:
        with pool_of(bench, PoolSettings(stall_seconds=10, connect_seconds=3)) as pool:
            async with pool.request("GET", "/"):
                pass
            bench.network.freeze(ADDRESS)
            started = trio.current_time()
            with pytest.raises(ConnectionLost, match="10 s"):
                async with pool.request("GET", "/"):
                    pass
            assert trio.current_time() - started == pytest.approx(10)
            with pytest.raises(ConnectionLost, match="3 s"):
                async with pool.request("GET", "/"):
                    pass
            assert trio.current_time() - started == pytest.approx(13)
            bench.network.heal(ADDRESS)
            async with pool.request("GET", "/") as response:
                assert response.status == 200


async def test_a_peer_that_stalls_while_we_send_is_given_up(autojump_clock: MockClock) -> None:
    async def never(request: Request, reply: Reply) -> None:
        await trio.sleep_forever()

    async with serve(never) as bench:
        with pool_of(bench, PoolSettings(stall_seconds=10)) as pool, pytest.raises(ConnectionLost, match="10 s"):
            async with pool.request("PUT", "/", (), [bytes(10_000_000)]):
                pass


async def test_no_listener(autojump_clock: MockClock) -> None:
    pool = Pool("nowhere:1", connect=MemoryNetwork().connect)
    with pytest.raises(ConnectionLost):
        async with pool.request("GET", "/"):
            pass
    assert pool.statistics().busy == 0


async def test_a_request_cannot_break_http(autojump_clock: MockClock) -> None:
    async with serve(echo) as bench:
        with pool_of(bench) as pool:
            for target, fields, body in (
                ("/a b", [], []),
                ("a", [], []),
                ("/", [("x", "y\r\nz: a")], []),
                ("/", [], Parts([b"abc"], 2)),
                ("/", [], Parts([b"abc"], 4)),
            ):
                with pytest.raises(LocalProtocolError):
                    async with pool.request("PUT", target, fields, body):
                        pass
            assert pool.statistics().idle == 0


async def fail_inside(pool: Pool, read: bool) -> None:
    async with pool.request("GET", "/") as response:
        if read:
            await response.body.read_all(LIMIT)
        raise KeyError


async def test_an_error_in_the_block_gives_the_connection_back_if_it_is_clean(autojump_clock: MockClock) -> None:
    async with serve(echo) as bench:
        with pool_of(bench) as pool:
            for read in (True, False):
                with pytest.raises(KeyError):
                    await fail_inside(pool, read)
                assert pool.statistics().idle == read


# ---- on real sockets


async def test_both_ends_on_real_sockets() -> None:
    listeners = open_listeners("127.0.0.1:0")
    address = listening_address(listeners[0])
    server = Server(echo)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve, listeners)
        pool = Pool(address)
        body = bytes(range(256)) * 40_000
        for _ in range(3):
            async with pool.request("PUT", "/a", (), [body[:100], body[100:]]) as response:
                assert await response.body.read_all(LIMIT) == b"PUT /a  " + body
        assert pool.statistics().connects == 1
        await server.stop(1)
        with pytest.raises(ConnectionLost):
            async with pool.request("GET", "/"):
                pass
        pool.close()
    assert server.statistics().requests == 3


class StandardHandler(http.server.BaseHTTPRequestHandler):
    """HTTP as Python's own server speaks it."""

    def do_GET(self) -> None:
        if self.path == "/chunked":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"3\r\nabc\r\n" * 1000 + b"0\r\n\r\n")
        elif self.path == "/until-close":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"abc" * 1000)
            self.close_connection = True
        else:
            self.send_response(200)
            self.send_header("Content-Length", "3")
            self.end_headers()
            self.wfile.write(b"abc")

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(201)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Quiet."""


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
async def test_against_the_servers_of_others(version: str) -> None:
    handler = type("Handler", (StandardHandler,), {"protocol_version": version})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            pool = Pool(f"127.0.0.1:{server.server_address[1]}")
            paths = ["/", "/until-close"] + ["/chunked"] * (version == "HTTP/1.1")
            for path in paths:
                async with pool.request("GET", path) as response:
                    assert await response.body.read_all(LIMIT) == (b"abc" if path == "/" else b"abc" * 1000)
            async with pool.request("PUT", "/", (), [b"x" * 300_000]) as response:
                assert response.status == 201
                assert await response.body.read_all(LIMIT) == b"x" * 300_000
            pool.close()
        finally:
            await trio.to_thread.run_sync(server.shutdown)
            thread.join()
