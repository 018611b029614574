"""Our server against clients that send exact bytes, on a virtual clock."""

from __future__ import annotations

import json
import logging
import re
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from flared.errors import BodyTruncated, ConnectionLost, LocalProtocolError
from flared.http.eviction import Standing
from flared.http.messages import Reply, Request
from flared.http.server import SHED_CONNECTIONS_MAX, ServerSettings
from flared.http.tls_context import Tls
from flared.http.tls_settings import TlsSettings
from tests.support.certificates import write_certificate
from tests.unit.http.bench import ADDRESS, Bench, Raw, Way, echo
from tests.unit.http.bench import serve as serve_one_way
from tests.unit.http.test_parsing import CORPUS

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from trio.testing import MockClock

    Serve = Callable[..., AbstractAsyncContextManager[Bench]]

WAYS: tuple[Way, ...] = ("tasks", "turns", "later turns", "handed over")


@pytest.fixture(params=[*WAYS, "TLS in tasks", "TLS in turns"])
def serve(request: pytest.FixtureRequest, tmp_path: Path) -> Serve:
    """A server that answers in each of the ways: no client can tell them apart."""
    if request.param in WAYS:
        return partial(serve_one_way, way=request.param)
    tls = Tls(TlsSettings(*write_certificate(tmp_path), "refuse"))
    return partial(serve_one_way, way=request.param.removeprefix("TLS in "), tls=tls)


HOST = b"Host: h\r\n"
GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
LAST = b"GET /last HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"


def put(body: bytes, *, fields: bytes = b"") -> bytes:
    return b"PUT /p HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n" % len(body) + fields + b"\r\n" + body


def chunked(body: bytes) -> bytes:
    return b"PUT /c HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + body


def answer(text: bytes, *, fields: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\n" + fields + b"content-length: %d\r\n\r\n" % len(text) + text


CLOSING = answer(b"GET /last  ", fields=b"connection: close\r\n")


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        (GET, answer(b"GET /  ")),
        (GET + GET, answer(b"GET /  ") * 2),
        (put(b"abc") + GET, answer(b"PUT /p  abc") + answer(b"GET /  ")),
        (chunked(b"3\r\nabc\r\n0\r\n\r\n") + GET, answer(b"PUT /c  abc") + answer(b"GET /  ")),
        (chunked(b"1;x=y\r\na\r\n002\r\nbc\r\n0;z\r\nT: t\r\n\r\n") + GET, answer(b"PUT /c  abc") + answer(b"GET /  ")),
        (chunked(b"0\r\n\r\n"), answer(b"PUT /c  ")),
        (put(b"x" * 100_000) + GET, answer(b"PUT /p  " + b"x" * 100_000) + answer(b"GET /  ")),
        (
            put(b"x" * 50_000) + put(b"y" * 50_000),
            answer(b"PUT /p  " + b"x" * 50_000) + answer(b"PUT /p  " + b"y" * 50_000),
        ),
        (
            b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + GET,
            answer(b"GET /  ", fields=b"connection: keep-alive\r\n") + answer(b"GET /  "),
        ),
        (b"GET / HTTP/1.0\r\n\r\n", answer(b"GET /  ", fields=b"connection: close\r\n")),
        (b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", answer(b"GET /  ")),
    ],
    ids=range(11),
)
async def test_conversations(sent: bytes, answered: bytes, autojump_clock: MockClock, serve: Serve) -> None:
    async with serve(echo) as bench:
        assert await bench.say(sent) == answered
        bench.network.fragment(ADDRESS)
        assert await bench.say(sent) == answered


async def test_a_request_may_come_byte_by_byte(autojump_clock: MockClock, serve: Serve) -> None:
    async with serve(echo) as bench:
        raw = await bench.connect()
        for byte in put(b"abc") + chunked(b"3\r\nabc\r\n0\r\n\r\n") + LAST:
            await raw.send(bytes([byte]))
            await trio.testing.wait_all_tasks_blocked()
        assert await raw.receive_all() == answer(b"PUT /p  abc") + answer(b"PUT /c  abc") + CLOSING


