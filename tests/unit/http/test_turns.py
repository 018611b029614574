"""The loop of turns, and connections in turns where they differ from those in tasks."""

from __future__ import annotations

import logging
import socket
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from flared.http.turns import WRITABLE, Turns
from tests.unit.http.bench import QuickEcho, Room, echo, serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock

    from flared.http.exchange import Exchange


@asynccontextmanager
async def taking() -> AsyncIterator[Turns]:
    turns = Turns()
    async with trio.open_nursery() as nursery:
        await nursery.start(turns.run)
        yield turns
        nursery.cancel_scope.cancel()
    turns.close()


async def settle() -> None:
    for _ in range(3):
        await trio.testing.wait_all_tasks_blocked()


async def test_what_is_ready_together_is_one_turn_and_its_end_comes_after_all_of_it() -> None:
    async with taking() as turns:
        events: list[str] = []
        pairs = [socket.socketpair() for _ in range(3)]
        for number, (ours, _) in enumerate(pairs):
            ours.setblocking(False)

            def ready(_flags: int, number: int = number) -> None:
                events.append(f"ready {number}")
                turns.at_end(lambda: events.append(f"end {number}"))

            turns.watch(ours.fileno(), ready)
        await settle()  # every descriptor is writable at first
        events.clear()
        for _, theirs in pairs:
            theirs.send(b"x")
        before = turns.statistics().turns
        await settle()
        assert turns.statistics().turns == before + 1
        assert sorted(events[:3]) == ["ready 0", "ready 1", "ready 2"]
        assert sorted(events[3:]) == ["end 0", "end 1", "end 2"]
        for ours, theirs in pairs:
            turns.forget(ours.fileno())
            ours.close()
            theirs.close()


async def test_an_action_put_at_the_end_by_another_is_still_of_this_turn() -> None:
    async with taking() as turns:
        seen: list[int] = []
        turns.at_end(lambda: turns.at_end(lambda: seen.append(turns.statistics().turns)))
        await settle()
        assert seen == [1]


async def test_soon_is_the_next_turn_even_from_within_one() -> None:
    async with taking() as turns:
        seen: list[int] = []
        turns.soon(lambda: turns.soon(lambda: seen.append(turns.statistics().turns)))
        await settle()
        assert seen == [2]


async def test_a_thread_wakes_the_turns_and_its_report_is_collected() -> None:
    async with taking() as turns:
        reports: list[str] = []
        turns.add_reporter(lambda: reports.append("collected"))
        thread = threading.Thread(target=turns.wake)
        thread.start()
        thread.join()
        await settle()
        assert reports == ["collected"]


async def test_a_callback_that_fails_costs_only_itself(caplog: pytest.LogCaptureFixture) -> None:
    async with taking() as turns:
        seen: list[str] = []
        turns.at_end(lambda: seen.append(str(1 / 0)))
        turns.at_end(lambda: seen.append("fine"))
        await settle()
        assert seen == ["fine"]
        assert turns.statistics().failures == 1
    assert "ZeroDivisionError" in caplog.text
    assert "event=turn_failed" in caplog.text


async def test_a_descriptor_that_is_forgotten_is_not_called() -> None:
    async with taking() as turns:
        ours, theirs = socket.socketpair()
        calls: list[int] = []
        turns.watch(ours.fileno(), calls.append)
        await settle()
        assert len(calls) == 1
        assert calls[0] & WRITABLE
        turns.forget(ours.fileno())
        theirs.send(b"x")
        await settle()
        assert len(calls) == 1
        ours.close()
        theirs.close()


async def test_timers_run_in_their_order_at_their_time(autojump_clock: MockClock) -> None:
    async with taking() as turns:
        began = trio.current_time()
        seen: list[tuple[str, float]] = []
        for name, delay in (("late", 7.0), ("early", 2.0), ("late too", 7.0), ("now", 0.0)):
            turns.at(began + delay, lambda name=name: seen.append((name, trio.current_time() - began)))  # type: ignore[misc]
        await trio.sleep(10)
        assert seen == [("now", 0), ("early", 2), ("late", 7), ("late too", 7)]


async def test_timers_that_other_timers_set_are_not_missed(autojump_clock: MockClock) -> None:
    async with taking() as turns:
        began = trio.current_time()
        seen: list[float] = []

        def again() -> None:
            seen.append(trio.current_time() - began)
            if len(seen) < 4:
                turns.at(trio.current_time() + 1.0, again)

        turns.at(began + 5.0, lambda: seen.append(-5.0))
        turns.at(began + 1.0, again)
        await trio.sleep(10)
        assert seen == [1.0, 2.0, 3.0, 4.0, -5.0]


async def test_it_is_the_same_moment_for_all_of_a_turn(autojump_clock: MockClock) -> None:
    async with taking() as turns:
        times: list[float] = []

        def ask() -> None:
            times.append(turns.now())
            autojump_clock.jump(1.0)
            times.append(turns.now())

        for _ in range(2):
            turns.at_end(ask)
            await trio.sleep(0.5)
        assert times[0] == times[1] < times[2] == times[3]
        assert turns.now() == trio.current_time()


