"""A node that is heard and does not answer calls: a closed port, or an address that is not its own any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
import trio.testing

from flared.api.admin.advice import advise_member
from flared.cluster.states import NodeState
from flared.errors import NodeUnreachable
from tests.support.cluster import REPAIR_AFTER, Cluster, advice_of, reasons_of

if TYPE_CHECKING:
    import pytest

    from flared.upkeep.membership.member import Member

Clock = trio.testing.MockClock

CLOSED = "data2:9000 did not answer within 3 s"


def close_port(cluster: Cluster) -> None:
    member = cluster.members["data2"]
    member.refusal = NodeUnreachable(member.name, CLOSED)


def member_of(cluster: Cluster) -> Member:
    return cluster.membership.members()[1]


async def test_a_node_that_cannot_be_called_is_away_although_it_is_heard(autojump_clock: Clock) -> None:
    cluster = Cluster(4)
    async with cluster.running():
        await cluster.put("k", b"body")
        close_port(cluster)
        await trio.sleep(8)
        assert member_of(cluster).state is NodeState.ONLINE, "one call that fails is not always"
        await trio.sleep(8)
        member = member_of(cluster)
        assert member.state is NodeState.SUSPECT
        assert member.last_seen_seconds is not None
        assert member.last_seen_seconds < 4
        (reason,) = reasons_of(cluster.status())
        assert reason.startswith(
            f"node data2 is suspect: it is heard, but cannot be called (node data2: {CLOSED}), for 1"
        )
        assert reason.endswith(" s; unless it can, its 1 pieces are rebuilt elsewhere in 10 min")
        assert any("advertise" in line for line in advise_member(member))
        cluster.members["data2"].refusal = None
        await trio.sleep(5)
        assert member_of(cluster).state is NodeState.ONLINE
        assert not reasons_of(cluster.status())


async def test_what_it_held_is_made_again_elsewhere(autojump_clock: Clock) -> None:
    cluster = Cluster(4)
    async with cluster.running():
        for number in range(8):
            await cluster.put(f"k{number}", b"body")
        await trio.sleep(60)
        close_port(cluster)
        await trio.sleep(REPAIR_AFTER + 60)
        assert member_of(cluster).state is NodeState.OFFLINE
        assert "data2" not in {node for node, _ in await cluster.recorded_pieces()}
        assert cluster.upkeep.heal.statistics().backlog == 0


async def test_a_node_that_was_never_reached_does_not_stay_online(autojump_clock: Clock) -> None:
    """As on the first day, with a firewall in between."""
    cluster = Cluster(3)
    close_port(cluster)
    async with cluster.running():
        await trio.sleep(15)
        assert member_of(cluster).state is NodeState.SUSPECT


async def test_an_api_node_without_the_metadata_of_its_nodes_says_so(
    autojump_clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = Cluster(2, scheme="replica:2")
    for member in cluster.members.values():
        member.cluster = "another"
    async with cluster.running():
        await trio.sleep(10)
        status = cluster.status()
        assert status.health == "down"
        assert "refused: node data1 belongs to cluster another, this is cluster c" in reasons_of(status)[1]
        assert "flared restore" in advice_of(status)[0]
        assert caplog.text.count("event=node_refused") == 2, "each is logged once"
        for member in cluster.members.values():
            member.cluster = None
        await trio.sleep(10)
        assert cluster.status().health == "ok"


async def test_a_node_that_answers_slowly_or_refuses_is_there(autojump_clock: Clock) -> None:
    cluster = Cluster(3)
    cluster.members["data2"].delay = 5.0
    async with cluster.running():
        await trio.sleep(60)
        assert member_of(cluster).state is NodeState.ONLINE
