"""One simulated run: random clients under random faults, held against three checkers:

nothing acknowledged is ever lost, nothing read is ever wrong, nothing unreferenced stays.

Everything follows from the seed and the variant (and, as Python's sets of texts do, from ``PYTHONHASHSEED``).
"""

from __future__ import annotations

import random
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

import trio

from flared.catalog.buckets import Versioning
from flared.catalog.uploads import list_all_uploads
from flared.errors import Damaged, NoSuchObject
from flared.names import DEFAULT_BUCKET
from flared.objects.buckets import set_versioning
from flared.objects.listing import list_objects
from tests.simulation.faults import FAKE_FAULTS, NETWORK_FAULTS, REAL_FAULTS, Counts, break_fakes, break_real, disturb
from tests.simulation.workload import ABSENT, CLIENTS, KEYS, Ledger, client
from tests.support.checkers import recount
from tests.support.cluster import GRACE, Cluster, reasons_of
from tests.support.old_ids import old_ids
from tests.support.parity import PARITY, known_parity
from tests.support.real_cluster import RealCluster

SETTLE_ROUNDS = 40
OLD_SHARE = 0.3
"""Of the chunks, how many get an id of the older form."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A variant: what runs, and which faults happen."""

    lives: int = 1
    """Of the api node; all but the last end with a crash."""
    real: bool = False
    """True for the real code of data nodes over disks and a network in memory, False for fakes."""
    network: bool = False
    coded: bool = False
    """True for a scheme whose pieces differ, two of three sufficing, over four nodes."""
    versioned: bool = False
    """True for a bucket that keeps versions."""
    in_parts: bool = False
    """True for clients that upload in parts, too."""
    pause_seconds: float = 1.0
    """At most so long between two things that a client does: the longer, the more faults fall into a life."""

    @property
    def faults(self) -> list[str]:
        """The kinds that must have happened over a number of seeds."""
        return (REAL_FAULTS if self.real else FAKE_FAULTS) + (NETWORK_FAULTS if self.network else [])


VARIANTS = {
    "steady": Variant(),
    "crashing": Variant(lives=3),
    "network": Variant(lives=2, network=True),
    "coded": Variant(lives=2, network=True, coded=True),
    "versions": Variant(lives=2, network=True, versioned=True),
    "parts": Variant(lives=3, network=True, in_parts=True),
    "real": Variant(lives=2, real=True, pause_seconds=4.0),
    "real-network": Variant(lives=2, real=True, network=True, pause_seconds=4.0),
}


async def simulate(variant: Variant, seed: int, counts: Counts) -> None:
    """One run; AssertionError if a promise was broken. ``counts`` says how often each kind of fault happened."""
    cluster = make_cluster(variant, seed)
    cluster.random.seed(seed)
    ledger = Ledger()
    # Upkeep, sharing and copies must not care which form an id has, nor that both stand side by side.
    older = random.Random(seed * 17)
    async with AsyncExitStack() as stack:
        stack.enter_context(old_ids(lambda: older.random() < OLD_SHARE))
        stack.enter_context(known_parity())
        if isinstance(cluster, RealCluster):
            await stack.enter_async_context(cluster.data_running())
        for life in range(variant.lives):
            last = life == variant.lives - 1
            async with cluster.running():
                seconds = 1000 if last else random.Random(seed * 31 + life).uniform(5, 30) * variant.pause_seconds
                with trio.move_on_after(seconds):
                    await live(cluster, ledger, variant, seed, life, counts)
                if last:
                    await settle(cluster)
                    await check_everything(cluster, ledger)
                # Leaving the block is the crash.


def make_cluster(variant: Variant, seed: int) -> Cluster:
    if variant.real:
        return RealCluster(seed)
    return Cluster(4, scheme=PARITY) if variant.coded else Cluster()


async def live(cluster: Cluster, ledger: Ledger, variant: Variant, seed: int, life: int, counts: Counts) -> None:
    """Clients at work under faults, until the clients have done all."""
    if variant.versioned:
        await set_versioning(cluster.store, DEFAULT_BUCKET, Versioning.ENABLED)
    async with trio.open_nursery() as nursery:
        if isinstance(cluster, RealCluster):
            for member in cluster.real.values():
                await member.recover()
            nursery.start_soon(break_real, cluster, seed * 7 + life, seed + 3 * life, counts)
        else:
            nursery.start_soon(break_fakes, cluster, seed * 7 + life, seed + 3 * life, counts)
        if variant.network:
            links = [member.link for member in cluster.members.values()]
            nursery.start_soon(disturb, links, seed * 13 + life, counts)
        async with trio.open_nursery() as clients:
            for number in range(CLIENTS):
                work = partial(client, versioned=variant.versioned, in_parts=variant.in_parts)
                mine = seed * 1000 + life * 100 + number
                clients.start_soon(work, cluster, ledger, mine, variant.pause_seconds)
        nursery.cancel_scope.cancel()


async def settle(cluster: Cluster) -> None:
    """Undo every fault, and give upkeep the time to do its work by itself."""
    if isinstance(cluster, RealCluster):
        for real in cluster.real.values():
            await real.recover()
    else:
        for member in cluster.members.values():
            member.down = member.silent = member.full = False
            member.link.heal()
            member.return_volume()
    for _ in range(SETTLE_ROUNDS):
        await trio.sleep(2 * GRACE)
        settled = cluster.status().health == "ok" and await cluster.find_held() == await cluster.recorded_pieces()
        if await list_all_uploads(cluster.kv, b"", 1):  # those that clients left are aborted in the end
            continue
        if settled and not (isinstance(cluster, RealCluster) and await cluster.find_bad()):
            return


async def check_everything(cluster: Cluster, ledger: Ledger) -> None:
    for key in KEYS:
        try:
            got: bytes | None = await cluster.get(key)
        except NoSuchObject:
            got = ABSENT
        except Damaged as error:
            raise AssertionError(f"{key} is lost: {error}") from error
        assert got in ledger.possible(key), f"{key} holds {len(got or b'')} bytes that no client put there last"
    for key, kept in ledger.kept.items():
        for version, value in kept.items():
            assert await cluster.get(key, version) == value, f"version {version} of {key} is not what was put"
    listed = {manifest.name.key for manifest in (await list_objects(cluster.store, DEFAULT_BUCKET)).objects}
    assert all((key in listed) or ABSENT in ledger.possible(key) for key in KEYS)
    status = cluster.status()
    assert status.health == "ok", reasons_of(status)
    held, recorded = await cluster.find_held(), await cluster.recorded_pieces()
    assert held == recorded, f"not recorded: {sorted(held - recorded)}; not held: {sorted(recorded - held)}"
    if isinstance(cluster, RealCluster):
        assert await cluster.find_bad() == set()
    assert await list_all_uploads(cluster.kv, b"", 1) == []
    assert await recount(cluster.kv, cluster.store.totals) == []
