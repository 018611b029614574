"""A node that is gone for good is taken out of everything that names it; on a virtual clock."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import trio
import trio.testing

from flared.api.admin.obstacles import explain_cost
from flared.catalog.chunks import list_chunks
from flared.catalog.garbage import list_condemned
from flared.catalog.nodes import list_nodes
from flared.cluster.states import NodeState
from flared.errors import ChunkLost, Conflict
from flared.objects.delete import delete_object
from flared.upkeep.removal.cost import RemovalObstacle, find_removal_cost, obstacle_to_removal
from tests.support.checkers import recount
from tests.support.cluster import GRACE, REPAIR_AFTER, Cluster, advice_of, name, node_name, reasons_of

Clock = trio.testing.MockClock
KEYS = [f"k{seed}" for seed in range(30)]
GONE = node_name("data2")


def noise(seed: str, size: int = 4096) -> bytes:
    return random.Random(seed).randbytes(size)


async def fill(cluster: Cluster) -> None:
    for key in KEYS:
        await cluster.put(key, noise(key))


async def remove(cluster: Cluster, *, forced: bool = False) -> None:
    await cluster.membership.begin_removal(GONE, forced=forced)
    cluster.upkeep.removal.wake()


async def named(cluster: Cluster) -> int:
    return sum(GONE in record.nodes for record in await list_chunks(cluster.kv, None, 10_000))


def is_listed(cluster: Cluster) -> bool:
    return GONE in {member.record.name for member in cluster.membership.members()}


async def check_gone(cluster: Cluster) -> None:
    assert not is_listed(cluster)
    assert GONE not in {record.name for record in await list_nodes(cluster.kv)}
    assert await named(cluster) == 0
    items, _ = await list_condemned(cluster.kv, None, 1000)
    assert not [item for item in items if GONE in dict(item.pieces).values()]
    assert GONE not in cluster.nodes.order("0" * 64)
    assert await recount(cluster.kv, cluster.store.totals) == []


async def test_a_node_whose_pieces_were_made_again_goes_at_once(autojump_clock: Clock) -> None:
    cluster = Cluster(4)
    async with cluster.running():
        await fill(cluster)
        cluster.members[GONE].down = True
        await trio.sleep(REPAIR_AFTER + 120)
        (reason,) = reasons_of(cluster.status())
        assert reason.endswith("nothing waits for it, all that it held was rebuilt elsewhere")
        assert advice_of(cluster.status())[-1] == "if data2 is gone for good: flarectl node rm data2"
        for key in KEYS[:5]:
            await delete_object(cluster.store, name(key))
        assert (await find_removal_cost(cluster.store, GONE)).is_nothing
        await remove(cluster)
        await trio.sleep(10)
        await check_gone(cluster)
        assert cluster.status().health == "ok"
        assert not cluster.stay_reason("data1")
        for key in KEYS[5:]:
            assert await cluster.get(key) == noise(key)
        await trio.sleep(10 * GRACE)
        assert cluster.upkeep.sweep.statistics().due == 0
    async with cluster.running():
        assert not is_listed(cluster), "for good"


async def test_its_garbage_is_dropped_with_it(autojump_clock: Clock) -> None:
    cluster = Cluster(4)
    async with cluster.running():
        await fill(cluster)
        cluster.members[GONE].down = True
        for key in KEYS:
            await delete_object(cluster.store, name(key))
        await trio.sleep(REPAIR_AFTER + 10 * GRACE)
        items, _ = await list_condemned(cluster.kv, None, 1000)
        assert items, "the node could not be reached"
        await remove(cluster)
        await trio.sleep(10)
        await check_gone(cluster)
        assert (await list_condemned(cluster.kv, None, 1000)) == ([], None)
        assert cluster.status().health == "ok"


async def test_it_waits_for_heal_however_long(autojump_clock: Clock) -> None:
    """Three nodes for three copies: no node can take the third copy until a fourth one comes."""
    cluster = Cluster(3)
    async with cluster.running():
        await fill(cluster)
        cluster.members[GONE].down = True
        await trio.sleep(REPAIR_AFTER + 120)
        assert not cluster.upkeep.lost_nodes.settled
        cost = await find_removal_cost(cluster.store, GONE)
        assert (cost.waiting, cost.unreadable, cost.complete) == (30, 0, True)
        assert "30 chunks lack the copy that was on it" in explain_cost(cost)
        await remove(cluster)
        await trio.sleep(3600)
        assert is_listed(cluster)
        assert await named(cluster) == 30
        assert cluster.upkeep.removal.progress_of(GONE).waiting == 30
        assert [reason for reason in reasons_of(cluster.status()) if "data2 is being removed" in reason]
        member = type(cluster.members["data1"])("data4")
        cluster.members["data4"] = member
        await trio.sleep(120)
        await check_gone(cluster)
        assert cluster.status().health == "ok"
        assert await cluster.recorded_pieces() == cluster.held_pieces() - {
            pair for pair in cluster.held_pieces() if pair[0] == GONE
        }


async def test_by_force_it_goes_and_what_can_be_made_again_is(autojump_clock: Clock) -> None:
    cluster = Cluster(4)
    async with cluster.running():
        await fill(cluster)
        cluster.members[GONE].down = True
        await trio.sleep(20)
        assert cluster.nodes.state(GONE) is NodeState.SUSPECT
        await remove(cluster, forced=True)
        await trio.sleep(60)
        await check_gone(cluster)
        assert cluster.status().health == "ok"
        assert len(await cluster.recorded_pieces()) == 90


async def test_by_force_the_last_copies_are_lost_and_reported(autojump_clock: Clock) -> None:
    cluster = Cluster(1, scheme="replica:1")
    cluster.members[GONE] = type(cluster.members["data1"])(GONE)
    async with cluster.running():
        await fill(cluster)
        held = {piece for node, piece in cluster.held_pieces() if node == GONE}
        assert 0 < len(held) < 30
        cluster.members[GONE].down = True
        await trio.sleep(REPAIR_AFTER + 60)
        cost = await find_removal_cost(cluster.store, GONE)
        assert (cost.waiting, cost.unreadable) == (0, len(held))
        assert f"{len(held)} chunks have no other copy that answers" in explain_cost(cost)
        await remove(cluster, forced=True)
        await trio.sleep(120)
        await check_gone(cluster)
        assert cluster.status().heal.lost == len(held)
        assert "delete nothing" in advice_of(cluster.status())[0]
        lost = 0
        for key in KEYS:
            try:
                assert await cluster.get(key) == noise(key)
            except ChunkLost:
                lost += 1
        assert lost == len(held)
        # It comes back after all, and is let in: what it alone has is adopted.
        cluster.members[GONE].down = False
        await trio.sleep(10)
        assert "was removed from this cluster" in cluster.members[GONE].refused
        assert await cluster.membership.readmit(GONE)
        await trio.sleep(10 * GRACE)
        assert cluster.status().health == "ok"
        for key in KEYS:
            assert await cluster.get(key) == noise(key)


@pytest.mark.parametrize("returns", ["readmitted", "fresh"])
async def test_a_removed_node_that_returns_is_refused_until(autojump_clock: Clock, returns: str) -> None:
    cluster = Cluster(4)
    async with cluster.running():
        await fill(cluster)
        member = cluster.members[GONE]
        member.down = True
        await trio.sleep(REPAIR_AFTER + 120)
        await remove(cluster)
        await trio.sleep(10)
        member.down = False
        await trio.sleep(60)
        assert "flarectl node add data2" in member.refused
        assert not is_listed(cluster)
        assert all(node != GONE for node, _ in await cluster.recorded_pieces())
        if returns == "fresh":
            member.volume_id = "second"
            member.pieces.clear()
        else:
            assert await cluster.membership.readmit(GONE)
            assert not await cluster.membership.readmit(GONE)
        await trio.sleep(10 * GRACE)
        assert not member.refused
        assert is_listed(cluster)
        assert await cluster.recorded_pieces() == cluster.held_pieces()
        assert cluster.status().health == "ok"
        if returns == "fresh":
            member.volume_id = "first"
            await trio.sleep(10)
            assert member.refused, "its old volumes are still not wanted"


async def test_who_belongs_to_the_cluster_and_is_not_known_was_here_before(autojump_clock: Clock) -> None:
    """Volumes that were never recorded, of a node that died before this version."""
    cluster = Cluster(4)
    async with cluster.running():
        member = cluster.members[GONE]
        member.down = True
        await trio.sleep(REPAIR_AFTER)
        await remove(cluster)
        await trio.sleep(10)
        member.volume_id = "never-seen"
        with pytest.raises(Conflict, match="was removed"):
            await cluster.membership.receive_heartbeat(replace(member.heartbeat(), cluster="c"))
        await cluster.membership.receive_heartbeat(replace(member.heartbeat(), cluster=None))
        await cluster.membership.receive_heartbeat(replace(member.heartbeat(), cluster="c"))
        assert is_listed(cluster)


async def test_a_removal_under_way_can_be_called_off(autojump_clock: Clock) -> None:
    cluster = Cluster(3)
    async with cluster.running():
        await fill(cluster)
        member = cluster.members[GONE]
        member.down = True
        await trio.sleep(REPAIR_AFTER + 60)
        await remove(cluster)
        await trio.sleep(30)
        member.down = False
        await trio.sleep(30)
        assert "is being removed" in member.refused
        assert await cluster.membership.readmit(GONE)
        await trio.sleep(5 * GRACE)
        assert not member.refused
        assert is_listed(cluster)
        assert cluster.status().health == "ok"
        assert await cluster.recorded_pieces() == cluster.held_pieces()


async def test_an_api_node_that_crashes_goes_on_with_it(autojump_clock: Clock) -> None:
    cluster = Cluster(4)
    async with cluster.running():
        await fill(cluster)
        cluster.members[GONE].down = True
        await trio.sleep(20)
    for pause in (0.0, 0.001, 0.01, 0.05):
        async with cluster.running():
            if is_listed(cluster):
                await remove(cluster, forced=True)
            await trio.sleep(pause)
    async with cluster.running():
        await trio.sleep(120)
        await check_gone(cluster)
        assert cluster.status().health == "ok"


async def test_puts_go_on_meanwhile(autojump_clock: Clock) -> None:
    cluster = Cluster(3)
    async with cluster.running(), trio.open_nursery() as nursery:
        cluster.members[GONE].down = True
        await trio.sleep(20)

        async def put(key: str) -> None:
            await cluster.put(key, noise(key, 1_000_000))

        for key in KEYS:
            nursery.start_soon(put, key)
        await trio.sleep(0.002)
        await remove(cluster, forced=True)
        await trio.sleep(60)
        assert not is_listed(cluster)
        assert await named(cluster) == 0
        for key in KEYS:
            assert await cluster.get(key) == noise(key, 1_000_000)


async def test_who_lives_is_not_removed(autojump_clock: Clock) -> None:
    cluster = Cluster(3)
    async with cluster.running():
        member = cluster.membership.members()[1]
        assert obstacle_to_removal(member, forced=True) is RemovalObstacle.ALIVE
        suspect = replace(member, state=NodeState.SUSPECT)
        assert obstacle_to_removal(suspect, forced=False) is RemovalObstacle.MAY_RETURN
        assert not obstacle_to_removal(suspect, forced=True)
        assert not obstacle_to_removal(replace(member, state=NodeState.OFFLINE), forced=False)


async def test_a_node_being_removed_is_away_with_any_answer(autojump_clock: Clock) -> None:
    """Its process lives, or came back. Nothing counts on it any more, least of all for a greeting of the api node."""
    cluster = Cluster(3)
    async with cluster.running():
        await fill(cluster)
        cluster.members[GONE].down = True
        await trio.sleep(REPAIR_AFTER + 60)
        await remove(cluster)
        cluster.members[GONE].down = False
        await trio.sleep(60)
        assert all(node != GONE for node, _ in await cluster.recorded_pieces())
    async with cluster.running():
        assert cluster.nodes.state(GONE) is NodeState.SUSPECT
        await trio.sleep(60)
        assert all(node != GONE for node, _ in await cluster.recorded_pieces())
        await trio.sleep(REPAIR_AFTER)
        assert cluster.nodes.state(GONE) is NodeState.OFFLINE
        assert await cluster.membership.readmit(GONE)
        await trio.sleep(60)
        assert cluster.nodes.state(GONE) is NodeState.ONLINE
        assert await cluster.recorded_pieces() == cluster.held_pieces()


async def test_a_removal_that_begins_while_the_node_returns_is_not_forgotten(autojump_clock: Clock) -> None:
    """Its heartbeat was recorded right before the wish, and goes on right after it."""
    cluster = Cluster(4)
    async with cluster.running():
        await fill(cluster)
        member = cluster.members[GONE]
        member.down = True
        await trio.sleep(REPAIR_AFTER + 60)
        moved = replace(member.heartbeat(), address="elsewhere:9000")
        transact = cluster.kv.transact

        async def transact_slowly(decide: object) -> object:
            cluster.kv.transact = transact  # type: ignore[method-assign]
            result = await transact(decide)  # type: ignore[arg-type]
            await remove(cluster)
            return result

        cluster.kv.transact = transact_slowly  # type: ignore[method-assign,assignment]
        with pytest.raises(Conflict, match="is being removed"):
            await cluster.membership.receive_heartbeat(moved)
        await trio.sleep(60)
        await check_gone(cluster)
        assert cluster.status().health == "ok"
