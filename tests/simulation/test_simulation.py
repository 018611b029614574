"""Seeded random workloads under random faults, held against three checkers:

nothing acknowledged is ever lost, nothing read is ever wrong, nothing unreferenced stays.

A failure prints its seed; ``pytest tests/simulation --seed N`` runs that one, ``--seeds N`` runs more of them.
"""

from __future__ import annotations

import random

import pytest
import trio
import trio.testing

from flared.errors import Damaged, NoSuchObject, Unavailable
from flared.names import DEFAULT_BUCKET
from flared.objects.copy import copy_object
from flared.objects.delete import delete_object
from flared.objects.listing import list_objects
from tests.support.checkers import recount
from tests.support.cluster import CHUNK, GRACE, REPAIR_AFTER, Cluster, SmallNode, name

KEYS = [f"key{number}" for number in range(12)]
SIZES = [0, 1, 4096, 100_000, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5]
CLIENTS = 4
STEPS = 40
ABSENT = None


class Ledger:
    """What each key may hold: the values that an acknowledged or an unfinished write can have left there."""

    def __init__(self) -> None:
        self._possible: dict[str, set[bytes | None]] = {key: {ABSENT} for key in KEYS}
        self._busy: set[str] = set()

    def claim(self, rng: random.Random) -> str | None:
        """A key that no other client works on, so that the order of its writes is known."""
        free = [key for key in KEYS if key not in self._busy]
        if not free:
            return None
        key = rng.choice(free)
        self._busy.add(key)
        return key

    def release(self, key: str) -> None:
        self._busy.discard(key)

    def attempt(self, key: str, value: bytes | None) -> None:
        self._possible[key].add(value)

    def acknowledge(self, key: str, value: bytes | None) -> None:
        self._possible[key] = {value}

    def possible(self, key: str) -> set[bytes | None]:
        return self._possible[key]

    def certain(self, key: str) -> bytes | None:
        """The value to copy, if there is only one that it can be."""
        values = self._possible[key]
        return next(iter(values)) if len(values) == 1 else None


