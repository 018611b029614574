"""Scenarios of a cluster, each a sentence; on a virtual clock."""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from flared.catalog.chunks import find_chunk
from flared.catalog.chunks import list_chunks as list_all_chunks
from flared.catalog.garbage import list_due
from flared.catalog.manifest import ExtentId
from flared.catalog.packed import alias_of_chunk
from flared.catalog.restored import ORPHANS_KEPT_MS
from flared.errors import (
    BadDigest,
    Conflict,
    NoSuchObject,
    PreconditionFailed,
    QuorumNotReached,
    Unauthenticated,
    Unavailable,
    VolumeFull,
)
from flared.meta import keys
from flared.names import DEFAULT_BUCKET, BucketName, ChunkId, ObjectName, chunk_digest, piece_name
from flared.objects.buckets import create_bucket
from flared.objects.commit import ObjectHeaders
from flared.objects.conditions import Conditions
from flared.objects.copy import copy_object
from flared.objects.delete import delete_object
from flared.objects.digests import Digests
from flared.objects.get import open_object
from flared.objects.listing import list_chunks, list_objects
from flared.objects.put import put_object
from flared.objects.ranges import RangeRequest
from flared.upkeep.deletion import reconcile
from flared.upkeep.repair.missing import mark_many_missing, mark_missing
from tests.support.cluster import CHUNK, GRACE, REPAIR_AFTER, Cluster, name, reasons_of
from tests.support.piece_nodes import MemorySource

if TYPE_CHECKING:
    from flared.meta.kv import KV
    from flared.upkeep.membership.heartbeat import Heartbeat

Clock = trio.testing.MockClock


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


SIZES = [0, 1, 4096, 131_071, 131_072, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 5 * CHUNK + 17]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("known", [True, False])
async def test_what_is_put_is_got(autojump_clock: Clock, size: int, known: bool) -> None:
    cluster = Cluster()
    async with cluster.running():
        result = await cluster.put("a", noise(size), known=known)
        assert result.created
        assert result.manifest.size == size
        assert await cluster.get("a") == noise(size)
        digests = [hashlib.sha256(noise(size)[at : at + CHUNK]).digest() for at in range(0, size, CHUNK)]
        expected = hashlib.sha256(b"".join(digests)).hexdigest()[:32]
        assert result.manifest.etag == f"{expected}-{len(digests)}"
        page = await list_chunks(cluster.store, name("a"))
        assert [chunk_digest(record.id) for record in page.chunks] == digests
        assert cluster.store.chunks.budget.statistics().leased == 0


@pytest.mark.parametrize(
    ("first", "last"), [(0, 0), (CHUNK - 1, CHUNK), (0, 5 * CHUNK), (3 * CHUNK + 5, None), (None, 10), (None, 10**9)]
)
async def test_a_range_is_exactly_its_bytes(autojump_clock: Clock, first: int | None, last: int | None) -> None:
    data = noise(5 * CHUNK + 17)
    cluster = Cluster()
    async with cluster.running():
        await cluster.put("a", data)
        async with open_object(cluster.store, name("a"), range=RangeRequest(first, last)) as reading:
            parts = []
            while (view := await reading.next()) is not None:
                parts.append(bytes(view))
        if first is None:
            assert last is not None
            assert b"".join(parts) == data[-last:]
        else:
            assert b"".join(parts) == data[first : None if last is None else last + 1]


async def test_equal_chunks_are_stored_once(autojump_clock: Clock) -> None:
    cluster = Cluster()
    async with cluster.running():
        await cluster.put("a", noise(2 * CHUNK))
        before = cluster.piece_count()
        await cluster.put("b", noise(2 * CHUNK))
        assert cluster.piece_count() == before
        await delete_object(cluster.store, name("a"))
        await trio.sleep(10 * GRACE)
        assert await cluster.get("b") == noise(2 * CHUNK)


