"""Lanes: the same promises from the one with a thread and the one that tests use."""

from __future__ import annotations

import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from flared.http.lane import Lane, ThreadLane
from flared.http.turns import Turns
from tests.support.lanes import InlineLane

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture(params=["thread", "inline"])
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@asynccontextmanager
async def lane_of(kind: str) -> AsyncIterator[Lane]:
    turns = Turns()
    async with trio.open_nursery() as nursery:
        await nursery.start(turns.run)
        yield ThreadLane(turns, "test") if kind == "thread" else InlineLane(turns)
        nursery.cancel_scope.cancel()
    turns.close()


async def test_work_is_done_in_order_and_each_is_reported(kind: str) -> None:
    order: list[str] = []
    async with lane_of(kind) as lane:
        for number in range(100):
            lane.submit(
                lambda number=number: order.append(f"work {number}"),
                lambda _, number=number: order.append(f"done {number}"),
            )  # type: ignore[misc]
        await lane.close()
    assert [one for one in order if one.startswith("work")] == [f"work {number}" for number in range(100)]
    assert [one for one in order if one.startswith("done")] == [f"done {number}" for number in range(100)]


async def test_an_exception_of_the_work_is_reported_and_the_next_goes_on(kind: str) -> None:
    reports: list[BaseException | None] = []
    async with lane_of(kind) as lane:
        lane.submit(lambda: 1 / 0, reports.append)
        lane.submit(lambda: None, reports.append)
        await lane.close()
    assert [type(one) for one in reports] == [ZeroDivisionError, type(None)]


async def test_a_callback_may_submit_the_next_group(kind: str) -> None:
    reports: list[int] = []
    async with lane_of(kind) as lane:

        def again(_: BaseException | None) -> None:
            reports.append(len(reports))
            if len(reports) < 5:
                lane.submit(lambda: None, again)
            else:
                enough.set()

        enough = trio.Event()
        lane.submit(lambda: None, again)
        await enough.wait()
        await lane.close()
    assert reports == [0, 1, 2, 3, 4]


async def test_closing_waits_even_when_cancelled(kind: str) -> None:
    reports: list[BaseException | None] = []
    gate = threading.Event()
    async with lane_of(kind) as lane:
        if kind == "thread":
            threading.Timer(0.05, gate.set).start()
            lane.submit(gate.wait, reports.append)
        else:
            lane.submit(lambda: None, reports.append)
        with trio.CancelScope() as scope:
            scope.cancel()
            await lane.close()
    assert reports == [None]


async def test_closing_tells_what_was_done_even_when_the_turns_have_ended() -> None:
    reports: list[BaseException | None] = []
    turns = Turns()
    lane = ThreadLane(turns, "test")
    lane.submit(lambda: None, reports.append)
    await lane.close()
    assert reports == [None]
    turns.close()


async def test_a_callback_that_fails_does_not_end_the_lane(caplog: pytest.LogCaptureFixture) -> None:
    reports: list[BaseException | None] = []
    async with lane_of("thread") as lane:
        lane.submit(lambda: None, lambda _: reports[1])  # type: ignore[arg-type, return-value]  # raises IndexError
        lane.submit(lambda: None, reports.append)
        await lane.close()
    assert reports == [None]
    assert "event=lane_callback_failed" in caplog.text
