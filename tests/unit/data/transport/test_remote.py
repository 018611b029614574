"""A Remote under everything a node, or the network, may do to it. ``test_service`` has both ends for real."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from flared.data.pieces import LARGE_SIZE, Piece, Span, describe_piece
from flared.data.transport import wire
from flared.data.transport.remote import Remote, RemoteSettings
from flared.errors import (
    ConnectionLost,
    FlareError,
    NodeUnreachable,
    NoSuchPiece,
    PieceCorrupt,
    TooLarge,
    Unauthenticated,
    VolumeFull,
)
from flared.http.messages import Reply, Request
from flared.http.server import Server
from flared.http.turns import Turns
from flared.names import NodeName, PieceName
from tests.support.memory_net import MemoryNetwork
from tests.support.piece_nodes import read_small

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

PLACE = "data1:9000"
NODE = NodeName("data1")
NAME = PieceName("a.b.0")
SMALL = b"small" * 100
LARGE = bytes(range(256)) * (LARGE_SIZE // 128)


def piece(payload: bytes, name: str = NAME) -> Piece:
    return describe_piece(name, payload, codec=0, scheme="replica:1", plain_size=len(payload))


@asynccontextmanager
async def node(script: Callable[[Request, Reply], Awaitable[None]]) -> AsyncIterator[tuple[Remote, MemoryNetwork]]:
    """A Remote whose node answers as the script says."""
    net = MemoryNetwork()
    turns = Turns()
    remote = Remote(NODE, PLACE, "token", turns, RemoteSettings(), connect=net.connect)
    async with trio.open_nursery() as nursery:
        await nursery.start(Server(script).serve, [net.listen(PLACE)])
        await nursery.start(turns.run)
        await nursery.start(remote.run)
        yield remote, net
        nursery.cancel_scope.cancel()


def answering(status: int, body: bytes = b"", **fields: str) -> Callable[[Request, Reply], Awaitable[None]]:
    async def script(request: Request, reply: Reply) -> None:
        assert request.fields["authorization"] == "Flare token"
        await request.body.read_all(1 << 24)
        await reply.send(status, [(name.replace("_", "-"), value) for name, value in fields.items()], body)

    return script


async def put_small(remote: Remote, payload: bytes = SMALL) -> FlareError | None:
    heard: list[FlareError | None] = []
    finished = trio.Event()

    def done(error: FlareError | None) -> None:
        heard.append(error)
        finished.set()

    remote.put_nowait(piece(payload), payload, done)
    await finished.wait()
    (outcome,) = heard
    return outcome


FAILURES = [
    (503, "Busy", NodeUnreachable),
    (500, "", NodeUnreachable),
    (404, "", NodeUnreachable),
    (302, "", NodeUnreachable),
    (507, "VolumeFull", VolumeFull),
    (401, "Unauthenticated", Unauthenticated),
    (403, "Forbidden", Unauthenticated),
]


@pytest.mark.parametrize(("status", "code", "kind"), FAILURES)
async def test_every_call_understands_a_refusal(status: int, code: str, kind: type[FlareError]) -> None:
    body = b'{"error": {"code": "x", "message": "because"}}'
    async with node(answering(status, body, x_flare_error=code)) as (remote, _):
        assert type(await put_small(remote)) is kind
        calls = [
            lambda: remote.put(piece(LARGE), LARGE),
            lambda: read_small(remote, NAME),
            lambda: remote.head(NAME),
            lambda: remote.delete([NAME]),
            lambda: remote.list("", 10),
            remote.status,
            lambda: read_all(remote),
        ]
        for call in calls:
            with pytest.raises(kind):
                await call()


async def read_all(remote: Remote, begin: int = 0, end: int = len(LARGE)) -> bytes:
    buffer = bytearray(100_000)
    got = b""
    async with remote.read(NAME, Span(begin, end, len(LARGE))) as stream:
        while count := await stream.receive_into(memoryview(buffer)):
            got += buffer[:count]
    return got


async def test_an_absent_piece() -> None:
    async with node(answering(404, x_flare_error="NoSuchPiece")) as (remote, _):
        with pytest.raises(NoSuchPiece):
            await remote.head(NAME)
        with pytest.raises(NoSuchPiece):
            await read_all(remote)


@pytest.mark.parametrize("body", [b"", b"\xc9", b"\xc9\0\xc9\0", b"x" * 10_000])
async def test_a_malformed_answer_to_a_put_is_no_success(body: bytes) -> None:
    async with node(answering(200, body)) as (remote, _):
        assert type(await put_small(remote)) is NodeUnreachable


@pytest.mark.parametrize("body", [b"", b"\0" * 8, wire.pack_answers(["other"], [404]), b"x" * 1000])
async def test_a_malformed_answer_to_a_get_is_no_piece(body: bytes) -> None:
    async with node(answering(200, body)) as (remote, _):
        with pytest.raises(NodeUnreachable):
            await read_small(remote, NAME)


@pytest.mark.parametrize(
    ("answer", "kind"), [(404, NoSuchPiece), (413, TooLarge), (500, PieceCorrupt), (503, NodeUnreachable)]
)
async def test_a_record_says_what_became_of_it(answer: int, kind: type[FlareError]) -> None:
    async with node(answering(200, wire.pack_answers([NAME], [answer]))) as (remote, _):
        with pytest.raises(kind):
            await read_small(remote, NAME)


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b'{"pieces": 1}', b'{"pieces": [["a"]]}', b'{"pieces": [[1, "a"]]}', b"\xff"]
)
async def test_a_malformed_inventory(body: bytes) -> None:
    async with node(answering(200, body)) as (remote, _):
        with pytest.raises(NodeUnreachable):
            await remote.list("", 10)


def sending(payload: bytes, described: Piece, status: int = 200) -> Callable[[Request, Reply], Awaitable[None]]:
    return answering(status, payload, **{name.replace("-", "_"): value for name, value in wire.piece_fields(described)})


async def test_a_stream_of_another_piece_or_length_is_refused() -> None:
    for script in (
        sending(LARGE, piece(LARGE, "other")),
        sending(LARGE[1:], piece(LARGE)),
        answering(200, LARGE),
    ):
        async with node(script) as (remote, _):
            with pytest.raises(NodeUnreachable):
                await read_all(remote)


async def test_a_node_that_ignores_the_range_is_refused() -> None:
    async with node(sending(LARGE, piece(LARGE))) as (remote, _):
        assert await read_all(remote) == LARGE
        with pytest.raises(NodeUnreachable):
            await read_all(remote, 10, 20)


async def test_a_stream_that_breaks_off_is_the_nodes_fault_and_the_blocks_errors_are_not() -> None:
    async def half(request: Request, reply: Reply) -> None:
        await reply.start(200, wire.piece_fields(piece(LARGE)), len(LARGE))
        await reply.write(LARGE[:1000])
        raise ConnectionLost("cut")

    async with node(half) as (remote, _):
        with pytest.raises(NodeUnreachable):
            await read_all(remote)
    async with node(sending(LARGE, piece(LARGE))) as (remote, _):
        with pytest.raises(ConnectionLost, match="our own client"):
            async with remote.read(NAME, Span(0, len(LARGE), len(LARGE))):
                raise ConnectionLost("our own client")


async def test_a_node_that_is_away_and_comes_back(autojump_clock: trio.testing.MockClock) -> None:
    async with node(answering(200, wire.pack_statuses([201]))) as (remote, net):
        assert await put_small(remote) is None
        net.cut(PLACE)
        assert type(await put_small(remote)) is NodeUnreachable
        with pytest.raises(NodeUnreachable):
            await remote.head(NAME)
        net.heal(PLACE)
        assert await put_small(remote) is None


async def test_a_node_that_stops_moving_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    async with node(answering(200, wire.pack_statuses([201]))) as (remote, net):
        assert await put_small(remote) is None
        net.freeze(PLACE)
        began = trio.current_time()
        assert type(await put_small(remote)) is NodeUnreachable
        assert trio.current_time() - began < 60
        net.heal(PLACE)
        assert await put_small(remote) is None


async def test_a_connection_gone_stale_is_replaced_unnoticed() -> None:
    async with node(answering(200, wire.pack_statuses([201]))) as (remote, net):
        assert await put_small(remote) is None
        net.reset(PLACE)
        assert await put_small(remote) is None


async def test_a_node_that_moved() -> None:
    async with node(answering(200, wire.pack_statuses([201]))) as (remote, net):
        net.cut(PLACE)
        async with trio.open_nursery() as nursery:
            await nursery.start(Server(answering(200, wire.pack_statuses([201]))).serve, [net.listen("data1:9001")])
            remote.set_address("data1:9001")
            assert await put_small(remote) is None
            nursery.cancel_scope.cancel()


async def test_a_remote_that_does_not_run_refuses_at_once() -> None:
    remote = Remote(NODE, PLACE, None, Turns(), connect=MemoryNetwork().connect)
    assert type(await put_small(remote)) is NodeUnreachable
    with pytest.raises(NodeUnreachable):
        await read_small(remote, NAME)


async def test_deletes_of_many_names_travel_in_batches() -> None:
    asked: list[int] = []

    async def script(request: Request, reply: Reply) -> None:
        names = wire.parse_names(await request.body.read_all(wire.NAMES_BYTES_MAX))
        asked.append(len(names))
        await reply.send(200, b"", wire.pack_statuses([(204, 404, 503)[i % 3] for i in range(len(names))]))

    async with node(script) as (remote, _):
        errors = await remote.delete([PieceName(f"n{i}") for i in range(wire.RECORDS_MAX + 3)])
    assert asked == [wire.RECORDS_MAX, 3]
    assert [type(error) for error in errors[-3:]] == [type(None), type(None), NodeUnreachable]
