"""Cut, write and read chunks against data nodes in memory, on a virtual clock."""

from __future__ import annotations

import hashlib
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from flared.chunks.budget import Lease, MemoryBudget
from flared.chunks.chunk import Chunk, Chunks
from flared.chunks.cutter import BodySource, Cutter
from flared.chunks.damage import DamageList
from flared.chunks.delays import HEDGE_SECONDS, STRAGGLER_SECONDS, Delay
from flared.chunks.inflight import InFlight
from flared.chunks.nodes import Nodes
from flared.chunks.read import PlainStream, read_whole
from flared.chunks.recent import RecentChunks
from flared.chunks.scheme import parse_scheme
from flared.chunks.write import write_chunk
from flared.cluster.ring import RingNode
from flared.cluster.states import NodeState
from flared.data.pieces import BLOCK_SIZE, LARGE_SIZE
from flared.errors import ChunkLost, NoPlacement, PiecesUnreachable, QuorumNotReached, VolumeFull
from flared.http.turns import Turns
from tests.support.piece_nodes import MemoryNode, MemorySource
from tests.support.threads import InlineThreads

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

KIB = 1024
Clock = trio.testing.MockClock


@asynccontextmanager
async def cluster(count: int = 3, total: int = 64 * 1024 * KIB) -> AsyncIterator[tuple[Chunks, list[MemoryNode]]]:
    members = [MemoryNode(f"data{number}") for number in range(1, count + 1)]
    nodes = Nodes()
    turns = Turns()
    async with trio.open_nursery() as nursery:
        await nursery.start(turns.run)
        for member in members:
            await nursery.start(member.run)
            nodes.set_node(member.name, member, NodeState.ONLINE)
        nodes.set_ring(RingNode(member.name, "z", 1.0) for member in members)
        bits = random.Random(7).getrandbits
        yield (
            Chunks(
                nodes=nodes,
                budget=MemoryBudget(total),
                stages=MemoryBudget(total),
                units=MemoryBudget(total),
                blocks=MemoryBudget(total),
                damage=DamageList(),
                in_flight=InFlight(),
                recent=RecentChunks(0),
                turns=turns,
                stragglers=Delay(turns, STRAGGLER_SECONDS),
                hedges=Delay(turns, HEDGE_SECONDS),
                prefetches=trio.Semaphore(8),
                threads=InlineThreads(),
                now=lambda: 1_700_000_000.0,
                random_bits=bits,
                spill_directory="/tmp",
            ),
            members,
        )
        nursery.cancel_scope.cancel()
    assert turns.statistics().failures == 0
    turns.close()


async def store(chunks: Chunks, plain: bytes, scheme: str = "replica:3", *, compress: bool = False) -> Chunk:
    digest = hashlib.sha256(plain).digest()
    return await write_chunk(chunks, plain, digest, scheme=parse_scheme(scheme), compress=compress)


async def load(chunks: Chunks, chunk: Chunk) -> bytes:
    buffer = memoryview(bytearray(chunk.stored)) if chunk.stored >= LARGE_SIZE else None
    return bytes(await read_whole(chunks, chunk, buffer))


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


BODIES = [
    b"x",
    noise(4 * KIB),
    b"text " * 5000,
    noise(LARGE_SIZE - 1),
    noise(LARGE_SIZE),
    b"text " * 100_000,
    noise(1_000_001),
]


@pytest.mark.parametrize("plain", BODIES, ids=len)
@pytest.mark.parametrize("compress", [False, True])
async def test_what_is_written_is_read_back(autojump_clock: Clock, plain: bytes, compress: bool) -> None:
    async with cluster() as (chunks, _):
        chunk = await store(chunks, plain, compress=compress)
        assert chunk.missing == ()
        assert await load(chunks, chunk) == plain


@pytest.mark.parametrize("size", [4 * KIB, 300 * KIB])
async def test_a_put_with_one_node_down_is_stored_at_the_quorum_and_notes_the_rest(
    autojump_clock: Clock, size: int
) -> None:
    async with cluster() as (chunks, members):
        members[1].down = True
        chunk = await store(chunks, noise(size))
        assert [chunk.nodes[number] for number in chunk.missing] == ["data2"]
        assert await load(chunks, chunk) == noise(size)


@pytest.mark.parametrize("size", [4 * KIB, 300 * KIB])
async def test_another_node_takes_the_piece_of_one_that_fails(autojump_clock: Clock, size: int) -> None:
    async with cluster(4) as (chunks, members):
        members[0].down = True
        chunk = await store(chunks, noise(size))
        assert chunk.missing == ()
        assert "data1" not in chunk.nodes


