"""Schemes whose pieces differ: put, get, ranges, loss, damage, repair, copy, delete, by rooms that do not know them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from flared.catalog.chunks import list_chunks
from flared.chunks.delays import HEDGE_SECONDS
from flared.chunks.scheme import parse_scheme
from flared.errors import Unavailable
from flared.names import PieceName
from flared.objects.copy import copy_object
from flared.objects.delete import delete_object
from flared.objects.get import open_object
from flared.objects.ranges import RangeRequest
from tests.support.cluster import CHUNK, GRACE, REPAIR_AFTER, Cluster, name
from tests.support.parity import PARITY, known_parity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.cluster import SmallNode

Clock = trio.testing.MockClock

SIZES = (1, 4096, 65_536, 131_072, 300_000, CHUNK, 3 * CHUNK + 17)


@pytest.fixture(autouse=True)
def parity() -> Iterator[None]:
    with known_parity():
        yield


@pytest.fixture(params=[PARITY, "rs:2+1", "xor:2+1"])
def scheme(request: pytest.FixtureRequest) -> str:
    """Each needs any two of three pieces."""
    return str(request.param)


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


async def fill(cluster: Cluster) -> dict[str, bytes]:
    bodies = {str(size): noise(size) for size in SIZES}
    for key, data in bodies.items():
        assert (await cluster.put(key, data)).created
    return bodies


async def check(cluster: Cluster, bodies: dict[str, bytes]) -> None:
    for key, data in bodies.items():
        assert await cluster.get(key) == data, key


async def read_range(cluster: Cluster, key: str, first: int, last: int) -> bytes:
    async with open_object(cluster.store, name(key), range=RangeRequest(first, last)) as reading:
        parts = []
        while (view := await reading.next()) is not None:
            parts.append(bytes(view))
        return b"".join(parts)


async def test_pieces_differ_and_make_the_object(autojump_clock: Clock, scheme: str) -> None:
    cluster = Cluster(4, scheme=scheme)
    async with cluster.running():
        bodies = await fill(cluster)
        await check(cluster, bodies)
        for record in await list_chunks(cluster.kv, None, 1000):
            used = parse_scheme(scheme).for_size(record.size)
            assert record.scheme == used.text
            held = [cluster.members[node].pieces[f"{record.id}.{n}"] for n, node in enumerate(record.nodes) if node]
            assert [piece.size for piece, _ in held] == [used.piece_size(record.stored)] * used.pieces
        stored = sum(len(payload) for member in cluster.members.values() for _, payload in member.pieces.values())
        assert stored < 1.6 * sum(map(len, bodies.values()))
        for key, first, last in (
            ("4096", 5, 4000),
            ("300000", 150_000, 150_010),
            (str(SIZES[-1]), CHUNK - 3, CHUNK + 3),
        ):
            assert await read_range(cluster, key, first, last) == bodies[key][first : last + 1]
        assert cluster.store.chunks.budget.statistics().leased == 0
        assert cluster.store.chunks.units.statistics().leased == 0


@pytest.mark.parametrize("dead", [1, 2, 3, 4])
async def test_any_node_may_be_lost_and_two_are_too_many(autojump_clock: Clock, scheme: str, dead: int) -> None:
    cluster = Cluster(4, scheme=scheme)
    async with cluster.running():
        bodies = await fill(cluster)
        cluster.members[f"data{dead}"].down = True
        await check(cluster, bodies)
        cluster.members[f"data{dead % 4 + 1}"].down = True
        lost = 0
        for key, data in bodies.items():
            try:
                assert await cluster.get(key) == data
            except (Unavailable, ExceptionGroup):
                lost += 1
        assert lost


async def test_a_node_that_dies_in_the_middle_of_a_read(autojump_clock: Clock, scheme: str) -> None:
    cluster = Cluster(4, scheme=scheme)
    data = noise(6 * CHUNK)
    async with cluster.running():
        await cluster.put("a", data)
        async with open_object(cluster.store, name("a")) as reading:
            got = bytearray()
            while (view := await reading.next()) is not None:
                got += view
                cluster.members["data2"].down = True
                cluster.members["data2"].cut_streams()
            assert got == data


async def test_a_damaged_piece_is_never_used_and_is_mended(autojump_clock: Clock, scheme: str) -> None:
    cluster = Cluster(4, scheme=scheme)
    async with cluster.running():
        bodies = await fill(cluster)
        whole = {key: dict(member.pieces) for key, member in cluster.members.items()}
        for record in await list_chunks(cluster.kv, None, 1000):
            cluster.members[record.nodes[0] or ""].flip(f"{record.id}.0")
        await check(cluster, bodies)
        await trio.sleep(120)
        assert {key: dict(member.pieces) for key, member in cluster.members.items()} == whole
        assert cluster.status().health == "ok"


async def test_what_a_lost_disk_held_is_made_again_from_the_others(autojump_clock: Clock, scheme: str) -> None:
    cluster = Cluster(4, scheme=scheme)
    async with cluster.running():
        bodies = await fill(cluster)
        before = cluster.piece_count()
        cluster.members["data1"].down = True
        await trio.sleep(REPAIR_AFTER + 120)
        assert await cluster.recorded_pieces() == {held for held in cluster.held_pieces() if held[0] != "data1"}
        assert len(await cluster.recorded_pieces()) == before
        cluster.members["data2"].down = True
        await check(cluster, bodies)


async def test_a_silent_node_is_passed_over(autojump_clock: Clock, scheme: str) -> None:
    cluster = Cluster(4, scheme=scheme)
    async with cluster.running():
        bodies = await fill(cluster)
        cluster.members["data3"].silent = True
        started = trio.current_time()
        for key in ("1", "4096", "65536"):
            assert await cluster.get(key) == bodies[key]
        assert trio.current_time() - started < 3 * HEDGE_SECONDS + 0.1


async def test_copies_share_chunks_and_deletes_leave_nothing(autojump_clock: Clock, scheme: str) -> None:
    cluster = Cluster(4, scheme=scheme)
    async with cluster.running():
        bodies = await fill(cluster)
        for key in bodies:
            await copy_object(cluster.store, name(key), name(f"copy of {key}"))
            await delete_object(cluster.store, name(key))
        await trio.sleep(10 * GRACE)
        await check(cluster, {f"copy of {key}": data for key, data in bodies.items()})
        for key in bodies:
            await delete_object(cluster.store, name(f"copy of {key}"))
        await trio.sleep(10 * GRACE)
        assert cluster.piece_count() == 0


class Counter:
    """How many calls the nodes get."""

    def __init__(self, cluster: Cluster) -> None:
        self.calls: list[str] = []
        for member in cluster.members.values():
            self._count(member)

    def _count(self, member: SmallNode) -> None:
        request = member._request

        async def counted(size: int = 0) -> None:
            self.calls.append(member.name)
            await request(size)

        member._request = counted  # type: ignore[method-assign]


@pytest.mark.parametrize("scheme", ["replica:3", PARITY])
async def test_no_node_is_asked_twice_for_a_piece_it_has_just_denied(autojump_clock: Clock, scheme: str) -> None:
    cluster = Cluster(3, scheme=scheme)
    async with cluster.running():
        await cluster.put("a", noise(4096))
        (record,) = await list_chunks(cluster.kv, None, 10)
        first = cluster.members[record.nodes[0] or ""]
        del first.pieces[PieceName(f"{record.id}.0")]
        counter = Counter(cluster)
        assert await cluster.get("a") == noise(4096)
        await trio.sleep(1)
        assert f"{record.id}.0" in first.pieces
        # The reader asks it once; repair has it delete what may be there, and puts.
        assert counter.calls.count(first.name) == 3
        # The others are read once by the reader and once by repair.
        needed = 1 if scheme == "replica:3" else 2
        assert len(counter.calls) == 2 * needed + 3


async def test_a_part_is_read_from_the_node_that_holds_it(autojump_clock: Clock) -> None:
    cluster = Cluster(4, scheme="rs:2+1")
    data = noise(CHUNK)
    async with cluster.running():
        await cluster.put("a", data)
        (record,) = await list_chunks(cluster.kv, None, 10)
        counter = Counter(cluster)
        assert await read_range(cluster, "a", 10, 20) == data[10:21]
        assert counter.calls == [record.nodes[0]]
        half = parse_scheme("rs:2+1").piece_size(CHUNK)
        assert await read_range(cluster, "a", half - 1, half) == data[half - 1 : half + 1]
        assert counter.calls == [record.nodes[0], record.nodes[0], record.nodes[1]]


@pytest.mark.parametrize("lost", [0, 1])
async def test_a_degraded_read_asks_each_node_once(autojump_clock: Clock, lost: int) -> None:
    cluster = Cluster(3, scheme="rs:2+1")
    data = noise(CHUNK)
    async with cluster.running():
        await cluster.put("a", data)
        (record,) = await list_chunks(cluster.kv, None, 10)
        denying = cluster.members[record.nodes[lost] or ""]
        del denying.pieces[PieceName(f"{record.id}.{lost}")]
        counter = Counter(cluster)
        assert await cluster.get("a") == data
        await trio.sleep(1)
        assert f"{record.id}.{lost}" in denying.pieces
        # The reader asks it once; repair has it delete what may be there, and puts.
        assert counter.calls.count(denying.name) == 3
        # The reader and repair need two of the others each. What was passed on before the second piece was asked for is
        # read once more, to decode it.
        assert len(counter.calls) == 3 + 2 * 2 + lost
        counter.calls.clear()
        assert await cluster.get("a") == data
        assert len(counter.calls) == 2


async def test_a_node_that_is_away_is_not_asked(autojump_clock: Clock) -> None:
    cluster = Cluster(4, scheme="rs:2+1")
    data = noise(3 * CHUNK)
    async with cluster.running():
        await cluster.put("a", data)
        for member in cluster.members.values():
            member.down = True
            await trio.sleep(20)
            counter = Counter(cluster)
            started = trio.current_time()
            assert await cluster.get("a") == data
            assert trio.current_time() - started < HEDGE_SECONDS
            assert member.name not in counter.calls
            member.down = False
            await trio.sleep(20)