@pytest.mark.parametrize("size", [4096, CHUNK, 5 * CHUNK])
async def test_what_is_deleted_or_replaced_gives_its_space_back(autojump_clock: Clock, size: int) -> None:
    cluster = Cluster()
    async with cluster.running():
        for seed in range(4):
            await cluster.put("a", noise(size, seed))
        await copy_object(cluster.store, name("a"), name("b"))
        await delete_object(cluster.store, name("a"))
        await trio.sleep(10 * GRACE)
        assert await cluster.get("b") == noise(size, 3)
        assert cluster.held_pieces() == await cluster.recorded_pieces()
        await delete_object(cluster.store, name("b"))
        await trio.sleep(10 * GRACE)
        assert cluster.piece_count() == 0
        assert not await list_due(cluster.kv, 1 << 60, 10)
        assert cluster.status().totals.chunks == 0


async def test_a_reader_finishes_though_its_object_is_replaced(autojump_clock: Clock) -> None:
    cluster = Cluster()
    data = noise(5 * CHUNK)
    async with cluster.running():
        await cluster.put("a", data)
        async with open_object(cluster.store, name("a")) as reading:
            got = bytes(await reading.next() or b"")
            await cluster.put("a", noise(10, 2))
            await trio.sleep(10 * GRACE)
            while (view := await reading.next()) is not None:
                got += bytes(view)
        assert got == data
        await trio.sleep(10 * GRACE)
        assert cluster.held_pieces() == await cluster.recorded_pieces()


async def test_conditions_hold_at_the_moment_of_the_commit(autojump_clock: Clock) -> None:
    """Two puts with If-None-Match: * at once: one wins, the other is refused and leaves nothing."""
    cluster = Cluster()
    outcomes = []

    async def put(seed: int) -> None:
        source = MemorySource(noise(3 * CHUNK, seed), pause=0.01)
        try:
            await put_object(
                cluster.store, name("a"), source, headers=ObjectHeaders(), when=Conditions(if_none_match=("*",))
            )
            outcomes.append(seed)
        except PreconditionFailed:
            outcomes.append(-1)

    async with cluster.running():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(put, 1)
            nursery.start_soon(put, 2)
        winner = max(outcomes)
        assert sorted(outcomes) == [-1, winner]
        assert await cluster.get("a") == noise(3 * CHUNK, winner)
        await trio.sleep(20 * GRACE)
        assert cluster.held_pieces() == await cluster.recorded_pieces()


@pytest.mark.parametrize("size", [100, CHUNK, 3 * CHUNK])
async def test_a_wrong_digest_leaves_nothing(autojump_clock: Clock, size: int) -> None:
    cluster = Cluster()
    async with cluster.running():
        for digests in (Digests(md5=bytes(16)), Digests(sha256=bytes(32))):
            with pytest.raises(BadDigest):
                await put_object(
                    cluster.store, name("a"), MemorySource(noise(size)), headers=ObjectHeaders(), digests=digests
                )
        with pytest.raises(NoSuchObject):
            await cluster.get("a")
        await trio.sleep(20 * GRACE)
        assert cluster.piece_count() == 0


@pytest.mark.parametrize("size", [4096, 3 * CHUNK])
async def test_a_put_while_a_node_is_down_is_completed_when_it_returns(autojump_clock: Clock, size: int) -> None:
    cluster = Cluster()
    async with cluster.running():
        cluster.members["data2"].down = True
        await cluster.put("a", noise(size))
        assert await cluster.get("a") == noise(size)
        await trio.sleep(30)
        status = cluster.status()
        assert status.health == "degraded"
        assert any("data2" in reason for reason in reasons_of(status))
        cluster.members["data2"].down = False
        await trio.sleep(60)
        assert cluster.status().health == "ok"
        assert cluster.held_pieces() == await cluster.recorded_pieces()
        assert len(cluster.members["data2"].pieces) == len(cluster.members["data1"].pieces)