@pytest.mark.parametrize("head", CORPUS, ids=repr)
async def test_dubious_heads_are_refused_and_end_the_connection(
    head: bytes, autojump_clock: MockClock, serve: Serve
) -> None:
    async with serve(echo) as bench:
        said = await bench.say(head + GET)
        assert said.split(b" ", 2)[1] in (b"400", b"417")
        assert b"connection: close" in said
        assert len(re.findall(rb"HTTP/1\.1 [0-9]", said)) == 1
        assert "request_id" in json.loads(said.partition(b"\r\n\r\n")[2])["error"]
        assert bench.server.statistics().refused == 1


@pytest.mark.parametrize(
    "body",
    [
        b"g\r\n",
        b"-1\r\n",
        b"3 \r\nabc\r\n0\r\n\r\n",
        b"3\nabc\n0\n\n",
        b"3\r\nabcd\r\n0\r\n\r\n",
        b"3\r\nab\r\n\r\n0\r\n\r\n",
        b"3\r\nabc0\r\n\r\n",
        b"1" * 17 + b"\r\n",
        b"3;" + b"x" * 300 + b"\r\nabc\r\n",
        b"3;" + b"x" * 5000,
        b"0\r\n" + b"T: t\r\n" * 20_000,
        (b"1;" + b"x" * 250 + b"\r\na\r\n") * 400,
    ],
    ids=range(12),
)
async def test_broken_chunks_are_refused(body: bytes, autojump_clock: MockClock, serve: Serve) -> None:
    async with serve(echo) as bench:
        said = await bench.say(chunked(body) + GET)
        assert said.startswith(b"HTTP/1.1 400 ")
        assert len(re.findall(rb"HTTP/1\.1 [0-9]", said)) == 1


async def test_head_gets_the_fields_and_no_body(autojump_clock: MockClock, serve: Serve) -> None:
    async def handler(request: Request, reply: Reply) -> None:
        if request.path == "/send":
            await reply.send(200, [("x", "y")], b"body")
        else:
            await reply.start(200, b"x: y\r\n", 4)
            await reply.write(b"bo")

    async with serve(handler) as bench:
        for path in (b"/send", b"/start"):
            sent = b"HEAD " + path + b" HTTP/1.1\r\n" + HOST + b"\r\n"
            assert await bench.say(sent) == b"HTTP/1.1 200 OK\r\nx: y\r\ncontent-length: 4\r\n\r\n"


async def test_statuses_without_a_body(autojump_clock: MockClock, serve: Serve) -> None:
    async def handler(request: Request, reply: Reply) -> None:
        await reply.send(int(request.path[1:]), [])

    async with serve(handler) as bench:
        for status in (b"204 No Content", b"304 Not Modified"):
            assert (
                await bench.say(b"GET /" + status[:3] + b" HTTP/1.1\r\n" + HOST + b"\r\n")
                == b"HTTP/1.1 " + status + b"\r\n\r\n"
            )


async def test_continue_is_sent_when_the_body_is_wanted(autojump_clock: MockClock, serve: Serve) -> None:
    async with serve(echo) as bench:
        raw = await bench.connect()
        await raw.send(put(b"abc", fields=b"Expect: 100-continue\r\n")[:-3])
        assert await raw.receive() == b"HTTP/1.1 100 Continue\r\n\r\n"
        await raw.send(b"abc" + GET)
        assert await raw.receive_until(b"GET /  ") == answer(b"PUT /p  abc") + answer(b"GET /  ")


async def test_no_continue_when_the_body_is_not_wanted(autojump_clock: MockClock, serve: Serve) -> None:
    async def refuse(request: Request, reply: Reply) -> None:
        await reply.send(412, [])

    async with serve(refuse) as bench:
        said = await bench.say(put(b"abc", fields=b"Expect: 100-continue\r\n")[:-3])
        assert said == b"HTTP/1.1 412 Precondition Failed\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


async def test_an_unread_body_is_skipped_if_small(autojump_clock: MockClock, serve: Serve) -> None:
    async def ignore(request: Request, reply: Reply) -> None:
        await reply.send(200, [])

    async with serve(ignore) as bench:
        assert await bench.say(put(b"x" * 60_000) + GET) == answer(b"") * 2
        raw = await bench.connect()
        await raw.send(put(b"x" * 70_000) + GET)
        assert await raw.receive_all() == answer(b"", fields=b"connection: close\r\n")


