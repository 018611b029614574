"""The records are wrong, and most of a node's pieces look like orphans."""

from __future__ import annotations

import random

import pytest
import trio
import trio.testing

from flared.catalog.orphans import OrphanRecord, decode, list_orphans
from flared.meta import keys
from flared.upkeep.deletion import brake, reconcile
from tests.support.cluster import GRACE, Cluster, advice_of, node_name, reasons_of

Clock = trio.testing.MockClock
DAY = 86400.0
FEW = OrphanRecord()


def noise(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(brake, "PIECES_MIN", 5)
    monkeypatch.setattr(reconcile, "INTERVAL_SECONDS", 3600.0)


async def fill(cluster: Cluster, count: int) -> None:
    for seed in range(count):
        await cluster.put(f"k{seed}", noise(4096, seed))


async def forget_records(cluster: Cluster, keep: int = 0) -> dict[bytes, bytes]:
    """Take chunk records and the names of their objects out of the metadata, as a damaged file does."""
    rows: dict[bytes, bytes] = {}
    for table in (b"chunk/", b"object/"):
        found = await cluster.kv.scan(*keys.under(table), 10**6)
        rows |= dict(found[keep:])
    await cluster.kv.commit({}, dict.fromkeys(rows))
    return rows


async def test_more_orphans_than_mishaps_make_are_held_and_come_back_with_their_records(autojump_clock: Clock) -> None:
    cluster = Cluster()
    async with cluster.running():
        await fill(cluster, 20)
    rows = await forget_records(cluster, keep=10)
    async with cluster.running():
        await trio.sleep(20 * GRACE)
        assert cluster.piece_count() == 60, "nothing is deleted"
        status = cluster.status()
        assert status.reconcile.held == 30
        assert status.health == "degraded"
        assert any("10 pieces" in reason and "data1" in reason for reason in reasons_of(status))
        assert any(line.startswith("flarectl node orphans data1") for line in advice_of(status))
    async with cluster.running():
        await trio.sleep(1)
        assert cluster.status().reconcile.held == 30, "a restart remembers it"
    await cluster.kv.commit({}, dict(rows))
    async with cluster.running():
        await trio.sleep(20 * GRACE)
        assert cluster.status().reconcile.held == 0
        for seed in range(20):
            assert await cluster.get(f"k{seed}") == noise(4096, seed)
    assert await list_orphans(cluster.kv) == {}


async def test_a_few_orphans_go_by_themselves_and_more_within_a_day_do_not_in_portions_either(
    autojump_clock: Clock,
) -> None:
    cluster = Cluster(1, scheme="replica:1")
    async with cluster.running():
        await fill(cluster, 20)
    await forget_records(cluster, keep=16)
    async with cluster.running():
        await trio.sleep(20 * GRACE)
        assert cluster.piece_count() == 16
    await forget_records(cluster, keep=13)
    async with cluster.running():
        await trio.sleep(20 * GRACE)
        assert cluster.piece_count() == 16, "4 and 3 are more than 5, also after a restart in between"
        cluster.clock_ahead = DAY + 3600
        await trio.sleep(20 * GRACE)
        assert cluster.piece_count() == 16, "a clock that jumps is not another day"
    async with cluster.running():
        await trio.sleep(20 * GRACE)
        assert cluster.piece_count() == 13, "on another day 3 are few"
        assert cluster.status().health == "ok"


async def test_held_orphans_go_when_an_operator_says_so_and_no_more_than_those(autojump_clock: Clock) -> None:
    cluster = Cluster(1, scheme="replica:1")
    async with cluster.running():
        await fill(cluster, 30)
    await forget_records(cluster, keep=20)
    async with cluster.running():
        await trio.sleep(20 * GRACE)
        assert cluster.piece_count() == 30
        held = cluster.upkeep.reconcile.brake.held()[node_name("data1")]
        assert (held.held, len(held.sample)) == (10, 10)
        assert held.held_bytes == 10 * 4096
        await cluster.upkeep.reconcile.allow(node_name("data1"), held.held)
        await trio.sleep(1)
        assert cluster.piece_count() == 20
        assert not cluster.upkeep.reconcile.brake.held()
    await forget_records(cluster, keep=10)
    async with cluster.running():
        await trio.sleep(20 * GRACE)
        assert cluster.piece_count() == 20, "what came later was not meant"


async def test_held_orphans_go_after_days_of_uptime_and_not_because_a_clock_jumped(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(brake, "HELD_MS", 3600 * 1000)
    cluster = Cluster(1, scheme="replica:1")
    async with cluster.running():
        await fill(cluster, 20)
    await forget_records(cluster)
    async with cluster.running():
        await trio.sleep(20 * GRACE)
        assert cluster.piece_count() == 20
        cluster.clock_ahead = 30 * DAY
    async with cluster.running():
        await trio.sleep(1800)
        assert cluster.piece_count() == 20
        await trio.sleep(1800)
        assert cluster.piece_count() == 0
        assert cluster.status().health == "ok"


async def test_a_record_that_cannot_be_read_keeps_the_orphans_of_its_node(autojump_clock: Clock) -> None:
    cluster = Cluster(1, scheme="replica:1")
    async with cluster.running():
        await fill(cluster, 3)
    await forget_records(cluster)
    await cluster.kv.commit({}, {keys.orphans("data1"): b"1{"})
    async with cluster.running():
        await trio.sleep(20 * GRACE)
        assert cluster.piece_count() == 3
        await cluster.upkeep.reconcile.allow(node_name("data1"), 3)
        await trio.sleep(1)
        assert cluster.piece_count() == 0


async def test_a_rule_keeps_orphans_and_is_asked_with_the_moment_of_the_first_look(autojump_clock: Clock) -> None:
    cluster = Cluster(1, scheme="replica:1")
    async with cluster.running():
        await fill(cluster, 3)
    await forget_records(cluster)
    async with cluster.running():
        checked = trio.current_time() + 30 * GRACE
        cluster.upkeep.reconcile.rules.add(
            lambda first: "" if first < checked < trio.current_time() else "the metadata was not checked in between"
        )
        await trio.sleep(20 * GRACE)
        assert cluster.piece_count() == 3
        assert cluster.status().reconcile.obstacles == ("the metadata was not checked in between",)
        await trio.sleep(20 * GRACE)
        assert cluster.piece_count() == 0
        assert cluster.status().reconcile.obstacles == ()


async def test_a_removed_node_leaves_no_record_of_its_orphans(autojump_clock: Clock) -> None:
    cluster = Cluster(4)
    async with cluster.running():
        await fill(cluster, 3)
        await cluster.upkeep.reconcile.allow(node_name("data4"), 3)
        assert decode(node_name("data4"), (await cluster.kv.scan(*keys.under(b"orphans/"), 1))[0][1]).allowed == 3
        cluster.members["data4"].down = True
        await trio.sleep(700)
        await cluster.membership.begin_removal(node_name("data4"), forced=False)
        cluster.upkeep.removal.wake()
        await trio.sleep(30)
        assert await list_orphans(cluster.kv) == {}
        assert not cluster.upkeep.reconcile.brake.held()


def test_the_first_confirmed_orphans_do_not_go_before_the_others_are_counted() -> None:
    def held(confirmed: int, record: OrphanRecord = FEW) -> bool:
        found = brake.Found(pieces=20, orphans=13, bytes=0, sample=(), confirmed=confirmed)
        return bool(brake.decide(record, found, now_ms=1, ran_ms=0).held_since_ms)

    assert not held(0), "an orphan that was seen once may not be one"
    assert held(3), "of 13 the first 3"
    assert held(0, OrphanRecord(held_since_ms=1))
    assert not held(3, OrphanRecord(allowed=13))
    assert not held(3, OrphanRecord(allowed=8))
    assert held(3, OrphanRecord(allowed=7))


async def test_what_was_deleted_as_an_orphan_is_there_when_its_record_comes_back(autojump_clock: Clock) -> None:
    cluster = Cluster()
    async with cluster.running():
        await fill(cluster, 20)
    rows = await forget_records(cluster, keep=17)
    async with cluster.running():
        await trio.sleep(20 * GRACE)
        assert cluster.piece_count() == 51
        assert sum(len(member.quarantined) for member in cluster.members.values()) == 9
    await cluster.kv.commit({}, dict(rows))
    async with cluster.running():
        await trio.sleep(5 * GRACE)
        assert cluster.piece_count() == 60, "reconcile asks for what the records name, and nothing of it is missing"
        assert cluster.status().health == "ok"
        assert cluster.upkeep.heal.statistics().repaired == 0
        for seed in range(20):
            assert await cluster.get(f"k{seed}") == noise(4096, seed)


async def test_a_node_without_quarantine_keeps_its_orphans_until_it_is_upgraded(autojump_clock: Clock) -> None:
    cluster = Cluster()
    old = cluster.members["data1"]
    old.outdated = True
    async with cluster.running():
        await fill(cluster, 4)
    await forget_records(cluster)
    async with cluster.running():
        await trio.sleep(20 * GRACE)
        assert len(old.pieces) == 4
        assert cluster.piece_count() == 4
        old.outdated, old.instance = False, 2
        await trio.sleep(20 * GRACE)
        assert cluster.piece_count() == 0
        assert len(old.quarantined) == 4