async def client(cluster: Cluster, ledger: Ledger, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(STEPS):
        await trio.sleep(rng.random())
        key = ledger.claim(rng)
        if key is None:
            continue
        try:
            await rng.choice([write, write, read, read, erase, duplicate])(cluster, ledger, key, rng)
        except* Unavailable:  # of a large object it comes out of a nursery
            pass
        finally:
            ledger.release(key)


async def write(cluster: Cluster, ledger: Ledger, key: str, rng: random.Random) -> None:
    # Few different bodies, so that chunks are shared, released and put again all the time.
    value = random.Random(rng.randrange(6)).randbytes(rng.choice(SIZES))
    ledger.attempt(key, value)
    with trio.move_on_after(rng.choice([0.005, 60, 60, 60])) as scope:
        await cluster.put(key, value, known=rng.random() < 0.8)
    if not scope.cancelled_caught:
        ledger.acknowledge(key, value)


async def read(cluster: Cluster, ledger: Ledger, key: str, rng: random.Random) -> None:
    try:
        got: bytes | None = await cluster.get(key)
    except NoSuchObject:
        got = ABSENT
    assert got in ledger.possible(key), f"{key} holds {len(got or b'')} bytes that nobody put there last"


async def erase(cluster: Cluster, ledger: Ledger, key: str, rng: random.Random) -> None:
    ledger.attempt(key, ABSENT)
    await delete_object(cluster.store, name(key))
    ledger.acknowledge(key, ABSENT)


async def duplicate(cluster: Cluster, ledger: Ledger, key: str, rng: random.Random) -> None:
    source = ledger.claim(rng)
    if source is None:
        return
    try:
        value = ledger.certain(source)
        if value is not None:
            ledger.attempt(key, value)
            await copy_object(cluster.store, name(source), name(key))
            ledger.acknowledge(key, value)
    finally:
        ledger.release(source)


async def break_things(cluster: Cluster, seed: int) -> None:
    """One node at a time is away, silent, full, wrong or empty: what replica:3 with quorum 2 must bear."""
    rng = random.Random(seed)
    members = list(cluster.members.values())
    while True:
        await trio.sleep(rng.uniform(0.5, 20))
        member = rng.choice(members)
        fault = rng.choice(["down", "silent", "full", "flip", "lose", "wipe", "island", "disk"])
        if fault in ("flip", "lose"):
            await harm(cluster, member.name, fault, rng)
            continue
        if fault == "disk":
            await fail_disk(member, rng)
            continue
        if fault == "island":
            await isolate(member, members, rng)
        if fault in ("wipe", "island"):
            await wipe(cluster, member)
            continue
        setattr(member, fault, True)
        await trio.sleep(rng.uniform(0.1, 40))
        setattr(member, fault, False)


async def isolate(member: SmallNode, members: list[SmallNode], rng: random.Random) -> None:
    """All others are away: whatever was acknowledged now would rest on this node alone."""
    for other in members:
        other.down = other is not member
    await trio.sleep(rng.uniform(0.1, 20))
    for other in members:
        other.down = False


async def fail_disk(member: SmallNode, rng: random.Random) -> None:
    """One of the node's disks is away, for longer than repair waits or not, and comes back with what it held."""
    member.fail_volume()
    await trio.sleep(rng.choice([rng.uniform(0.1, 60), REPAIR_AFTER + rng.uniform(0, 60)]))
    member.return_volume()


async def wipe(cluster: Cluster, member: SmallNode) -> None:
    """The node's disk is replaced by an empty one; the next fault waits until what it held is there again."""
    member.pieces.clear()
    member.instance += 1
    for _ in range(100):
        await trio.sleep(30)
        if cluster.status().health == "ok" and await cluster.recorded_pieces() <= cluster.held_pieces():
            return


async def harm(cluster: Cluster, node: str, fault: str, rng: random.Random) -> None:
    """Spoil one piece of a chunk that has all its others: a second loss is more than the scheme promises to bear."""
    member = cluster.members[node]
    whole = [
        piece
        for piece in member.pieces
        if sum(any(other.startswith(piece[:-1]) for other in peer.pieces) for peer in cluster.members.values()) == 3
        and len(member.pieces[piece][1])
    ]
    if whole and cluster.status().health == "ok":
        piece = rng.choice(sorted(whole))
        if fault == "flip":
            member.flip(piece)
        else:
            del member.pieces[piece]
        # Scrub or inventory would find it in days; here the node finds it at once.
        chunk, _, number = piece.rpartition(".")
        cluster.damage.add(chunk, int(number), node, "found by the simulated scrub")  # type: ignore[arg-type]
        await trio.sleep(60)


@pytest.mark.parametrize("crash", [False, True], ids=["steady", "crashing"])
async def test_promises_hold_under_faults(autojump_clock: trio.testing.MockClock, seed: int, crash: bool) -> None:
    cluster = Cluster()
    cluster.random.seed(seed)
    ledger = Ledger()
    lives = 3 if crash else 1
    for life in range(lives):
        async with cluster.running():
            with trio.move_on_after(random.Random(seed * 31 + life).uniform(5, 30) if life < lives - 1 else 1000):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(break_things, cluster, seed * 7 + life)
                    async with trio.open_nursery() as clients:
                        for number in range(CLIENTS):
                            clients.start_soon(client, cluster, ledger, seed * 1000 + life * 100 + number)
                    nursery.cancel_scope.cancel()
            if life < lives - 1:
                continue  # leaving the block is the crash
            await settle(cluster)
            await check_everything(cluster, ledger)


async def settle(cluster: Cluster) -> None:
    for member in cluster.members.values():
        member.down = member.silent = member.full = False
        member.return_volume()
    for _ in range(40):
        await trio.sleep(2 * GRACE)
        if cluster.status().health == "ok" and cluster.held_pieces() == await cluster.recorded_pieces():
            return


async def check_everything(cluster: Cluster, ledger: Ledger) -> None:
    for key in KEYS:
        try:
            got: bytes | None = await cluster.get(key)
        except NoSuchObject:
            got = ABSENT
        except Damaged as error:
            raise AssertionError(f"{key} is lost: {error}") from error
        assert got in ledger.possible(key), f"{key} holds {len(got or b'')} bytes that nobody put there last"
    listed = {manifest.name.key for manifest in (await list_objects(cluster.store, DEFAULT_BUCKET)).objects}
    assert all((key in listed) or ABSENT in ledger.possible(key) for key in KEYS)
    status = cluster.status()
    assert status.health == "ok", status.reasons
    assert cluster.held_pieces() == await cluster.recorded_pieces()
    assert await recount(cluster.kv, cluster.store.totals) == []