async def test_a_refused_upload_reads_why(autojump_clock: MockClock, serve: Serve) -> None:
    """The sender is not reset while it still sends, or it would never see the reply."""

    async def refuse(request: Request, reply: Reply) -> None:
        await reply.send(507, [])

    async with serve(refuse) as bench:
        raw = await bench.connect()
        await raw.send(put(b"x" * 10_000_000)[:2_000_000])
        said = await raw.receive_all()
        assert said.startswith(b"HTTP/1.1 507 ")


async def test_a_handler_that_fails_is_answered_for(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, serve: Serve
) -> None:
    async def fail(request: Request, reply: Reply) -> None:
        async with trio.open_nursery():
            raise KeyError("nobody expected this")

    async with serve(fail) as bench:
        said = await bench.say(GET + GET)
        assert said.startswith(b"HTTP/1.1 500 ")
        assert len(re.findall(rb"HTTP/1\.1 [0-9]", said)) == 1
        assert b"nobody" not in said
        assert bench.server.statistics().failures == 1
    assert "nobody expected this" in caplog.text


@pytest.mark.parametrize("written", [0, 1, 3])
async def test_an_unfinished_reply_is_cut(
    written: int, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, serve: Serve
) -> None:
    async def stop_early(request: Request, reply: Reply) -> None:
        await reply.start(200, [], 4)
        await reply.write(b"abc"[:written])

    async def fail_early(request: Request, reply: Reply) -> None:
        await stop_early(request, reply)
        raise ValueError

    for handler in (stop_early, fail_early):
        async with serve(handler) as bench:
            said = await bench.say(GET + GET)
            assert said == b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n" + b"abc"[:written]


async def test_a_reply_cancelled_half_way_is_never_continued(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, serve: Serve
) -> None:
    """The next request would be taken for its missing bytes."""

    async def send(request: Request, reply: Reply) -> None:
        with trio.move_on_after(5):
            await reply.send(200, [], bytes(1 << 20))

    async def write(request: Request, reply: Reply) -> None:
        await reply.start(200, [], 1 << 21)
        with trio.move_on_after(5):
            await reply.write(bytes(1 << 20))
        with pytest.raises(LocalProtocolError):
            await reply.write(bytes(1 << 20))

    for handler in (send, write):
        async with serve(handler) as bench:
            raw = await bench.connect()
            await raw.send(GET + GET)
            await trio.sleep(10)
            said = await raw.receive_all()
            assert said.count(b"HTTP/1.1") == 1
            assert len(said) < 1 << 20


async def test_before_the_first_byte_an_error_replaces_the_announced_reply(
    autojump_clock: MockClock, serve: Serve
) -> None:
    async def handler(request: Request, reply: Reply) -> None:
        await reply.start(200, [], 4)
        assert not reply.started
        await reply.send(503, [])
        assert reply.started

    async with serve(handler) as bench:
        assert (await bench.say(GET)).startswith(b"HTTP/1.1 503 ")


async def test_a_handler_cannot_break_http(autojump_clock: MockClock, serve: Serve) -> None:
    broken: list[str] = []

    async def check(what: object) -> None:
        try:
            await what  # type: ignore[misc]  # each is a coroutine of Reply
        except LocalProtocolError as error:
            broken.append(str(error))

    async def handler(request: Request, reply: Reply) -> None:
        await check(reply.send(200, [("x", "a\r\nb: c")]))
        await check(reply.send(200, [("x\n", "a")]))
        await check(reply.send(200, [("x", "\u20ac")]))
        await reply.start(200, [], 1)
        await check(reply.write(b"too long"))
        await reply.write(b"!")
        await check(reply.send(200, []))

    async with serve(handler) as bench:
        assert await bench.say(GET) == answer(b"!")
    assert len(broken) == 5


