"""A disk image that is started twice: the second one is refused with a reason, and nothing acknowledged is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.hostile.cloned_volume import CLONE, NODE, attack
from tests.support.pieces import piece_count

if TYPE_CHECKING:
    from tests.support.daemons import Start


def test_a_clone_takes_nothing_and_says_why(start: Start) -> None:
    cluster = start()
    outcome = attack(cluster, 7.0)
    assert outcome.unreadable == []
    assert len(outcome.addresses) == 1
    assert piece_count(cluster, NODE) == outcome.acknowledged
    (reason,) = outcome.reasons
    first, second = (f"127.0.0.1:{port}" for port in (cluster.daemons[NODE].port, outcome.clone_port))
    assert f"node {NODE} runs twice, at {first} and at {second}: the one at {first} was first" in reason
    assert f"stop the one at {second}" in reason
    log = (cluster.directory / f"{CLONE}.log").read_text()
    assert "event=heartbeat_failed" in log
    assert "runs twice" in log
    assert "runs twice" in outcome.screen
