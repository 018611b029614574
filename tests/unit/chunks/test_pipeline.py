"""Cut, write and read chunks against data nodes in memory, on a virtual clock."""

from __future__ import annotations

import hashlib
import os
import random
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import lz4.block
import pytest
import trio
import trio.testing

from flared.chunks.budget import Lease, MemoryBudget
from flared.chunks.chunk import ChunkRecord, Chunks
from flared.chunks.chunker import OWN_SIZE, BodySource, Chunker
from flared.chunks.codec import FRAME_SIZE, parse_frames
from flared.chunks.damage import DamageList
from flared.chunks.delays import HEDGE_SECONDS, STRAGGLER_SECONDS, Delay
from flared.chunks.gatherer import read_whole
from flared.chunks.inflight import InFlight
from flared.chunks.nodes import Nodes
from flared.chunks.recent import RecentChunks
from flared.chunks.scheme import parse_scheme
from flared.chunks.spill import Spills
from flared.chunks.stream import open_stream
from flared.chunks.write import write_chunk
from flared.cluster.ring import RingNode
from flared.cluster.states import NodeState
from flared.data.pieces import (
    BLOCK_SIZE,
    CODEC_LZ4,
    CODEC_LZ4_BLOCKS,
    CODEC_PLAIN,
    LARGE_SIZE,
    Piece,
    describe_piece,
)
from flared.errors import Busy, ChunkLost, NoPlacement, PiecesUnreachable, QuorumNotReached, VolumeFull
from flared.http.turns import Turns
from flared.names import piece_name
from tests.support.cluster import node_name
from tests.support.old_ids import old_chunk_id
from tests.support.piece_nodes import MemoryNode, MemorySource
from tests.support.threads import InlineThreads

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from flared.chunks.units import ChunkStream

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
                spills=Spills("/tmp", total, InlineThreads()),
                rereads=trio.Semaphore(2),
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
            ),
            members,
        )
        nursery.cancel_scope.cancel()
    assert turns.statistics().failures == 0
    turns.close()


async def store(chunks: Chunks, plain: bytes, scheme: str = "replica:3", *, compress: bool = False) -> ChunkRecord:
    digest = hashlib.sha256(plain).digest()
    return await write_chunk(chunks, plain, digest, scheme=parse_scheme(scheme), compress=compress)


async def load(chunks: Chunks, chunk: ChunkRecord) -> bytes:
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


KINDS = {
    "plain": (noise(1_000_001), False),
    "frames": (
        b"".join(b"line %d of a text, %s\n" % (n, noise(20, n).hex().encode()) for n in range(17_000))[:1_000_001],
        True,
    ),
}
"""Bodies of the two shapes that are passed on bit by bit, and whether they are compressed."""
RANGES = [(0, 1_000_001), (0, 1), (1_000_000, 1), (BLOCK_SIZE - 1, 2), (300_000, 500_000), (0, 1000)]


async def rest_of(stream: ChunkStream, *, slow: bool = False, got: bytearray | None = None) -> bytes:
    """Read the rest of it; also add it to ``got``, even after a failure."""
    got = bytearray() if got is None else got
    while (view := await stream.next(slow=slow)) is not None:
        got += view
    await stream.close()
    return bytes(got)


async def only_node(chunks: Chunks, members: list[MemoryNode], kind: str) -> tuple[ChunkRecord, MemoryNode]:
    plain, compress = KINDS[kind]
    chunk = await store(chunks, plain, "replica:1", compress=compress)
    return chunk, next(member for member in members if member.name == chunk.nodes[0])


@pytest.mark.parametrize(("start", "length"), RANGES)
@pytest.mark.parametrize("prepared", [True, False])
@pytest.mark.parametrize("taken", [0, 40, 64])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_stream_gives_exactly_its_range(
    autojump_clock: Clock, kind: str, start: int, length: int, prepared: bool, taken: int
) -> None:
    """With large units, with small ones, and where none can be had."""
    plain, compress = KINDS[kind]
    async with cluster() as (chunks, _):
        chunk = await store(chunks, plain, compress=compress)
        assert chunk.codec == (CODEC_LZ4_BLOCKS if compress else CODEC_PLAIN)
        assert chunks.units.reserve_nowait(taken * 1024 * KIB)
        stream = open_stream(chunks, chunk, start, length)
        if prepared:
            await stream.prepare()
        assert await rest_of(stream) == plain[start : start + length]
        assert chunks.units.statistics().leased == taken * 1024 * KIB
        assert chunks.blocks.statistics().leased == 0


