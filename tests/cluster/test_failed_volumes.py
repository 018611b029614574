"""One disk of a living node fails: its pieces are rebuilt elsewhere; on a virtual clock."""

from __future__ import annotations

import random

import trio
import trio.testing

from flared.api.admin.advice import advise_member
from flared.cluster.states import NodeState
from flared.errors import NodeUnreachable
from flared.objects.delete import delete_object
from tests.support.cluster import CHUNK, GRACE, REPAIR_AFTER, Cluster, name, reasons_of

Clock = trio.testing.MockClock
KEYS = [f"k{seed}" for seed in range(20)]


def noise(seed: str) -> bytes:
    return random.Random(seed).randbytes(4096)


async def fill(cluster: Cluster) -> None:
    for key in KEYS:
        await cluster.put(key, noise(key))


async def test_what_was_on_a_failed_volume_is_made_again(autojump_clock: Clock) -> None:
    """On three nodes for three copies only the same node can take them: on its other volumes."""
    cluster = Cluster(3)
    async with cluster.running():
        await fill(cluster)
        member = cluster.members["data2"]
        member.fail_volume()
        lost = set(member.lost)
        assert len(lost) == 10
        await trio.sleep(REPAIR_AFTER - 30)
        assert len(await cluster.recorded_pieces()) == 60, "it may come back"
        (reason,) = reasons_of(cluster.status())
        assert reason.startswith("volume /disk2 on node data2 is failed for 9 min (Input/output error): what was on it")
        assert "on node data2" in cluster.stay_reason("data1")
        assert cluster.upkeep.lost_volumes.repair_of(member.name, "/disk2") is None
        await trio.sleep(120)
        assert lost <= set(member.pieces)
        assert await cluster.recorded_pieces() == cluster.held_pieces()
        repair = cluster.upkeep.lost_volumes.repair_of(member.name, "/disk2")
        assert repair is not None
        assert (repair.share, repair.pieces, repair.waiting) == (1.0, 10, False)
        (reason,) = reasons_of(cluster.status())
        assert reason.endswith(": its 10 pieces were rebuilt elsewhere")
        assert any("systemctl restart" in line for line in advise_member(cluster.membership.members()[1]))
        assert not cluster.stay_reason("data1")
        for key in KEYS:
            assert await cluster.get(key) == noise(key)


async def test_nothing_is_called_missing_that_a_working_volume_has(autojump_clock: Clock) -> None:
    cluster = Cluster(4)
    async with cluster.running():
        await fill(cluster)
        member = cluster.members["data2"]
        member.fail_volume()
        held = {piece for node, piece in cluster.held_pieces() if node == "data2"}
        puts = sum(peer.puts for peer in cluster.members.values())
        await trio.sleep(REPAIR_AFTER + 120)
        assert held <= {piece for node, piece in await cluster.recorded_pieces() if node == "data2"}
        assert sum(peer.puts for peer in cluster.members.values()) == puts + len(member.lost)


async def test_a_volume_that_failed_just_now_stops_the_search(autojump_clock: Clock) -> None:
    cluster = Cluster(3)
    async with cluster.running():
        await fill(cluster)
        member = cluster.members["data2"]
        member.fail_volume()
        await trio.sleep(REPAIR_AFTER - 10)
        member.failed_volumes = ("/disk2", "/disk3")
        member.pieces.clear()
        await trio.sleep(5)
        # Its heartbeat tells of both as failed for as long; but the list leaves out one more than was given up.
        report = member.heartbeat()
        young = report.volumes[:2]
        member.heartbeat = lambda: type(report)(  # type: ignore[method-assign]
            report.name, report.address, report.zone, report.version, report.cluster, report.instance,
            (young[0], type(young[1])("/disk2", "/disk2", 0, 0, 0, "failed", "", 0, REPAIR_AFTER + 1)),
            0, (), 0.0,
        )  # fmt: skip
        await trio.sleep(REPAIR_AFTER)
        assert len(await cluster.recorded_pieces()) == 60


async def test_a_node_that_is_away_is_not_searched(autojump_clock: Clock) -> None:
    cluster = Cluster(3)
    async with cluster.running():
        await fill(cluster)
        member = cluster.members["data2"]
        member.fail_volume()
        await trio.sleep(REPAIR_AFTER - 30)
        member.silent = True
        await trio.sleep(120)
        assert len(await cluster.recorded_pieces()) == 60


