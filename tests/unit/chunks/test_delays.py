"""Delays: each action once, in its time, independent of the others."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from flared.chunks.delays import Delay
from flared.http.turns import Turns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest
    from trio.testing import MockClock


@asynccontextmanager
async def taking() -> AsyncIterator[Turns]:
    turns = Turns()
    async with trio.open_nursery() as nursery:
        await nursery.start(turns.run)
        yield turns
        nursery.cancel_scope.cancel()
    turns.close()


async def test_each_action_runs_so_long_after_it_was_added(autojump_clock: MockClock) -> None:
    async with taking() as turns:
        delay, began, ran = Delay(turns, 2.0), trio.current_time(), list[float]()
        for _ in range(3):
            delay.add(lambda: ran.append(round(trio.current_time() - began, 3)))
            await trio.sleep(0.5)
        await trio.sleep(10)
        assert ran == [2.0, 2.5, 3.0]


async def test_an_action_that_raises_keeps_no_other_from_running(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Stragglers of puts are given up here: one that raised would have had all later puts wait for theirs."""
    async with taking() as turns:
        delay, ran = Delay(turns, 1.0), list[str]()
        delay.add(lambda: ran.append(str(1 / 0)))
        delay.add(lambda: ran.append("of the same moment"))
        await trio.sleep(0.5)
        delay.add(lambda: ran.append("later"))
        await trio.sleep(5)
        delay.add(lambda: ran.append("much later"))
        await trio.sleep(5)
        assert ran == ["of the same moment", "later", "much later"]
    assert "ZeroDivisionError" in caplog.text


async def test_an_action_may_add_another(autojump_clock: MockClock) -> None:
    async with taking() as turns:
        delay, ran = Delay(turns, 1.0), list[float]()

        def again() -> None:
            ran.append(trio.current_time())
            if len(ran) < 4:
                delay.add(again)

        delay.add(again)
        await trio.sleep(10)
        assert [round(moment - ran[0], 3) for moment in ran] == [0, 1, 2, 3]