@pytest.mark.parametrize("size", [4 * KIB, 300 * KIB])
async def test_two_nodes_down_is_no_quorum(autojump_clock: Clock, size: int) -> None:
    async with cluster() as (chunks, members):
        members[0].down = members[1].down = True
        with pytest.raises(QuorumNotReached) as caught:
            await store(chunks, noise(size))
        assert (caught.value.wanted, caught.value.got) == (2, 1)


async def test_nodes_that_are_known_to_be_away_are_not_asked(autojump_clock: Clock) -> None:
    async with cluster() as (chunks, members):
        for member in members[:2]:
            chunks.nodes.set_state(member.name, NodeState.SUSPECT)
        with pytest.raises(NoPlacement):
            await store(chunks, noise(100))
        assert not any(member.puts for member in members)


@pytest.mark.parametrize("size", [4 * KIB, 300 * KIB])
async def test_full_nodes_are_named_as_the_reason(autojump_clock: Clock, size: int) -> None:
    async with cluster() as (chunks, members):
        for member in members:
            member.full = True
        with pytest.raises(VolumeFull):
            await store(chunks, noise(size))


@pytest.mark.parametrize("size", [4 * KIB, 300 * KIB])
async def test_a_put_does_not_wait_for_a_silent_node_beyond_the_quorum(autojump_clock: Clock, size: int) -> None:
    async with cluster() as (chunks, members):
        members[2].silent = True
        with trio.fail_after(1):
            chunk = await store(chunks, noise(size))
        assert [chunk.nodes[number] for number in chunk.missing] == ["data3"]