async def test_a_truncated_body_is_an_error_to_the_handler(autojump_clock: MockClock, serve: Serve) -> None:
    seen: list[type[Exception]] = []

    async def handler(request: Request, reply: Reply) -> None:
        try:
            await request.body.read_all(1000)
        except (BodyTruncated, ConnectionLost) as error:
            seen.append(type(error))
            raise

    async with serve(handler) as bench:
        for part in (put(b"abcdef")[:-1], chunked(b"6\r\nabc"), chunked(b"6\r\nabcdef\r\n")):
            raw = await bench.connect()
            await raw.send(part)
            raw.stream.finish_sending()
            assert (await raw.receive_all()).startswith(b"HTTP/1.1 400 ")
        raw = await bench.connect()
        await raw.send(put(b"abcdef")[:-1])
        await trio.testing.wait_all_tasks_blocked()
        raw.stream.abort()
        await trio.testing.wait_all_tasks_blocked()
    assert seen[:3] == [BodyTruncated] * 3
    assert seen[3:] in ([ConnectionLost], [])  # a handler in turns is not asked before the body is there


async def test_too_large_a_body_is_413(autojump_clock: MockClock, serve: Serve) -> None:
    async def handler(request: Request, reply: Reply) -> None:
        await request.body.read_all(10)

    async with serve(handler) as bench:
        assert (await bench.say(put(b"x" * 11))).startswith(b"HTTP/1.1 413 ")
        assert (await bench.say(chunked(b"b\r\n" + b"x" * 11 + b"\r\n0\r\n\r\n"))).startswith(b"HTTP/1.1 413 ")


