"""A node that comes back with less than it had: nothing counts on it until its inventory was compared."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio
import trio.testing

from flared.cluster.states import NodeState
from flared.upkeep.deletion.reconcile import SETTLE_SECONDS
from flared.upkeep.failure import find_failure_cost
from flared.upkeep.removal.cost import find_removal_cost
from tests.support.cluster import Cluster, node_name, reasons_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from flared.upkeep.membership.member import Member

Clock = trio.testing.MockClock
OBJECTS = 30


@asynccontextmanager
async def filled(cluster: Cluster) -> AsyncIterator[None]:
    async with cluster.running():
        for number in range(OBJECTS):
            await cluster.put(f"key{number}", bytes([number]) * 5000)
        await trio.sleep(30)
        yield


def data1(cluster: Cluster) -> Member:
    return next(member for member in cluster.membership.members() if member.record.name == "data1")


def obstacle(cluster: Cluster) -> str:
    return cluster.stay_reason("data2")


def empty(cluster: Cluster, *, new_volume: bool) -> None:
    """The node was stopped, and is started again on a disk without its pieces."""
    node = cluster.members["data1"]
    node.pieces.clear()
    node.instance += 1
    if new_volume:
        node.volume_id = "second"


async def check_not_counted(cluster: Cluster) -> None:
    assert data1(cluster).state is NodeState.ONLINE, "it takes puts"
    status = cluster.status()
    assert status.health == "degraded"
    assert any(reason.startswith("node data1 is being compared with the records") for reason in reasons_of(status))
    assert "data1" in obstacle(cluster)
    cost = await find_failure_cost(cluster.store, node_name("data2"))
    assert cost.unreadable > 0, "what is on both of them is on data2 alone"
    assert (await find_removal_cost(cluster.store, node_name("data2"))).unreadable > 0


async def check_counted_again(cluster: Cluster) -> None:
    for _ in range(40):
        await trio.sleep(10)
        if cluster.status().health == "ok" and not obstacle(cluster):
            break
    assert cluster.status().health == "ok"
    assert not obstacle(cluster)
    assert not data1(cluster).record.unchecked
    assert await cluster.recorded_pieces() == cluster.held_pieces(), "what was lost is rebuilt"
    assert (await find_failure_cost(cluster.store, node_name("data2"))).unreadable == 0


async def test_an_empty_disk_does_not_count_until_it_was_compared(autojump_clock: Clock) -> None:
    cluster = Cluster(3, scheme="replica:2")
    async with filled(cluster):
        assert not obstacle(cluster)
        empty(cluster, new_volume=True)
        await trio.sleep(3.1)
        assert "a volume that it did not have before" in data1(cluster).unchecked
        await check_not_counted(cluster)
        await check_counted_again(cluster)


async def test_the_same_volume_with_fewer_pieces_does_not_count_either(autojump_clock: Clock) -> None:
    cluster = Cluster(3, scheme="replica:2")
    async with filled(cluster):
        node = cluster.members["data1"]
        had = len(node.pieces)
        for piece in sorted(node.pieces)[:5]:  # an older copy of the disk
            del node.pieces[piece]
        node.instance += 1
        await trio.sleep(3.1)
        assert data1(cluster).unchecked == f"it came back with {had - 5} pieces and had {had}"
        await check_not_counted(cluster)
        await check_counted_again(cluster)


async def test_a_restart_of_the_api_node_does_not_forget_it(autojump_clock: Clock) -> None:
    cluster = Cluster(3, scheme="replica:2")
    async with filled(cluster):
        empty(cluster, new_volume=True)
        await trio.sleep(3.1)
        await check_not_counted(cluster)
    async with cluster.running():
        await trio.sleep(SETTLE_SECONDS / 2)
        await check_not_counted(cluster)
        await check_counted_again(cluster)


async def test_an_api_node_that_was_away_meanwhile_notices_too(autojump_clock: Clock) -> None:
    """It goes by what it recorded, and asks before the first heartbeat comes."""
    cluster = Cluster(3, scheme="replica:2")
    async with filled(cluster):
        for number in range(OBJECTS, 300):
            await cluster.put(f"key{number}", bytes([number % 251]) * 300)
        await trio.sleep(10)
    empty(cluster, new_volume=False)
    async with trio.open_nursery() as nursery:
        await nursery.start(cluster.membership.run)
        assert not cluster.nodes.has_all_recorded(node_name("data1"))
        nursery.cancel_scope.cancel()
    cluster._build()
    async with cluster.running():
        await trio.sleep(1)
        await check_not_counted(cluster)
        await check_counted_again(cluster)


async def test_a_node_that_was_only_restarted_counts_at_once(autojump_clock: Clock) -> None:
    cluster = Cluster(3, scheme="replica:2")
    async with filled(cluster):
        cluster.members["data1"].instance += 1
        await trio.sleep(3.1)
        assert cluster.status().health == "ok"
        assert not obstacle(cluster)
    async with cluster.running():
        await trio.sleep(1)
        assert cluster.nodes.has_all_recorded(node_name("data1"))