def damage_flip(node: MemoryNode, name: str) -> None:
    node.flip(name, at=len(node.pieces[name][1]) // 2)


def damage_lose(node: MemoryNode, name: str) -> None:
    del node.pieces[name]


@pytest.mark.parametrize("size", [4 * KIB, 300 * KIB])
@pytest.mark.parametrize("harm", [damage_flip, damage_lose])
async def test_damage_is_read_around_and_noted(
    autojump_clock: Clock, size: int, harm: Callable[[MemoryNode, str], None]
) -> None:
    async with cluster() as (chunks, members):
        chunk = await store(chunks, noise(size))
        first = next(member for member in members if member.name == chunk.nodes[0])
        harm(first, f"{chunk.id}.0")
        assert await load(chunks, chunk) == noise(size)
        assert chunks.damage.holds(chunk.id, 0)


@pytest.mark.parametrize("size", [4 * KIB, 300 * KIB])
async def test_no_good_piece_is_an_error_and_never_data(autojump_clock: Clock, size: int) -> None:
    async with cluster() as (chunks, members):
        chunk = await store(chunks, noise(size))
        for member in members:
            for name in list(member.pieces):
                member.flip(name)
        with pytest.raises(ChunkLost):
            await load(chunks, chunk)


@pytest.mark.parametrize("size", [4 * KIB, 300 * KIB])
async def test_silence_is_never_taken_for_loss(autojump_clock: Clock, size: int) -> None:
    async with cluster() as (chunks, members):
        chunk = await store(chunks, noise(size))
        members[0].down = members[1].down = True
        for name in list(members[2].pieces):
            del members[2].pieces[name]
        with pytest.raises(PiecesUnreachable):
            await load(chunks, chunk)


async def read_stream(chunks: Chunks, chunk: Chunk, start: int, length: int, unit: int) -> bytes:
    stream = PlainStream(chunks, chunk, start, length)
    await stream.prepare()
    buffer = memoryview(bytearray(unit))
    parts = []
    while (view := await stream.next(buffer)) is not None:
        parts.append(bytes(view))
    await stream.close()
    return b"".join(parts)


@pytest.mark.parametrize(
    ("start", "length"), [(0, 1_000_001), (0, 1), (1_000_000, 1), (BLOCK_SIZE - 1, 2), (300_000, 500_000)]
)
@pytest.mark.parametrize("unit", [BLOCK_SIZE, 4 * BLOCK_SIZE])
async def test_a_stream_gives_exactly_its_range(autojump_clock: Clock, start: int, length: int, unit: int) -> None:
    plain = noise(1_000_001)
    async with cluster() as (chunks, _):
        chunk = await store(chunks, plain)
        assert await read_stream(chunks, chunk, start, length, unit) == plain[start : start + length]


@pytest.mark.parametrize(("start", "length"), [(0, 1_000_001), (1_000_000, 1), (BLOCK_SIZE - 1, 2), (300_000, 500_000)])
async def test_slices_and_units_make_up_the_same_range(autojump_clock: Clock, start: int, length: int) -> None:
    plain = noise(1_000_001)
    async with cluster() as (chunks, _):
        stream = PlainStream(chunks, await store(chunks, plain), start, length)
        await stream.prepare()
        buffer = memoryview(bytearray(2 * BLOCK_SIZE))
        got = b""
        for turn in range(1000):
            part = await (stream.next(buffer) if turn % 5 == 4 else stream.next_slice(buffer, 32_768))
            if part is None:
                break
            got += bytes(part)
        await stream.close()
        assert got == plain[start : start + length]


async def test_a_stream_that_was_cut_while_it_rested_is_asked_for_again(autojump_clock: Clock) -> None:
    plain = noise(1_000_001)
    async with cluster() as (chunks, members):
        chunk = await store(chunks, plain, "replica:1")
        stream = PlainStream(chunks, chunk, 0, len(plain))
        buffer = memoryview(bytearray(BLOCK_SIZE))
        got = bytes(await stream.next(buffer) or b"")
        next(member for member in members if member.name == chunk.nodes[0]).cut_streams()
        while (view := await stream.next(buffer)) is not None:
            got += bytes(view)
        assert got == plain


async def test_a_stream_goes_on_elsewhere_when_its_node_dies_on_the_way(autojump_clock: Clock) -> None:
    plain = noise(1_000_001)
    async with cluster() as (chunks, members):
        chunk = await store(chunks, plain)
        stream = PlainStream(chunks, chunk, 0, len(plain))
        buffer = memoryview(bytearray(BLOCK_SIZE))
        view = await stream.next(buffer)
        assert view is not None
        got = bytes(view)
        next(member for member in members if member.name == chunk.nodes[0]).down = True
        while (view := await stream.next(buffer)) is not None:
            got += bytes(view)
        await stream.close()
        assert got == plain


async def test_a_wrong_block_in_the_middle_is_never_given_out(autojump_clock: Clock) -> None:
    plain = noise(1_000_001)
    async with cluster() as (chunks, members):
        chunk = await store(chunks, plain, "replica:1")
        next(member for member in members if member.name == chunk.nodes[0]).flip(f"{chunk.id}.0", at=600_000)
        stream = PlainStream(chunks, chunk, 0, len(plain))
        buffer = memoryview(bytearray(BLOCK_SIZE))
        good = [bytes(await stream.next(buffer) or b"") for _ in range(2)]
        assert b"".join(good) == plain[: 2 * BLOCK_SIZE]
        with pytest.raises(ChunkLost):
            await stream.next(buffer)


async def cut(source: BodySource, size: int, chunks: Chunks) -> tuple[list[bytes], list[bool]]:
    async def lease(want: int) -> Lease:
        return await chunks.budget.lease(want)

    cutter = Cutter(
        source,
        size,
        budget=chunks.budget,
        stages=chunks.stages,
        threads=chunks.threads,
        obtain=lease,
        spill_directory="/tmp",
    )
    parts, lasts = [], []
    while (piece := await cutter.next()) is not None:
        parts.append(bytes(piece.view))
        lasts.append(piece.last)
        piece.release()
    return parts, lasts


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 131_072, 131_073, 400_000, 700_000])
@pytest.mark.parametrize("part", [1000, 65_536, 10_000_000])
async def test_cutting_keeps_every_byte_and_knows_the_last_chunk(
    autojump_clock: Clock, known: bool, size: int, part: int
) -> None:
    data = noise(size)
    async with cluster() as (chunks, _):
        parts, lasts = await cut(MemorySource(data, known=known, part=part), 65_536, chunks)
        assert b"".join(parts) == data
        assert all(len(part) == 65_536 for part in parts[:-1])
        assert lasts == [False] * (len(parts) - 1) + [True] * bool(parts)
        assert chunks.budget.statistics().leased == 0
        assert chunks.stages.statistics().leased == 0


async def test_a_slow_upload_gives_its_lease_to_those_who_wait(autojump_clock: Clock) -> None:
    """One slow sender holds the only lease; a fast one gets it within the fill time, and both bodies are whole."""
    data = noise(3 * 1024 * KIB)
    async with cluster(total=1024 * KIB) as (chunks, _):
        done: dict[str, float] = {}

        async def run(name: str, source: BodySource) -> None:
            parts, _ = await cut(source, 1024 * KIB, chunks)
            assert b"".join(parts) == data
            done[name] = trio.current_time()

        started = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, "slow", MemorySource(data, part=20_000, pause=0.5))
            await trio.sleep(20)
            nursery.start_soon(run, "fast", MemorySource(data))
        assert done["fast"] - started - 20 < 10
        assert done["slow"] - started > 60