async def test_other_tasks_get_their_turn_between_endless_turns() -> None:
    async with taking() as turns:

        def again() -> None:
            turns.soon(again)

        again()
        for _ in range(10):
            await trio.lowlevel.checkpoint()
        assert 2 <= turns.statistics().turns <= 12


# ---- connections


HEAD = b"PUT /p HTTP/1.1\r\nhost: h\r\ncontent-length: %d\r\n\r\n"


async def test_a_body_that_finds_no_room_is_answered_by_a_task(autojump_clock: MockClock) -> None:
    async with serve(echo, way="turns", room=Room(10)) as bench:
        raw = await bench.connect()
        await raw.send(HEAD % 100)
        await trio.testing.wait_all_tasks_blocked()
        await raw.send(b"x" * 100)
        assert (await raw.receive_until(b"x" * 100)).startswith(b"HTTP/1.1 200 OK\r\n")
        # The next one comes in one piece, and is answered in a turn.
        await raw.send(HEAD % 3 + b"abc")
        await raw.receive_until(b"abc")
        raw.stream.close()


async def test_a_client_that_leaves_in_the_middle_gives_its_room_back(autojump_clock: MockClock) -> None:
    async with serve(echo, way="later turns") as bench:
        for data in (HEAD % 100 + b"x" * 50, HEAD % 100 + b"x" * 100):
            raw = await bench.connect()
            await raw.send(data[:60])
            await trio.testing.wait_all_tasks_blocked()
            await raw.send(data[60:])
            raw.stream.abort()
            await trio.testing.wait_all_tasks_blocked()
        assert bench.server.statistics().connections == 0


async def test_a_reply_larger_than_the_socket_takes_leaves_as_the_reader_reads(autojump_clock: MockClock) -> None:
    body = b"0123456789" * 12_000
    async with serve(echo, way="turns") as bench:
        raw = await bench.connect()
        for _ in range(4):  # their replies do not fit into the window together
            await raw.send(HEAD % len(body) + body)
        await raw.send(HEAD % 1 + b"!")
        got = await raw.receive_until(b"!")
        assert got.count(body) == 4
        raw.stream.close()


async def test_a_bug_in_a_handler_in_turns_costs_its_connection_only(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve(echo, way="turns") as bench:
        other = await bench.connect()
        await other.send(HEAD % 1 + b"a")
        await other.receive_until(b"a")
        with monkeypatch.context() as patch:
            patch.setattr("tests.unit.http.bench.QuickEcho.begin", lambda *_: {}["nothing"])
            raw = await bench.connect()
            await raw.send(HEAD % 1 + b"b")
            assert await raw.receive_all() == b""
        await other.send(HEAD % 1 + b"c")
        await other.receive_until(b"c")
        assert bench.server.statistics().failures == 1
    with caplog.at_level(logging.ERROR):
        assert "event=connection_failed" in caplog.text


async def test_a_request_whose_client_is_gone_hears_of_it(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[str] = []

    def begin_and_wait(_: object, exchange: Exchange) -> bool:
        exchange.left = lambda: left.append(exchange.path)
        return True

    monkeypatch.setattr("tests.unit.http.bench.QuickEcho.begin", begin_and_wait)
    async with serve(echo, way="turns") as bench:
        raw = await bench.connect()
        await raw.send(HEAD % 100 + b"x" * 50)
        await trio.testing.wait_all_tasks_blocked()
        await raw.send(b"x" * 50)
        await trio.testing.wait_all_tasks_blocked()
        raw.stream.finish_sending()  # it may still want the answer
        await trio.testing.wait_all_tasks_blocked()
        assert left == []
        raw.stream.abort()
        await trio.testing.wait_all_tasks_blocked()
        assert left == ["/p"]
        assert bench.server.statistics().connections == 0


async def test_a_stop_ends_a_connection_when_its_reply_has_left_however_late(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client keeps it open, as clients do; the stop is not to wait for that."""

    def answer_late(self: QuickEcho, exchange: Exchange) -> bool:
        self._turns.at(trio.current_time() + 5, lambda: exchange.send(200, b"", exchange.body))
        return True

    monkeypatch.setattr(QuickEcho, "begin", answer_late)
    body = b"x" * 50_000
    async with serve(echo, way="turns") as bench:
        prompt, slow = await bench.connect(), await bench.connect()
        await prompt.send(HEAD % 1 + b"a")
        for _ in range(7):  # their replies do not fit into the window together
            await slow.send(HEAD % len(body) + body)
            await trio.sleep(6)
        began = trio.current_time()
        await prompt.send(HEAD % 1 + b"b")
        await trio.testing.wait_all_tasks_blocked()

        async def read_late() -> None:
            await trio.sleep(8)
            assert (await slow.receive_all()).count(body) == 7

        bench.nursery.start_soon(read_late)
        await bench.server.stop(30)
        assert trio.current_time() - began == pytest.approx(8)
        assert (await prompt.receive_all()).endswith(b"b")