async def test_another_node_takes_what_a_dead_one_should_have(autojump_clock: Clock) -> None:
    cluster = Cluster(4)
    async with cluster.running():
        for seed in range(20):
            await cluster.put(f"k{seed}", noise(4096, seed))
        cluster.members["data1"].down = True
        await trio.sleep(REPAIR_AFTER + 120)
        cluster.members["data1"].pieces.clear()
        recorded = await cluster.recorded_pieces()
        assert len(recorded) == 60
        assert all(node != "data1" for node, _ in recorded)
        for seed in range(20):
            assert await cluster.get(f"k{seed}") == noise(4096, seed)


async def test_a_node_that_returns_after_its_pieces_were_rebuilt_gives_up_the_old_ones(autojump_clock: Clock) -> None:
    cluster = Cluster(4)
    async with cluster.running():
        for seed in range(20):
            await cluster.put(f"k{seed}", noise(4096, seed))
        cluster.members["data1"].down = True
        await trio.sleep(REPAIR_AFTER + 120)
        cluster.members["data1"].down = False
        await trio.sleep(10 * GRACE)
        assert cluster.held_pieces() == await cluster.recorded_pieces()
        assert cluster.status().health == "ok"


async def test_a_node_that_lost_its_disk_is_filled_again(autojump_clock: Clock) -> None:
    cluster = Cluster()
    async with cluster.running():
        for seed in range(10):
            await cluster.put(f"k{seed}", noise(4096, seed))
        member = cluster.members["data3"]
        member.pieces.clear()
        member.instance += 1
        await trio.sleep(120)
        assert len(member.pieces) == 10
        assert cluster.held_pieces() == await cluster.recorded_pieces()


async def test_metadata_from_a_backup_deletes_nothing_that_it_does_not_know(autojump_clock: Clock) -> None:
    cluster = Cluster()
    async with cluster.running():
        await cluster.put("old", noise(CHUNK))
        await cluster.put("new", noise(CHUNK, 2))
        (new,) = (await list_chunks(cluster.store, name("new"))).chunks
        (old,) = (await list_chunks(cluster.store, name("old"))).chunks
    # As after a restore: one chunk has no record, of another all pieces were deleted meanwhile.
    now = int(cluster.store.now() * 1000)
    await cluster.kv.commit({}, {keys.chunk(new.id): None, keys.object_("default", "new"): None})
    await cluster.kv.commit({}, {keys.shared(chunk_digest(new.id), new.scheme): None})
    await cluster.kv.commit({}, {keys.RESTORED: b'1{"t":%d,"r":%d}' % (now, now + 600_000 - ORPHANS_KEPT_MS)})
    held = {piece for _, piece in cluster.held_pieces() if piece.startswith(new.id)}
    for member in cluster.members.values():
        for piece in [piece for piece in member.pieces if piece.startswith(old.id)]:
            del member.pieces[piece]
    async with cluster.running():
        await trio.sleep(500)
        assert {piece for _, piece in cluster.held_pieces()} == held
        record = await find_chunk(cluster.kv, old.id)
        assert record is not None, "a lost chunk is still reported"
        assert len(record.missing) == len(cluster.members)
        await trio.sleep(200)
        for member in cluster.members.values():
            member.instance += 1
        await trio.sleep(10 * GRACE + 60)
        assert not cluster.held_pieces(), "then it is garbage like any other"


async def test_a_clock_that_jumps_makes_no_orphan_of_what_a_backup_does_not_know(autojump_clock: Clock) -> None:
    cluster = Cluster()
    async with cluster.running():
        backup = await cluster.kv.scan(b"", b"\xff", 10**6)
        await cluster.put("new", noise(4096))
    await restore(cluster, backup, kept_seconds=7 * 86400)
    async with cluster.running():
        await trio.sleep(60)
        cluster.clock_ahead = 30 * 86400.0
        for member in cluster.members.values():
            member.instance += 1
        await trio.sleep(20 * GRACE)
        assert cluster.piece_count() == 3


