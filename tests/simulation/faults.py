"""The faults of a simulation: at the nodes (fakes, or real code over disks in memory), and between them.

Each fault is counted by its kind, so that a run can show that it did happen.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING

import trio

from tests.support.cluster import REPAIR_AFTER, Cluster, SmallNode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.support.links import Link
    from tests.support.real_cluster import RealCluster, RealMember

Counts = Counter[str]

FAKE_FAULTS = ["down", "silent", "full", "flip", "lose", "wipe", "island", "disk"]
REAL_FAULTS = ["crash", "power cut", "blackout", "full disk", "bit flip", "failed disk", "new disks"]
NETWORK_FAULTS = ["delay", "slow", "cut to", "cut from", "cut", "refuse", "reset", "lost reply"]


def deck(rng: random.Random, kinds: Sequence[str], first: int = 0) -> Iterator[str]:
    """Every kind in turn, in an order of its own each time; number ``first`` to begin with, as a life may be short."""
    yield kinds[first % len(kinds)]
    while True:
        yield from rng.sample(kinds, len(kinds))


async def disturb(links: Sequence[Link], seed: int, counts: Counts) -> None:
    """Faults between the api node and its data nodes, until cancelled; one at a time on each link."""
    rng = random.Random(seed)
    kinds = deck(rng, NETWORK_FAULTS)
    free = list(links)

    async def hold(link: Link, kind: str, seconds: float) -> None:
        lost = link.replies_lost
        try:
            start_fault(link, kind, rng)
            await trio.sleep(seconds)
        finally:
            link.heal()
            # A reply is lost only if there was one.
            counts[kind] += link.replies_lost - lost if kind == "lost reply" else 1
            free.append(link)

    async with trio.open_nursery() as nursery:
        while True:
            await trio.sleep(rng.uniform(0.1, 5))
            if free:
                link = free.pop(rng.randrange(len(free)))
                nursery.start_soon(hold, link, next(kinds), rng.choice([rng.uniform(0.1, 3), rng.uniform(3, 25)]))


def start_fault(link: Link, kind: str, rng: random.Random) -> None:
    match kind:
        case "delay":
            link.delay(rng.choice([0.05, 0.5, 3.0]))
        case "slow":
            link.slow(rng.choice([20_000, 200_000, 2_000_000]))
        case "cut to":
            link.cut_to()
        case "cut from":
            link.cut_from()
        case "cut":
            link.cut()
        case "refuse":
            link.refuse()
        case "reset":
            link.reset()
        case "lost reply":
            link.lose_reply()


async def break_real(cluster: RealCluster, seed: int, first: int, counts: Counts) -> None:
    """One node at a time crashes, loses power or its disks, is full or wrong; or all lose power at once."""
    rng = random.Random(seed)
    members = list(cluster.real.values())
    kinds = deck(rng, REAL_FAULTS, first)
    while True:
        await trio.sleep(rng.uniform(0.2, 6))
        kind = next(kinds)
        counts[kind] += 1
        await break_one(cluster, rng.choice(members), kind, rng)


async def break_one(cluster: RealCluster, member: RealMember, kind: str, rng: random.Random) -> None:
    match kind:
        case "crash":
            await member.stop(power=False)
            await trio.sleep(rng.uniform(0, 15))
            member.start()
        case "power cut":
            await member.cut_power(rng.randint(1, 5))
            await trio.sleep(rng.uniform(0, 15))
            member.start()
        case "blackout":
            # What was acknowledged is on the platters of a quorum.
            for each in cluster.real.values():
                await each.stop(power=True)
            await trio.sleep(rng.uniform(0, 5))
            for each in cluster.real.values():
                each.start()
                await trio.sleep(rng.uniform(0, 2))
        case "full disk":
            member.fill()
            await trio.sleep(rng.uniform(1, 20))
            await member.recover()
        case "failed disk":
            member.fail_volume()
            await trio.sleep(rng.choice([rng.uniform(0.1, 60), REPAIR_AFTER + rng.uniform(0, 60)]))
            await member.recover()
        case "bit flip":
            if await is_whole(cluster) and await member.flip() is not None:
                await wait_whole(cluster)
        case "new disks":
            if await is_whole(cluster):
                await member.replace_disks()
                await wait_whole(cluster)


async def is_whole(cluster: RealCluster) -> bool:
    """Return whether all pieces match the records: a second loss is more than the scheme promises to survive."""
    return cluster.status().health == "ok" and not await cluster.find_bad()


async def wait_whole(cluster: RealCluster) -> None:
    for _ in range(100):
        await trio.sleep(30)
        if await is_whole(cluster):
            return


async def break_fakes(cluster: Cluster, seed: int, first: int, counts: Counts) -> None:
    """One node at a time is away, silent, full, wrong or empty: what replica:3 with quorum 2 must bear."""
    rng = random.Random(seed)
    members = list(cluster.members.values())
    kinds = deck(rng, FAKE_FAULTS, first)
    while True:
        await trio.sleep(rng.uniform(0.5, 20))
        member = rng.choice(members)
        fault = next(kinds)
        counts[fault] += 1
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
    """Return whether all others are away: a write acknowledged now would be on this node alone."""
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
