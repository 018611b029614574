"""Refusals are shown as long as the refused processes send heartbeats, and their number is bounded."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import trio

from flared.cluster.states import HEARTBEAT_SECONDS, MISSED_HEARTBEATS
from flared.errors import Conflict, DuplicateNode
from flared.names import NodeName
from flared.upkeep.membership import refusals as module
from flared.upkeep.membership.heartbeat import Heartbeat
from flared.upkeep.membership.refusals import Refusals

if TYPE_CHECKING:
    import pytest
    from trio.testing import MockClock

BEAT = Heartbeat(NodeName("data1"), "h:1", "z", "1", "c", "i", (), 0, (), None)


async def test_a_refusal_is_shown_until_its_heartbeats_end(autojump_clock: MockClock) -> None:
    refusals = Refusals()
    refusals.note(BEAT, Conflict("another cluster"))
    refusals.note(replace(BEAT, instance="twin"), DuplicateNode("it runs twice"))
    assert refusals.current() == ["another cluster", "it runs twice"]
    assert refusals.current(duplicates=True) == ["it runs twice"]
    await trio.sleep(MISSED_HEARTBEATS * HEARTBEAT_SECONDS + 0.1)
    assert refusals.current() == []


async def test_a_sender_that_is_accepted_is_refused_no_more(autojump_clock: MockClock) -> None:
    refusals = Refusals()
    refusals.note(BEAT, Conflict("another cluster"))
    refusals.clear(BEAT)
    assert refusals.current() == []


async def test_a_reason_is_logged_once_and_a_new_one_again(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    refusals = Refusals()
    for message in ("a", "a", "b", "b"):
        refusals.note(BEAT, Conflict(message))
    assert caplog.text.count("event=node_refused") == 2


async def test_the_oldest_is_forgotten_for_a_new_one(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REFUSED_MAX", 2)
    refusals = Refusals()
    for number in range(4):
        refusals.note(replace(BEAT, instance=str(number)), Conflict(str(number)))
    assert refusals.current() == ["2", "3"]