async def restore(cluster: Cluster, backup: list[tuple[bytes, bytes]], *, kept_seconds: int) -> None:
    """As ``flared restore`` does, with less time until orphans are garbage."""
    await cluster.kv.commit({}, {key: None for key, _ in await cluster.kv.scan(b"", b"\xff", 10**6)})
    now = int(cluster.store.now() * 1000)
    rows = {key: value for key, value in backup if not key.startswith(b"shared/")}
    await cluster.kv.commit(
        {}, {**rows, keys.RESTORED: b'1{"t":%d,"r":%d}' % (now, now + kept_seconds * 1000 - ORPHANS_KEPT_MS)}
    )


@pytest.mark.parametrize("hosts_return", [True, False])
async def test_copies_that_were_moved_since_the_backup_are_found(autojump_clock: Clock, hosts_return: bool) -> None:
    """Three of six hosts die one after the other, and all they had is rebuilt elsewhere, some of it twice."""
    cluster = Cluster(6)
    async with cluster.running():
        for seed in range(30):
            await cluster.put(f"k{seed}", noise(4096, seed))
        await cluster.put("large", noise(7 * CHUNK, 99))
        backup = await cluster.kv.scan(b"", b"\xff", 10**6)
        recorded = await cluster.recorded_pieces()
        for victim in ("data1", "data2", "data3"):
            cluster.members[victim].down = True
            cluster.members[victim].pieces.clear()
            await trio.sleep(REPAIR_AFTER + 60)
            if hosts_return:
                cluster.members[victim].down = False
                cluster.members[victim].instance += 1
                await trio.sleep(60)
        assert cluster.status().health == "ok" if hosts_return else "degraded"
        moved = recorded - cluster.held_pieces()
    await restore(cluster, backup, kept_seconds=3 * int(REPAIR_AFTER))
    lost = [
        record
        for record in await list_all_chunks(cluster.kv, None, 1000)
        if all((node, piece_name(record.id, number)) in moved for number, node in enumerate(record.nodes))
    ]
    assert lost, "of some chunks no copy is where the backup says"
    held = {piece for _, piece in cluster.held_pieces()}
    async with cluster.running():
        await trio.sleep(120 if hosts_return else REPAIR_AFTER + 120)
        for seed in range(30):
            assert await cluster.get(f"k{seed}") == noise(4096, seed)
        assert await cluster.get("large") == noise(7 * CHUNK, 99)
        status = cluster.status()
        assert (status.heal.lost, status.heal.backlog) == (0, 0)
        assert status.reconcile.adopted >= len(lost)
        assert held <= {piece for _, piece in cluster.held_pieces()}
    async with cluster.running():
        await trio.sleep(3 * REPAIR_AFTER + 10 * GRACE)
        for member in cluster.members.values():
            member.instance += 1
        await trio.sleep(10 * GRACE + 60)
        assert cluster.held_pieces() == await cluster.recorded_pieces(), "then what is one too many goes"
        for seed in range(30):
            assert await cluster.get(f"k{seed}") == noise(4096, seed)
        assert await cluster.get("large") == noise(7 * CHUNK, 99)