async def test_bodies_go_into_the_buffers_given(autojump_clock: MockClock, serve: Serve) -> None:
    body = bytes(range(256)) * 4000

    async def handler(request: Request, reply: Reply) -> None:
        gathered = bytearray()
        buffer = memoryview(bytearray(100_000))
        while count := await request.body.receive_into(buffer):
            gathered += buffer[:count]
        assert await request.body.receive_into(buffer) == 0
        await reply.send(200, [], gathered)

    async with serve(handler) as bench:
        for sent in (put(body), chunked(b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n")):
            raw = await bench.connect()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(raw.send, sent)
                assert await raw.receive_until(body) == answer(body)
            raw.stream.close()


# ---- clients that are slow, dead or too many


async def time_until_cut(raw: Raw) -> float:
    started = trio.current_time()
    await raw.receive_all()
    return trio.current_time() - started


async def test_an_idle_connection_is_closed(autojump_clock: MockClock, serve: Serve) -> None:
    async with serve(echo, ServerSettings(idle_seconds=75)) as bench:
        raw = await bench.connect()
        await raw.send(GET)
        await raw.receive_until(b"GET /  ")
        assert 75 <= await time_until_cut(raw) <= 78
        assert bench.server.statistics().swept == 1


async def test_a_head_that_trickles_in_is_cut(autojump_clock: MockClock, serve: Serve) -> None:
    async with serve(echo, ServerSettings(head_seconds=10)) as bench:
        raw = await bench.connect()

        async def trickle() -> None:
            for byte in b"GET / HTTP/1.1\r\nHost: " + b"h" * 1000:
                try:
                    await raw.send(bytes([byte]))
                except ConnectionLost:
                    return
                await trio.sleep(1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trickle)
            assert 10 <= await time_until_cut(raw) <= 13


async def test_a_dead_upload_is_cut_and_a_slow_one_is_not(autojump_clock: MockClock, serve: Serve) -> None:
    async with serve(echo, ServerSettings(stall_seconds=30)) as bench:
        dead = await bench.connect()
        await dead.send(put(b"x" * 1000)[:-1])
        said = trio.current_time()
        await dead.receive_all()
        assert 30 <= trio.current_time() - said <= 33
        slow = await bench.connect()
        data = put(b"x" * 100 * 1024, fields=b"Connection: close\r\n")
        for at in range(0, len(data), 1024):
            await slow.send(data[at : at + 1024])
            await trio.sleep(1)
        assert len(await slow.receive_all()) > 100 * 1024


async def test_a_reader_that_takes_nothing_is_cut(autojump_clock: MockClock, serve: Serve) -> None:
    ended: list[float] = []

    async def flood(request: Request, reply: Reply) -> None:
        await reply.start(200, [], 1 << 30)
        try:
            while True:
                await reply.write(bytes(1 << 16))
        except ConnectionLost:
            ended.append(trio.current_time())
            raise

    async with serve(flood, ServerSettings(stall_seconds=30)) as bench:
        raw = await bench.connect()
        started = trio.current_time()
        await raw.send(GET)
        await trio.sleep(60)
        assert 30 <= ended[0] - started <= 33


async def test_a_handler_may_take_its_time(autojump_clock: MockClock, serve: Serve) -> None:
    async def ponder(request: Request, reply: Reply) -> None:
        await trio.sleep(1000)
        await reply.send(200, [])

    async with serve(ponder) as bench:
        raw = await bench.connect()
        await raw.send(LAST)
        assert (await raw.receive_all()).startswith(b"HTTP/1.1 200 OK")


async def test_too_many_connections_are_answered_503(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, serve: Serve
) -> None:
    done = trio.Event()

    async def wait(request: Request, reply: Reply) -> None:
        await done.wait()
        await echo(request, reply)

    async with serve(wait, ServerSettings(connections_max=2)) as bench:
        kept = [await bench.connect() for _ in range(2)]
        for raw in kept:
            await raw.send(GET)
        await trio.testing.wait_all_tasks_blocked()
        said = await bench.say(GET)
        assert said.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1\r\n" in said
        silent = [await bench.connect() for _ in range(SHED_CONNECTIONS_MAX)]
        await trio.testing.wait_all_tasks_blocked()
        assert await bench.say(b"") == b""  # closed without a word
        bench.network.host = "127.0.0.1"
        assert (await bench.say(GET)).startswith(b"HTTP/1.1 503 ")  # this machine gets an answer even then
        assert await time_until_cut(silent[0]) <= 4
        done.set()
        for raw in kept:
            assert await raw.receive_until(b"GET /  ")
        assert bench.server.statistics().shed == 3 + SHED_CONNECTIONS_MAX
    lines = [line for line in caplog.messages if "event=connections_short" in line]
    assert len(lines) == 1
    assert "refused=67 " in lines[0]


async def test_a_thousand_silent_strangers_keep_no_client_out(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, serve: Serve
) -> None:
    async def trust(request: Request, reply: Reply) -> None:
        reply.prove(Standing.TRUSTED if "x-secret" in request.fields else Standing.STRANGER)
        await echo(request, reply)

    async with serve(trust, ServerSettings(connections_max=64)) as bench:
        bench.network.host = "10.0.0.1"
        proved = await bench.connect()
        await proved.send(b"GET / HTTP/1.1\r\nHost: h\r\nX-Secret: y\r\n\r\n")
        await proved.receive_until(b"GET /  ")
        strangers = []
        for number in range(300):
            bench.network.host = f"10.1.{number // 10}.1"
            strangers.append(await bench.connect())
            await trio.testing.wait_all_tasks_blocked()
        for host in ("127.0.0.1", "10.0.0.1", "10.9.9.9"):
            bench.network.host = host
            assert (await bench.say(LAST)) == CLOSING
        await proved.send(LAST)
        assert await proved.receive_until(b"GET /last  ")
        assert bench.server.statistics().strangers <= 56
        assert bench.server.statistics().evicted >= 244
        assert await strangers[0].receive_all() == b""
        await trio.sleep(2)
    assert sum("event=connections_short" in line for line in caplog.messages) == 1


async def test_a_request_that_has_arrived_is_answered_before_its_connection_goes(
    autojump_clock: MockClock, serve: Serve
) -> None:
    async with serve(echo, ServerSettings(connections_max=1)) as bench:
        raw = await bench.connect()
        await trio.testing.wait_all_tasks_blocked()
        await raw.send(GET)
        other = await bench.connect()  # its task runs first or second: either way nothing is lost
        await other.send(GET)
        assert (await raw.receive_all()).endswith(b"GET /  ")
        assert (await other.receive_until(b"GET /  ")).startswith(b"HTTP/1.1 200")


# ---- fairness and back-pressure


async def test_a_client_that_never_waits_does_not_stop_the_others(autojump_clock: MockClock, serve: Serve) -> None:
    turns = 0
    turns_at_end: list[int] = []

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async def handler(request: Request, reply: Reply) -> None:
        await echo(request, reply)
        turns_at_end.append(turns)

    async with serve(handler) as bench:
        raw = await bench.connect()
        await raw.send(GET * 1000)
        await trio.testing.wait_all_tasks_blocked()
        assert len(turns_at_end) == 1000
        bench.nursery.start_soon(count_turns)
        await raw.send(GET * 1000)
        while len(turns_at_end) < 2000:
            await trio.lowlevel.checkpoint()
        assert turns > 20


async def test_a_slow_reader_slows_the_writer(autojump_clock: MockClock, serve: Serve) -> None:
    written = 0

    async def flood(request: Request, reply: Reply) -> None:
        nonlocal written
        await reply.start(200, [], 1 << 22)
        for _ in range(64):
            await reply.write(bytes(1 << 16))
            written += 1 << 16

    async with serve(flood) as bench:
        raw = await bench.connect()
        await raw.send(LAST)
        await trio.testing.wait_all_tasks_blocked()
        assert written < 1 << 19
        assert len(await raw.receive_all()) > 1 << 22


# ---- stopping


async def test_stopping_finishes_what_runs(autojump_clock: MockClock, serve: Serve) -> None:
    async def slow(request: Request, reply: Reply) -> None:
        await trio.sleep(20)
        await reply.send(200, [], b"done")

    async with serve(slow) as bench:
        idle, busy = await bench.connect(), await bench.connect()
        await idle.send(GET)
        await trio.sleep(20)
        await idle.receive()
        await busy.send(GET)
        await trio.testing.wait_all_tasks_blocked()
        bench.nursery.start_soon(bench.server.stop, 30)
        await trio.testing.wait_all_tasks_blocked()
        assert await idle.receive_all() == b""
        with pytest.raises(ConnectionLost):
            await bench.connect()
        assert (await busy.receive_all()).endswith(b"done")
        assert bench.server.statistics().connections == 0


async def test_a_body_that_a_stop_cuts_off_is_not_the_clients_fault(autojump_clock: MockClock, serve: Serve) -> None:
    """It had answered and was idle; the next request and the stop pass each other on the way."""
    async with serve(echo) as bench:
        raw = await bench.connect()
        await raw.send(GET)
        await raw.receive_until(b"GET /  ")
        await raw.send(put(b"abcdef")[:-3])
        await bench.server.stop(10)
        said = await raw.receive_all()
        assert said == b"" or said.startswith(b"HTTP/1.1 503 ")


async def test_who_has_just_connected_is_served_though_the_server_stops(
    autojump_clock: MockClock, serve: Serve
) -> None:
    async with serve(echo) as bench:
        early, late, silent = [await bench.connect() for _ in range(3)]
        await early.send(GET)
        bench.nursery.start_soon(bench.server.stop, 30)
        await trio.testing.wait_all_tasks_blocked()
        assert (await early.receive_all()).startswith(b"HTTP/1.1 200")
        await late.send(GET)
        assert (await late.receive_all()).startswith(b"HTTP/1.1 200")
        started = trio.current_time()
        assert await silent.receive_all() == b""
        assert trio.current_time() - started == pytest.approx(1)


async def test_stopping_cuts_what_does_not_end(autojump_clock: MockClock, serve: Serve) -> None:
    async def endless(request: Request, reply: Reply) -> None:
        await trio.sleep_forever()

    async with serve(endless) as bench:
        raw = await bench.connect()
        await raw.send(GET)
        await trio.testing.wait_all_tasks_blocked()
        started = trio.current_time()
        await bench.server.stop(30)
        assert await raw.receive_all() == b""
        assert trio.current_time() - started == pytest.approx(30)


async def test_lost_clients_are_no_news(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, serve: Serve
) -> None:
    caplog.set_level(logging.WARNING)
    async with serve(echo) as bench:
        for _ in range(3):
            raw = await bench.connect()
            await raw.send(GET[:10])
            raw.stream.abort()
        await trio.testing.wait_all_tasks_blocked()
        assert bench.server.statistics().connections == 0
    assert not caplog.records
