"""The status while something is wrong: immediate and true."""

from __future__ import annotations

import random

import pytest
import trio
import trio.testing

from flared.catalog.chunks import list_chunks
from flared.names import piece_name
from tests.support.cluster import REPAIR_AFTER, Cluster, advice_of, node_name, reasons_of

Clock = trio.testing.MockClock


def noise(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


async def test_repair_that_cannot_happen_is_not_called_going_on_by_itself(autojump_clock: Clock) -> None:
    cluster = Cluster(3)
    async with cluster.running():
        for seed in range(7):
            await cluster.put(f"k{seed}", noise(4096, seed))
        await trio.sleep(30)
        assert cluster.status().unavailable == 0
        cluster.members["data2"].down = True
        await trio.sleep(15)
        status = cluster.status()
        assert (status.health, status.unavailable) == ("degraded", 7), "long before repair_after"
        assert status.heal.backlog == 0
        await trio.sleep(REPAIR_AFTER + 60)
        status = cluster.status()
        assert (status.heal.backlog, status.heal.unplaced, status.unavailable) == (7, 7, 7)
        (reports,) = [reason for reason in reasons_of(status) if "cannot be repaired: 7" in reason]
        assert "replica:3 wants 3 data nodes, and 2 take pieces" in reports
        assert not any("wait for repair" in reason for reason in reasons_of(status))
        assert not any("by itself" in line for line in advice_of(status))
        assert any("flarectl node invite" in line for line in advice_of(status))
        cluster.members["data4"] = type(cluster.members["data1"])("data4")
        await trio.sleep(60)
        status = cluster.status()
        assert (status.heal.backlog, status.heal.unplaced, status.unavailable) == (0, 0, 0)


@pytest.mark.parametrize("found_by", ["reader", "data node"])
async def test_a_piece_that_was_mended_leaves_a_trace_also_after_a_restart(
    autojump_clock: Clock, found_by: str
) -> None:
    cluster = Cluster(3)
    async with cluster.running():
        await cluster.put("a", noise(4096, 1))
        (record,) = await list_chunks(cluster.kv, None, 10)
        pieces = [(node, piece_name(record.id, number)) for number, node in enumerate(record.nodes)]
        for node, name in pieces[:2]:
            assert node
            cluster.members[node].flip(name)
            if found_by == "data node":
                beat = cluster.members[node].heartbeat()
                await cluster.membership.receive_heartbeat(type(beat)(**{**fields_of(beat), "damage": (name,)}))
        assert await cluster.get("a") == noise(4096, 1)
        await trio.sleep(60)
        assert all(cluster.members[str(node)].pieces[name][1] == noise(4096, 1) for node, name in pieces)
        damage = cluster.status().damage
        found = sum(damage[node_name(str(node))].found for node, _ in pieces)
        assert found == sum(damage[node_name(str(node))].mended for node, _ in pieces)
        assert found in (1, 2) if found_by == "reader" else found == 2
    async with cluster.running():
        await trio.sleep(5)
        assert cluster.status().damage == damage
        assert cluster.status().health == "ok"


async def test_a_piece_that_is_only_missing_is_not_called_damage_of_a_disk(autojump_clock: Clock) -> None:
    cluster = Cluster(3)
    async with cluster.running():
        await cluster.put("a", noise(4096, 1))
        for member in list(cluster.members.values())[:2]:
            member.pieces.clear()
        assert await cluster.get("a") == noise(4096, 1)
        await trio.sleep(60)
        assert cluster.piece_count() == 3
        assert not any(damage.found for damage in cluster.status().damage.values())


def fields_of(beat: object) -> dict[str, object]:
    return {name: getattr(beat, name) for name in type(beat).__dataclass_fields__}  # type: ignore[attr-defined]