async def test_a_copy_elsewhere_stays_until_the_recorded_one_is_known_to_be_there(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the metadata came from a file without flared restore."""

    async def unreadable(after: str, limit: int) -> list[tuple[str, int]]:
        raise Unavailable("a volume is being read")

    cluster = Cluster(4)
    async with cluster.running():
        await cluster.put("a", noise(4096))
        (record,) = (await list_chunks(cluster.store, name("a"))).chunks
        elsewhere = next(node for node in cluster.members if node not in record.nodes)
        for number, node in enumerate(record.nodes):
            assert node is not None
            piece = piece_name(record.id, number)
            cluster.members[elsewhere].pieces[piece] = cluster.members[node].pieces.pop(piece)
            monkeypatch.setattr(cluster.members[node], "list", unreadable)
        cluster.members[elsewhere].instance += 1
        await trio.sleep(10 * GRACE)
        assert await cluster.get("a") == noise(4096)
        assert cluster.status().health == "ok"


async def test_damage_found_by_a_reader_is_repaired(autojump_clock: Clock) -> None:
    cluster = Cluster()
    async with cluster.running():
        await cluster.put("a", noise(4096))
        await cluster.put("b", noise(2 * CHUNK, 2))
        before = {node: dict(member.pieces) for node, member in cluster.members.items()}
        for member in cluster.members.values():
            for piece in list(member.pieces):
                if piece.endswith(".0"):  # the one that is asked first
                    member.flip(piece, 7)
        assert await cluster.get("a") == noise(4096)
        assert await cluster.get("b") == noise(2 * CHUNK, 2)
        assert cluster.damage.statistics().found == 3
        await trio.sleep(120)
        assert {node: dict(member.pieces) for node, member in cluster.members.items()} == before
        assert cluster.status().health == "ok"


async def test_no_quorum_is_an_answer_and_changes_nothing(autojump_clock: Clock) -> None:
    cluster = Cluster()
    async with cluster.running():
        await cluster.put("a", noise(10))
        cluster.members["data1"].down = cluster.members["data2"].down = True
        with pytest.raises(QuorumNotReached):
            await cluster.put("a", noise(20))
        assert await cluster.get("a") == noise(10)
        await trio.sleep(30)
        assert cluster.status().health == "down"
        with pytest.raises(Unavailable):
            await cluster.put("b", noise(3 * CHUNK))
        cluster.members["data1"].down = cluster.members["data2"].down = False
        await trio.sleep(20 * GRACE)
        assert cluster.status().health == "ok"
        assert cluster.held_pieces() == await cluster.recorded_pieces()


async def test_an_upload_that_dies_leaves_nothing_for_good(autojump_clock: Clock) -> None:
    cluster = Cluster()
    async with cluster.running():
        with trio.move_on_after(1):
            await put_object(
                cluster.store, name("a"), MemorySource(noise(40 * CHUNK), pause=0.1), headers=ObjectHeaders()
            )
        assert cluster.piece_count() > 0
        await trio.sleep(20 * GRACE)
        assert cluster.piece_count() == 0


async def test_an_api_node_that_crashes_under_uploads_finds_everything_again(autojump_clock: Clock) -> None:
    cluster = Cluster()
    async with cluster.running():
        await cluster.put("kept", noise(3 * CHUNK))
        with trio.move_on_after(0.7):
            async with trio.open_nursery() as nursery:
                for seed in range(5):
                    nursery.start_soon(cluster.put, f"lost{seed}", noise(40 * CHUNK, seed))
    async with cluster.running():
        assert await cluster.get("kept") == noise(3 * CHUNK)
        await trio.sleep(20 * GRACE)
        page = await list_objects(cluster.store, DEFAULT_BUCKET)
        for manifest in page.objects:
            assert len(await cluster.get(manifest.name.key)) == manifest.size
        assert cluster.held_pieces() == await cluster.recorded_pieces()


async def test_an_api_node_that_starts_knows_at_once_who_is_there(autojump_clock: Clock) -> None:
    cluster = Cluster()
    async with cluster.running():
        pass
    cluster.members["data2"].down = True
    async with trio.open_nursery() as nursery:
        await nursery.start(cluster.membership.run)
        states = {member.record.name: member.state.value for member in cluster.membership.members()}
        assert states == {"data1": "online", "data2": "suspect", "data3": "online"}
        assert trio.current_time() < 1
        nursery.cancel_scope.cancel()


async def test_full_nodes_refuse_puts_and_still_serve(autojump_clock: Clock) -> None:
    cluster = Cluster()
    async with cluster.running():
        await cluster.put("a", noise(3 * CHUNK))
        for member in cluster.members.values():
            member.full = True
        with pytest.raises(Unavailable):
            await cluster.put("b", noise(4096))
        await trio.sleep(10)
        with pytest.raises(Unavailable):
            await cluster.put("b", noise(4096))
        assert await cluster.get("a") == noise(3 * CHUNK)
        assert (await delete_object(cluster.store, name("a"))).deleted
        await trio.sleep(10 * GRACE)
        assert cluster.piece_count() == 0


async def test_readers_whose_clients_stand_still_keep_nothing_from_others(autojump_clock: Clock) -> None:
    cluster = Cluster(budget=2 << 20)
    data = noise(9 * CHUNK)
    async with cluster.running(), trio.open_nursery() as nursery:
        await cluster.put("a", data)

        async def stand_still() -> None:
            async with open_object(cluster.store, name("a")) as reading:
                await reading.next()
                await trio.sleep_forever()

        for _ in range(50):
            nursery.start_soon(stand_still)
        await trio.sleep(1)
        with trio.fail_after(5):
            assert await cluster.get("a") == data
            await cluster.put("b", noise(9 * CHUNK, 2))
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("size", [4096, 3 * CHUNK])
async def test_nodes_that_were_only_silent_have_lost_nothing(autojump_clock: Clock, size: int) -> None:
    """A switch that fails for an hour marks every piece as missing; all are there again when the nodes are."""
    cluster = Cluster()
    async with cluster.running():
        await cluster.put("a", noise(size))
        held = cluster.held_pieces()
        for member in cluster.members.values():
            member.down = True
        await trio.sleep(REPAIR_AFTER + 3000)
        for member in cluster.members.values():
            member.down = False
        await trio.sleep(10)
        assert await cluster.get("a") == noise(size)
        await trio.sleep(120)
        assert cluster.status().health == "ok"
        assert cluster.held_pieces() == held == await cluster.recorded_pieces()


async def test_a_node_that_answers_nonsense_is_passed_over(autojump_clock: Clock) -> None:
    cluster = Cluster()
    async with cluster.running():
        await cluster.put("a", noise(4096))
        await cluster.put("b", noise(2 * CHUNK))
        for member in cluster.members.values():
            member.refusal = Unauthenticated("another node lives here now") if member.name == "data1" else None
        assert await cluster.get("a") == noise(4096)
        assert await cluster.get("b") == noise(2 * CHUNK)
        await cluster.put("c", noise(4096, 3))
        await trio.sleep(300)
        assert all(worker.failures == 0 for worker in cluster.upkeep.statistics())
        cluster.members["data1"].refusal = None
        await trio.sleep(60)
        assert cluster.status().health == "ok"


async def test_a_piece_moves_on_when_its_own_node_cannot_take_it(autojump_clock: Clock) -> None:
    cluster = Cluster(5)
    async with cluster.running():
        result = await cluster.put("a", noise(4096))
        (record,) = (await list_chunks(cluster.store, name("a"))).chunks
        own = record.nodes[1]
        assert own is not None
        assert result.manifest.chunk == record.id
        cluster.members[own].flip(f"{record.id}.1")
        cluster.members[own].refusal = VolumeFull("it answers, and can do nothing")
        cluster.damage.add(record.id, 1, own, "found by scrub")
        await trio.sleep(60)
        (record,) = (await list_chunks(cluster.store, name("a"))).chunks
        assert record.missing == ()
        assert record.nodes[1] != own


async def test_marks_of_missing_pieces_survive_any_other_change(autojump_clock: Clock) -> None:
    cluster = Cluster()
    async with cluster.running():
        await cluster.put("a", noise(4096))
        (seen,) = (await list_chunks(cluster.store, name("a"))).chunks
        assert await mark_missing(cluster.store, seen, 0)
        assert await mark_missing(cluster.store, seen, 1), "what was looked at before is out of date"
        assert not await mark_missing(cluster.store, seen, 1)


async def cut_row(kv: KV, chunk: ChunkId) -> None:
    """Have the row of a packed chunk end behind its id, so that nothing else of it can be read."""
    row = await kv.find(alias_of_chunk(chunk))
    assert row is not None
    await kv.commit({}, {row[0]: row[1].value[:50]})


async def test_a_record_that_cannot_be_read_stops_no_other(autojump_clock: Clock) -> None:
    cluster = Cluster(4)
    async with cluster.running():
        for seed in range(20):
            await cluster.put(f"k{seed}", noise(4096, seed))
        (victim,) = (await list_chunks(cluster.store, name("k7"))).chunks
        await cut_row(cluster.kv, victim.id)
        cluster.members["data1"].down = True
        await trio.sleep(REPAIR_AFTER + 120)
        assert all(node != "data1" for node, _ in await cluster.recorded_pieces())
        for seed in set(range(20)) - {7}:
            assert await cluster.get(f"k{seed}") == noise(4096, seed)


@pytest.mark.parametrize("compress", [False, True])
async def test_copies_between_different_buckets_wait_only_for_each_other(autojump_clock: Clock, compress: bool) -> None:
    cluster = Cluster(budget=3 << 20)
    data = (b"some text " * 300_000)[: 9 * CHUNK]
    async with cluster.running():
        await create_bucket(cluster.store, BucketName("source"), chunk_size=2 * CHUNK, compress=compress)
        source = ObjectName(BucketName("source"), name("a").key)
        await put_object(cluster.store, source, MemorySource(data), headers=ObjectHeaders())
        for member in cluster.members.values():
            member.delay = 1.5  # every read takes about as long as a slow client's patience
        with trio.fail_after(3000):
            async with trio.open_nursery() as nursery:
                for number in range(4):
                    nursery.start_soon(copy_object, cluster.store, source, name(f"copy{number}"))
        for number in range(4):
            assert await cluster.get(f"copy{number}") == data
        assert cluster.damage.statistics().found == 0


async def test_many_readers_and_writers_share_a_small_budget(autojump_clock: Clock) -> None:
    """No two clients deadlock on leases."""
    cluster = Cluster(budget=2 << 20)
    async with cluster.running():
        for seed in range(4):
            await cluster.put(f"k{seed}", noise(9 * CHUNK, seed))

        async def read(seed: int) -> None:
            assert await cluster.get(f"k{seed % 4}") == noise(9 * CHUNK, seed % 4)

        async def write(seed: int) -> None:
            await cluster.put(f"w{seed}", noise(9 * CHUNK, seed))

        with trio.fail_after(600):
            async with trio.open_nursery() as nursery:
                for seed in range(24):
                    nursery.start_soon(read, seed)
                    nursery.start_soon(write, 100 + seed)
        assert cluster.store.chunks.budget.statistics().leased == 0


async def test_a_copy_on_a_node_that_is_away_does_not_count_because_it_was_read(autojump_clock: Clock) -> None:
    """Only its heartbeats did not get through; it answered once more, and then it died."""
    cluster = Cluster(3)
    async with cluster.running():
        await cluster.put("a", noise(4096))
        (record,) = await list_all_chunks(cluster.kv, None, 10)
        away, *others = record.nodes
        assert away

        def refuse() -> Heartbeat:
            raise Conflict("not this one")

        cluster.members[away].heartbeat = refuse  # type: ignore[method-assign]
        await trio.sleep(REPAIR_AFTER + 60)
        for number, node in enumerate(others, 1):
            assert node
            cluster.members[node].flip(piece_name(record.id, number))
            cluster.damage.add(record.id, number, node, "a scrub found it")
        await trio.sleep(60)
        cluster.members[away].down = True
        assert cluster.status().heal.backlog == 1
        cluster.members["data4"] = type(cluster.members["data1"])("data4")
        await trio.sleep(60)
        assert await cluster.recorded_pieces() == {
            (node, piece) for node, piece in cluster.held_pieces() if node != away
        }
        assert len(await cluster.recorded_pieces()) == 3


async def test_orphans_of_a_node_that_went_away_leave_room_for_others(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "ORPHANS_MAX", 3)
    monkeypatch.setattr(reconcile, "INTERVAL_SECONDS", 5 * GRACE)
    cluster = Cluster(3)
    async with cluster.running():
        for seed in range(3):
            await cluster.put(f"k{seed}", noise(4096, seed))
        first, second = cluster.members["data1"], cluster.members["data2"]
        held = dict(first.pieces)
        for seed in range(3):
            await delete_object(cluster.store, name(f"k{seed}"))
        await trio.sleep(10 * GRACE)
        assert not cluster.held_pieces()
        first.pieces, first.instance = dict(held), 2
        await trio.sleep(10)
        assert cluster.upkeep.reconcile.statistics().suspects == 3
        first.down = True
        second.pieces, second.instance = dict(held), 2
        await trio.sleep(20 * GRACE)
        assert not second.pieces
        assert first.pieces == held


async def test_a_chunk_record_that_cannot_be_read_stops_nothing(autojump_clock: Clock) -> None:
    cluster = Cluster(3)
    async with cluster.running():
        for seed in range(3):
            await cluster.put(f"k{seed}", noise(4096, seed))
        bad, good, _ = await list_all_chunks(cluster.kv, None, 10)
        held = {piece for _, piece in cluster.held_pieces() if piece.startswith(bad.id)}
        await cut_row(cluster.kv, bad.id)
        for record in (bad, good):
            assert record.nodes[0]
            cluster.members[record.nodes[0]].flip(piece_name(record.id, 0))
            cluster.damage.add(record.id, 0, record.nodes[0], "a scrub found it")
        await trio.sleep(60)
        assert cluster.damage.statistics().waiting == 0
        assert cluster.status().heal.repaired == 1
        # Nor does it keep a node from being looked through. What belongs to it stays.
        member = cluster.members[good.nodes[1] or ""]
        del member.pieces[piece_name(good.id, 1)]
        member.pieces["f" * 64 + ".0123456789abcdef.0"] = next(iter(member.pieces.values()))
        member.instance += 1
        await trio.sleep(10 * GRACE)
        assert "f" * 64 + ".0123456789abcdef.0" not in member.pieces
        assert piece_name(good.id, 1) in member.pieces
        assert {piece for _, piece in cluster.held_pieces() if piece.startswith(bad.id)} == held


async def test_an_upload_whose_record_cannot_be_read_stops_no_sweep(autojump_clock: Clock) -> None:
    cluster = Cluster(3)
    async with cluster.running():
        extent = ExtentId("0" * 32)
        await cluster.kv.commit({}, {keys.open_extent(1, extent): b"1{}", keys.extent(extent): b"1{rubbish"})
        await cluster.put("a", noise(4096))
        await delete_object(cluster.store, name("a"))
        await trio.sleep(10 * GRACE)
        assert not cluster.held_pieces()


async def test_no_other_node_may_go_down_while_repair_is_under_way(autojump_clock: Clock) -> None:
    cluster = Cluster(3)
    async with cluster.running():
        for number in range(100):
            await cluster.put(f"k{number}", random.Random(number).randbytes(4096))
        await trio.sleep(60)
        fresh, heal = cluster.members["data2"], cluster.upkeep.heal
        fresh.pieces.clear()
        fresh.delay = 0.2
        records = await list_all_chunks(cluster.kv, None, 1000)
        await mark_many_missing(cluster.store, [(record, record.nodes.index(fresh.name)) for record in records])
        heal.wake()
        for _ in range(30):
            await trio.sleep(0.2)
            assert cluster.status().health == "degraded"
            assert "wait for repair" in cluster.stay_reason("data1")
        assert 0 < len(fresh.pieces) < 100
        await trio.sleep(60)
        assert len(fresh.pieces) == 100
        assert cluster.status().health == "ok"
        assert cluster.stay_reason("data1") == ""


async def test_a_put_that_was_given_up_never_replaces_a_later_one(autojump_clock: Clock) -> None:
    cluster = Cluster(3)
    async with cluster.running():
        for member in cluster.members.values():
            member.delay = 1.0
        with trio.move_on_after(0.5) as gave_up:
            await cluster.put("key", b"abandoned")
        assert gave_up.cancelled_caught
        for member in cluster.members.values():
            member.delay = 0.001
        await cluster.put("key", b"acknowledged")
        await trio.sleep(10)
        assert await cluster.get("key") == b"acknowledged"
        await trio.sleep(3 * GRACE)
        assert cluster.held_pieces() == await cluster.recorded_pieces()
