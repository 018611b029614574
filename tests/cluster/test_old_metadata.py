"""Metadata that is older than the data nodes have seen it: noticed before anything is written or deleted."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio
import trio.testing

from flared.catalog.restored import ORPHANS_KEPT_MS, accept_metadata, orphans_kept_until
from flared.data.mark import SeenMark
from flared.errors import MetadataOlder, NoPlacement, NoSuchObject
from flared.names import BucketName
from flared.objects.buckets import create_bucket, remove_bucket
from flared.objects.copy import copy_object
from flared.objects.delete import delete_object
from tests.support.checkers import recount
from tests.support.cluster import GRACE, REPAIR_AFTER, Cluster, advice_of, name, reasons_of
from tests.support.old_kv import CopiedKV

Clock = trio.testing.MockClock


def make_cluster(nodes: int = 3) -> tuple[Cluster, CopiedKV]:
    kv = CopiedKV()
    cluster = Cluster(nodes, scheme="replica:2")
    exchange(cluster, kv)
    return cluster, kv


def exchange(cluster: Cluster, kv: CopiedKV) -> None:
    """The api node is down, and starts with this metadata next."""
    cluster.kv = kv
    cluster._build()


async def rolled_back(cluster: Cluster, kv: CopiedKV) -> tuple[CopiedKV, CopiedKV]:
    """Some objects, a snapshot, more objects that the nodes know of; the right metadata and the snapshot."""
    async with cluster.running():
        for number in range(10):
            await cluster.put(f"before{number}", bytes([number]) * 5000)
        await delete_object(cluster.store, name("before9"))
        await trio.sleep(4)
        old = kv.snapshot()
        for number in range(10):
            await cluster.put(f"after{number}", bytes([100 + number]) * 5000)
        await delete_object(cluster.store, name("before8"))
        await trio.sleep(4)
    right = kv.snapshot()
    exchange(cluster, old)
    return right, old


async def check_refused(cluster: Cluster) -> None:
    """Nothing that users see changes, in any way."""
    held = cluster.held_pieces()
    with pytest.raises(MetadataOlder, match="older than what was seen by node data1"):
        await cluster.put("late", b"x" * 5000)
    for attempt in (
        cluster.put("empty", b""),
        cluster.put("large", b"x" * 600_000),
        delete_object(cluster.store, name("before0")),
        copy_object(cluster.store, name("before0"), name("copy")),
        create_bucket(cluster.store, BucketName("more")),
        remove_bucket(cluster.store, BucketName("default")),
    ):
        with pytest.raises(MetadataOlder):
            await attempt
    await trio.sleep(20 * GRACE)
    assert cluster.held_pieces() == held, "nothing is deleted"
    assert await cluster.get("before0") == bytes(5000), "reads go on"
    status = cluster.status()
    assert (status.health, status.metadata_older) == ("down", reasons_of(status)[0])
    assert "flarectl metadata accept" in advice_of(status)[0]
    assert "older" in cluster.write_obstacle()
    assert "older" in cluster.stay_reason("data1")
    with pytest.raises(MetadataOlder):
        await cluster.membership.begin_removal(cluster.members["data1"].name, forced=True)


async def test_metadata_that_was_rolled_back_takes_no_write_and_the_right_one_does(autojump_clock: Clock) -> None:
    cluster, kv = make_cluster()
    right, _ = await rolled_back(cluster, kv)
    async with cluster.running():
        await check_refused(cluster)
    exchange(cluster, right)
    async with cluster.running():
        await cluster.put("late", b"x")
        for number in range(10):
            assert await cluster.get(f"after{number}") == bytes([100 + number]) * 5000
        await trio.sleep(10 * GRACE)
        assert cluster.status().health == "ok"
        assert cluster.held_pieces() == await cluster.recorded_pieces()


async def test_old_metadata_is_accepted_as_after_a_restore(autojump_clock: Clock) -> None:
    cluster, kv = make_cluster()
    _, old = await rolled_back(cluster, kv)
    async with cluster.running():
        await check_refused(cluster)
        held = cluster.held_pieces()
        assert await cluster.membership.accept_metadata(int(cluster.store.now() * 1000))
        await cluster.put("late", b"x" * 5000)
        with pytest.raises(NoSuchObject):
            await cluster.get("after0")
        assert await recount(cluster.kv, cluster.store.totals) == []
        await trio.sleep(20 * GRACE)
        assert held <= cluster.held_pieces(), "orphans, and what was garbage, are kept"
        assert cluster.status().health == "ok"
        assert not await cluster.membership.accept_metadata(0), "once is enough"
    later = old.snapshot()
    exchange(cluster, later)
    async with cluster.running():
        await cluster.put("later", b"y" * 5000)
        assert cluster.status().health == "ok", "the nodes follow the new marks"
        await trio.sleep(4)
        newer = cluster.members["data1"].mark
    exchange(cluster, old)
    async with cluster.running():
        with pytest.raises(MetadataOlder):
            await cluster.put("x", b"x")
        assert newer is not None
        assert newer.accepted_ms > 0


async def test_a_node_that_slept_through_the_acceptance_is_believed(autojump_clock: Clock) -> None:
    cluster, kv = make_cluster()
    await rolled_back(cluster, kv)
    cluster.members["data3"].down = True
    async with cluster.running():
        await trio.sleep(4)
        await cluster.membership.accept_metadata(int(cluster.store.now() * 1000))
        cluster.members["data3"].down = False
        await trio.sleep(10)
        assert cluster.status().health == "ok"
        assert cluster.nodes.is_compared(cluster.members["data3"].name)


async def test_a_node_takes_puts_only_after_its_mark_was_compared(autojump_clock: Clock) -> None:
    cluster, kv = make_cluster(2)
    async with cluster.running():
        await cluster.put("a", b"x" * 5000)
        await trio.sleep(4)
    exchange(cluster, kv.snapshot())
    async with trio.open_nursery() as nursery:
        cluster.members["data2"].down = True
        await nursery.start(cluster.turns.run)
        await nursery.start(cluster.membership.run)
        cluster.nodes.set_state(cluster.members["data2"].name, cluster.nodes.state(cluster.members["data1"].name))
        with pytest.raises(NoPlacement, match="data2 is online and has not said yet how new the metadata was"):
            await cluster.put("b", b"x" * 5000)
        assert "node data2 has not said yet" in cluster.write_obstacle()
        cluster.members["data2"].down = False
        await cluster.membership.receive_heartbeat(cluster.members["data2"].heartbeat())
        await cluster.put("b", b"x" * 5000)
        nursery.cancel_scope.cancel()


async def test_nothing_is_deleted_before_all_that_may_answer_have(autojump_clock: Clock) -> None:
    cluster, kv = make_cluster()
    async with cluster.running():
        await cluster.put("a", b"x" * 5000)
        await delete_object(cluster.store, name("a"))
        await trio.sleep(1)
    held = cluster.held_pieces()
    exchange(cluster, kv.snapshot())
    (away, *_) = [member for member in cluster.members.values() if not member.pieces]
    away.down = True
    async with cluster.running():
        await trio.sleep(REPAIR_AFTER - 10)
        assert cluster.held_pieces() == held, "a node that may come back has not said what it has seen"
        await trio.sleep(3 * GRACE)
        assert cluster.held_pieces() == set(), "one that is offline is not waited for"


async def test_older_nodes_that_say_nothing_and_new_ones_are_taken(autojump_clock: Clock) -> None:
    cluster, kv = make_cluster()
    async with cluster.running():
        await cluster.put("a", b"x" * 5000)
        await trio.sleep(4)
    for member in cluster.members.values():
        member.mark = None
    exchange(cluster, kv.snapshot())
    async with cluster.running():
        await cluster.put("b", b"x" * 5000)
        await trio.sleep(4)
        assert all(member.mark for member in cluster.members.values())


async def test_a_mark_that_only_one_volume_of_one_node_has_is_enough(autojump_clock: Clock) -> None:
    cluster, _ = make_cluster()
    async with cluster.running():
        await cluster.put("a", b"x" * 5000)
        await trio.sleep(4)
        member = cluster.members["data2"]
        assert member.mark is not None
        old, new = replace(member.mark, number=1), SeenMark("ff" * 16, 1, 0, 0)
        await cluster.membership.receive_heartbeat(replace(member.heartbeat(), marks=(old, member.mark)))
        assert cluster.status().health == "ok"
        await cluster.membership.receive_heartbeat(replace(member.heartbeat(), marks=(old, new)))
        assert cluster.status().health == "down"
        assert cluster.membership.age.mark_for(cluster.members["data1"].name, 0) is None, "none learns of this metadata"


async def test_accepting_is_done_whole_or_again(autojump_clock: Clock) -> None:
    """A crash before its last transaction leaves nothing accepted."""
    cluster, _ = make_cluster()
    async with cluster.running():
        await cluster.put("a", b"x" * 300_000)
        await cluster.put("b", b"y" * 5000)
        await delete_object(cluster.store, name("b"))
    transact, left = cluster.kv.transact, 2

    async def crash(decide):  # type: ignore[no-untyped-def]
        nonlocal left
        left -= 1
        if left < 0:
            raise MemoryError
        return await transact(decide)

    cluster.kv.transact = crash  # type: ignore[method-assign]
    with pytest.raises(MemoryError):
        await accept_metadata(cluster.kv, 1_700_000_000_000)
    cluster.kv.transact = transact  # type: ignore[method-assign]
    assert await orphans_kept_until(cluster.kv) == 0
    assert await accept_metadata(cluster.kv, 1_800_000_000_000) == 1_800_000_000_000
    assert await orphans_kept_until(cluster.kv) == 1_800_000_000_000 + ORPHANS_KEPT_MS
    assert await accept_metadata(cluster.kv, 5) == 1_800_000_000_001, "later than the one before, with any clock"
    assert await recount(cluster.kv) == []
    assert not await cluster.kv.scan(b"shared/", b"shared0", 10)