@pytest.mark.parametrize(("start", "length"), RANGES)
@pytest.mark.parametrize("kind", KINDS)
async def test_slices_and_units_make_up_the_same_range(
    autojump_clock: Clock, kind: str, start: int, length: int
) -> None:
    """A client who is slow from time to time: what it has not taken comes again."""
    plain, compress = KINDS[kind]
    async with cluster(total=4 * 1024 * KIB) as (chunks, _):
        stream = open_stream(chunks, await store(chunks, plain, compress=compress), start, length)
        others = chunks.units.lease_nowait(2 * 1024 * KIB)
        assert others is not None
        got = b""
        for turn in range(1000):
            view = await stream.next(slow=turn % 7 > 2)
            if view is None:
                break
            taken = len(view) // 3
            got += bytes(view[:taken])
            if not await stream.put_back(len(view) - taken):
                got += bytes(view[taken:])
            else:
                assert chunks.units.statistics().leased == others.view.nbytes
        await stream.close()
        assert got == plain[start : start + length]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_stream_that_was_cut_while_it_rested_is_asked_for_again(autojump_clock: Clock, kind: str) -> None:
    async with cluster() as (chunks, members):
        chunk, node = await only_node(chunks, members, kind)
        assert chunks.units.reserve_nowait(40 * 1024 * KIB)  # so that units are small
        stream = open_stream(chunks, chunk, 0, chunk.size)
        got = bytes(await stream.next(slow=False) or b"")
        node.cut_streams()
        assert got + await rest_of(stream) == KINDS[kind][0]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_stream_goes_on_elsewhere_when_its_node_dies_on_the_way(autojump_clock: Clock, kind: str) -> None:
    plain, compress = KINDS[kind]
    async with cluster() as (chunks, members):
        chunk = await store(chunks, plain, compress=compress)
        assert chunks.units.reserve_nowait(40 * 1024 * KIB)  # so that units are small
        stream = open_stream(chunks, chunk, 0, len(plain))
        got = bytes(await stream.next(slow=False) or b"")
        next(member for member in members if member.name == chunk.nodes[0]).down = True
        assert got + await rest_of(stream) == plain


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_wrong_block_in_the_middle_is_never_given_out(autojump_clock: Clock, kind: str, slow: bool) -> None:
    plain = KINDS[kind][0]
    async with cluster() as (chunks, members):
        chunk, node = await only_node(chunks, members, kind)
        node.flip(f"{chunk.id}.0", at=chunk.stored * 9 // 10)
        assert chunks.units.reserve_nowait(40 * 1024 * KIB)  # so that units are small
        stream = open_stream(chunks, chunk, 0, len(plain))
        got = bytearray()
        with pytest.raises(ChunkLost):
            await rest_of(stream, slow=slow, got=got)
        assert len(got) >= BLOCK_SIZE
        assert plain.startswith(got)


@pytest.mark.parametrize("slow", [False, True])
async def test_a_frame_that_decodes_to_something_else_is_never_given_out(autojump_clock: Clock, slow: bool) -> None:
    """The node's checksums hold, as after a fault of the codec: the frame's own does not."""
    plain, _ = KINDS["frames"]
    async with cluster() as (chunks, members):
        chunk, node = await only_node(chunks, members, "frames")
        piece, stored = node.pieces[f"{chunk.id}.0"]
        frames = parse_frames(stored, len(stored), len(plain))
        changed = bytearray(stored)
        changed[frames[2].start + 20] ^= 1
        node.pieces[piece.name] = (
            describe_piece(piece.name, changed, codec=piece.codec, scheme=piece.scheme, plain_size=len(plain)),
            bytes(changed),
        )
        stream = open_stream(chunks, chunk, 0, len(plain))
        got = bytearray()
        with pytest.raises(ChunkLost):
            await rest_of(stream, slow=slow, got=got)
        assert plain.startswith(got)
        assert len(got) <= 2 * FRAME_SIZE
        assert chunks.damage.holds(chunk.id, 0)


def old_lz4(chunks: Chunks, plain: bytes) -> tuple[ChunkRecord, Piece, bytes]:
    """A chunk as Flare stored it before there were frames."""
    stored = lz4.block.compress(plain)
    name = old_chunk_id(hashlib.sha256(plain).digest(), 7)
    piece = describe_piece(piece_name(name, 0), stored, codec=CODEC_LZ4, scheme="replica:1", plain_size=len(plain))
    return (
        ChunkRecord(name, len(plain), len(stored), CODEC_LZ4, "replica:1", 1, (node_name("data1"),), ()),
        piece,
        stored,
    )


@pytest.mark.parametrize("spill", [0, 64 * 1024 * KIB])
@pytest.mark.parametrize("size", [200_000, 1_000_001])
async def test_an_old_chunk_is_read_by_the_slow_with_nothing_leased(
    autojump_clock: Clock, size: int, spill: int
) -> None:
    """Set aside in a file; without room for that, read again for each slice."""
    plain = KINDS["frames"][0][:size]
    async with cluster() as (chunks, members):
        chunks.spills.resize(spill)
        chunk, piece, stored = old_lz4(chunks, plain)
        members[0].pieces[piece.name] = piece, stored
        stream = open_stream(chunks, chunk, 1000, size - 1000)
        view = await stream.next(slow=False)
        assert view is not None
        chunks.units.resize(2 * chunks.units.statistics().leased)  # so that others want it
        got = bytes(view[:50_000])
        assert await stream.put_back(len(view) - 50_000)
        while (view := await stream.next(slow=True)) is not None:
            assert chunks.units.statistics().leased == chunks.blocks.statistics().leased == 0
            assert len(view) <= OWN_SIZE
            got += bytes(view)
        await stream.close()
        assert got == plain[1000:]
        assert chunks.spills.statistics().bytes == chunks.spills.statistics().files == 0


async def cut(source: BodySource, size: int, chunks: Chunks) -> tuple[list[bytes], list[bool]]:
    async def lease(want: int) -> Lease:
        return await chunks.budget.lease(want)

    chunker = Chunker(
        source,
        size,
        budget=chunks.budget,
        stages=chunks.stages,
        spills=chunks.spills,
        obtain=lease,
    )
    parts, lasts = [], []
    while (piece := await chunker.next()) is not None:
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


async def test_an_upload_that_trickles_is_set_aside_and_whole(autojump_clock: Clock) -> None:
    """The stages are wanted by others: it holds none, and no lease, while its bytes come; known length or not."""
    data = noise(400_000)
    async with cluster(total=1024 * KIB) as (chunks, _):
        assert chunks.stages.reserve_nowait(512 * KIB)
        for known in (True, False):
            source = MemorySource(data, known=known, part=5000, pause=0.4)
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def watch() -> None:
                    await trio.sleep(8)
                    assert chunks.stages.statistics().leased == 512 * KIB
                    assert chunks.budget.statistics().leased == 0
                    assert chunks.spills.statistics().files == 1

                parts, lasts = await cut(source, 256 * KIB, chunks)
            assert b"".join(parts) == data
            assert lasts == [False, True]
            assert chunks.spills.statistics().bytes == chunks.spills.statistics().files == 0


async def test_where_the_spills_are_full_only_the_slow_are_refused(autojump_clock: Clock) -> None:
    data = noise(400_000)
    async with cluster(total=1024 * KIB) as (chunks, _):
        chunks.spills.resize(100_000)
        assert chunks.stages.reserve_nowait(512 * KIB)
        with pytest.raises(Busy):
            await cut(MemorySource(data, part=5000, pause=0.4), 256 * KIB, chunks)
        assert chunks.spills.statistics().bytes == chunks.spills.statistics().files == 0
        assert chunks.budget.statistics().leased == 0
        parts, _ = await cut(MemorySource(data), 256 * KIB, chunks)
        assert b"".join(parts) == data


async def test_a_disk_that_returns_other_bytes_than_it_took_stores_none_of_them(
    autojump_clock: Clock, tmp_path: Path
) -> None:
    spills = Spills(str(tmp_path), 1 << 20, InlineThreads())
    spill = await spills.open()
    await spill.append(memoryview(noise(100_000)))
    assert await spill.read_unit(1) == noise(100_000)[OWN_SIZE : 2 * OWN_SIZE]
    os.pwrite(spill._file.fileno(), b"rotten", 40_000)
    for read in (partial(spill.read_unit, 1), partial(spill.read_all, memoryview(bytearray(100_000)))):
        with pytest.raises(Busy, match="other bytes"):
            await read()
    spill.close()


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
