"""Metadata that is rolled back between two lives of the api node, under random workloads.

The checker must see refusals, and nothing lost: no write is acknowledged that the right metadata does not know, no
piece goes that it needs, and once it is back everything acknowledged is there.
"""

from __future__ import annotations

import random

import trio
import trio.testing

from flared.errors import Unavailable
from tests.simulation.run import check_everything, settle
from tests.simulation.workload import CLIENTS, KEYS, Ledger, client, erase, write
from tests.support.cluster import GRACE, Cluster
from tests.support.old_kv import CopiedKV

HEARTBEAT_SECONDS = 4.0
"""After it every node has kept what was committed; what came later is not protected, and is not promised to be."""


async def test_metadata_rolled_back_loses_nothing(autojump_clock: trio.testing.MockClock, seed: int) -> None:
    cluster, ledger, rng = Cluster(), Ledger(), random.Random(seed)
    cluster.random.seed(seed)
    exchange(cluster, CopiedKV())
    old = await live(cluster, ledger, rng)
    right = cluster.kv.snapshot()  # type: ignore[attr-defined]

    exchange(cluster, old)
    async with cluster.running():
        held = cluster.held_pieces()
        acknowledged = [await try_change(cluster, rng) for _ in range(40)]
        await trio.sleep(5 * GRACE)
        assert not any(acknowledged), "old metadata takes nothing"
        assert held <= cluster.held_pieces(), "nor does it delete"
        assert cluster.status().health == "down"

    exchange(cluster, right)
    async with cluster.running():
        await settle(cluster)
        await check_everything(cluster, ledger)


def exchange(cluster: Cluster, kv: CopiedKV) -> None:
    cluster.kv = kv
    cluster._build()


async def live(cluster: Cluster, ledger: Ledger, rng: random.Random) -> CopiedKV:
    """Clients at work, all nodes there; returns the metadata of some moment meanwhile."""
    async with cluster.running():
        taken: list[CopiedKV] = []

        async def take() -> None:
            await trio.sleep(rng.uniform(1, 10))
            taken.append(cluster.kv.snapshot())  # type: ignore[attr-defined]

        async with trio.open_nursery() as nursery:
            nursery.start_soon(take)
            for _ in range(CLIENTS):
                nursery.start_soon(client, cluster, ledger, rng.randrange(10**6), 1.0)
        await trio.sleep(HEARTBEAT_SECONDS)
        return taken[0]


async def try_change(cluster: Cluster, rng: random.Random) -> bool:
    """One change on metadata that must not take it, against a ledger that is thrown away; whether it was taken."""
    thrown_away = Ledger()
    try:
        await rng.choice([write, erase])(cluster, thrown_away, rng.choice(KEYS), rng)
    except* Unavailable:
        pass
    await trio.sleep(rng.random())
    return any(len(thrown_away.possible(key)) == 1 and thrown_away.possible(key) != {None} for key in KEYS)