async def test_a_node_that_cannot_be_searched_delays_no_other(autojump_clock: Clock) -> None:
    """Another volume of data1 is being replayed, or fails again and again."""
    cluster = Cluster(4)
    async with cluster.running():
        await fill(cluster)
        first, second = cluster.members["data1"], cluster.members["data2"]

        async def refuse(after: str, limit: int) -> tuple[list[tuple[str, int]], tuple[str, ...]]:
            raise NodeUnreachable(first.name, "it is busy")

        first.list_working = refuse  # type: ignore[method-assign]
        first.fail_volume()
        first.pieces |= first.lost  # only its word is bad
        second.fail_volume()
        await trio.sleep(REPAIR_AFTER + 120)
        assert cluster.upkeep.lost_volumes.repair_of(first.name, "/disk2") is not None
        assert second.lost
        assert {piece for node, piece in await cluster.recorded_pieces() if node == "data2"} <= set(second.pieces)


async def test_a_volume_that_returns_keeps_what_is_recorded_and_gives_up_the_rest(autojump_clock: Clock) -> None:
    cluster = Cluster(4)
    async with cluster.running():
        await fill(cluster)
        member = cluster.members["data2"]
        member.fail_volume()
        for key in KEYS[:8]:
            await delete_object(cluster.store, name(key))
        await trio.sleep(REPAIR_AFTER + 10 * GRACE)
        assert cluster.upkeep.sweep.statistics().due == 0, "deletes do not wait for the volume"
        member.return_volume()
        await trio.sleep(10 * GRACE)
        assert cluster.status().health == "ok"
        assert await cluster.recorded_pieces() == cluster.held_pieces()
        for key in KEYS[8:]:
            assert await cluster.get(key) == noise(key)


async def test_a_volume_that_returns_early_has_lost_nothing(autojump_clock: Clock) -> None:
    cluster = Cluster(3)
    async with cluster.running():
        await fill(cluster)
        puts = cluster.members["data2"].puts
        cluster.members["data2"].fail_volume()
        await trio.sleep(REPAIR_AFTER / 2)
        cluster.members["data2"].return_volume()
        await trio.sleep(REPAIR_AFTER)
        assert cluster.members["data2"].puts == puts
        assert cluster.status().health == "ok"


async def test_an_api_node_that_starts_again_goes_on_with_it(autojump_clock: Clock) -> None:
    cluster = Cluster(3)
    async with cluster.running():
        await fill(cluster)
        cluster.members["data2"].fail_volume()
        await trio.sleep(REPAIR_AFTER - 30)
    async with trio.open_nursery() as nursery:
        await nursery.start(cluster.membership.run)
        assert all(member.state is NodeState.ONLINE for member in cluster.membership.members()), "known at once"
        nursery.cancel_scope.cancel()
    cluster._build()
    async with cluster.running():
        await trio.sleep(REPAIR_AFTER + 120)
        assert await cluster.recorded_pieces() == cluster.held_pieces()


async def test_what_may_have_been_on_a_failed_volume_is_not_shared(autojump_clock: Clock) -> None:
    """A put of bytes that are there already would rest on one copy."""
    cluster = Cluster(3)
    data = random.Random(1).randbytes(CHUNK)
    async with cluster.running():
        await cluster.put("a", data)
        for node in ("data1", "data2"):
            cluster.members[node].fail_volume()
            assert cluster.members[node].lost
        await trio.sleep(10)
        await cluster.put("b", data)
        assert len(cluster.held_pieces()) == 4
        await trio.sleep(REPAIR_AFTER + 60)
        held = cluster.held_pieces()
        assert held == await cluster.recorded_pieces()
        await cluster.put("c", data)
        assert cluster.held_pieces() == held, "it is known what was on them"
        # One of them comes back, and fails again.
        member = cluster.members["data1"]
        member.return_volume()
        member.fail_volume()
        cluster.members["data2"].fail_volume()
        await trio.sleep(10)
        await cluster.put("d", data)
        assert len(cluster.held_pieces()) >= 3
        cluster.members["data3"].pieces.clear()
        assert await cluster.get("d") == data
