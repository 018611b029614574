"""Chunks whose ids begin with the digest, from before format 2, beside those whose ids begin with the time."""

from __future__ import annotations

import random

import pytest
import trio
import trio.testing

from flared.catalog.chunks import ChunkRecord, find_chunk, list_chunks
from flared.errors import NoSuchObject
from flared.names import ChunkId, PieceName, chunk_digest, chunk_time, piece_name, piece_parts
from flared.objects.copy import copy_object
from flared.objects.delete import delete_object
from flared.objects.get import find_object
from flared.upkeep.deletion import reconcile
from flared.upkeep.repair import heal
from tests.support.checkers import recount
from tests.support.cluster import CHUNK, GRACE, REPAIR_AFTER, Cluster, SmallNode, name, node_name
from tests.support.old_ids import old_chunk_id, old_ids

Clock = trio.testing.MockClock

SIZES = [4096, 200_000, 3 * CHUNK + 5]
"""One small chunk; one that may be shared; an extent of several, the last of them small."""
OLD = [f"old-{size}" for size in SIZES]
NEW = [f"new-{size}" for size in SIZES]


def body(key: str) -> bytes:
    return random.Random(key).randbytes(int(key.partition("-")[2]))


async def fill(cluster: Cluster) -> None:
    with old_ids():
        for key in OLD:
            await cluster.put(key, body(key))
    for key in NEW:
        await cluster.put(key, body(key))


async def records(cluster: Cluster) -> list[ChunkRecord]:
    return await list_chunks(cluster.kv, None, 1000)


def is_old(chunk: str) -> bool:
    return chunk[0] != "t"


async def check(cluster: Cluster, names: list[str]) -> None:
    """Everything is there, whole and well, and nothing else is."""
    for key in names:
        assert await cluster.get(key) == body(key)
    assert cluster.status().health == "ok"
    assert cluster.held_pieces() == await cluster.recorded_pieces()
    assert await recount(cluster.kv, cluster.store.totals) == []


async def test_both_forms_are_stored_listed_and_read(autojump_clock: Clock) -> None:
    cluster = Cluster()
    async with cluster.running():
        await fill(cluster)
        found = [record.id for record in await records(cluster)]
        assert [is_old(chunk) for chunk in found] == [True] * 6 + [False] * 6
        assert found == sorted(found), "the newest are last"
        await check(cluster, OLD + NEW)


async def test_bytes_of_an_old_chunk_are_shared_and_copied_and_never_rewritten(autojump_clock: Clock) -> None:
    cluster = Cluster()
    async with cluster.running():
        await fill(cluster)
        before = {record.id for record in await records(cluster)}
        pieces = cluster.piece_count()
        await cluster.put("again", body(OLD[1]))
        await copy_object(cluster.store, name(OLD[1]), name("copy"))
        await copy_object(cluster.store, name(OLD[2]), name("copy of many"))
        assert {record.id for record in await records(cluster)} == before
        assert cluster.piece_count() == pieces
        (shared,) = [record for record in await records(cluster) if record.references == 3]
        assert is_old(shared.id)
        assert await cluster.get("again") == await cluster.get("copy") == body(OLD[1])
        assert await cluster.get("copy of many") == body(OLD[2])
        # A chunk too small to be shared is stored anew, with an id of today.
        await cluster.put("small again", body(OLD[0]))
        (made,) = {record.id for record in await records(cluster)} - before
        assert not is_old(made)
        assert await recount(cluster.kv, cluster.store.totals) == []


async def test_what_was_condemned_is_never_referenced_again_but_stored_anew(autojump_clock: Clock) -> None:
    cluster = Cluster()
    async with cluster.running():
        await fill(cluster)
        old = {record.id for record in await records(cluster) if is_old(record.id)}
        late = [piece for member in cluster.members.values() for piece in member.pieces]
        for key in OLD:
            await delete_object(cluster.store, name(key))
        await trio.sleep(3 * GRACE)
        assert not old & {record.id for record in await records(cluster)}
        for key in OLD:
            with pytest.raises(NoSuchObject):
                await cluster.get(key)
            await cluster.put(key, body(key))
        # A delete that comes late, or again, meets none of the bytes that were put again.
        for member in cluster.members.values():
            await member.delete([PieceName(piece) for piece in late if is_old(piece)])
        assert not any(is_old(record.id) for record in await records(cluster))
        await check(cluster, OLD + NEW)


async def test_a_node_that_lost_its_pieces_gets_both_kinds_again(autojump_clock: Clock) -> None:
    cluster = Cluster()
    async with cluster.running():
        await fill(cluster)
        member = cluster.members["data2"]
        held = dict(member.pieces)
        assert {is_old(piece) for piece in held} == {True, False}
        member.pieces.clear()
        member.instance += 1
        await trio.sleep(120)
        assert member.pieces == held, "the same bytes under the same names"
        for piece in held:
            member.flip(piece)
            chunk, number = piece_parts(PieceName(piece))
            cluster.damage.add(chunk, number, member.name, "a scrub found it")
        await trio.sleep(120)
        assert member.pieces == held
        await check(cluster, OLD + NEW)


async def test_orphans_of_both_kinds_go_and_what_is_recorded_stays(autojump_clock: Clock) -> None:
    cluster = Cluster()
    async with cluster.running():
        await fill(cluster)
        member = cluster.members["data1"]
        some = next(iter(member.pieces.values()))
        known = await records(cluster)
        digest = chunk_digest(known[-1].id)
        ahead = ChunkId(f"{chunk_time(int(cluster.store.now() * 1000) + 10**9)}{7:016x}.{digest.hex()}")
        orphans = {piece_name(chunk, 0) for chunk in (old_chunk_id(digest, 7), ahead)}
        orphans.add(piece_name(ChunkId(chunk_time(1) + "0" * 16 + "." + "0" * 64), 0))
        member.pieces.update(dict.fromkeys(orphans, some))
        member.instance += 1
        await trio.sleep(GRACE / 2)
        assert orphans <= member.pieces.keys()
        await trio.sleep(10 * GRACE)
        await check(cluster, OLD + NEW)


async def test_a_node_that_is_gone_is_taken_out_of_records_of_both_kinds(autojump_clock: Clock) -> None:
    cluster = Cluster(4)
    gone = node_name("data2")
    async with cluster.running():
        await fill(cluster)
        assert {is_old(record.id) for record in await records(cluster) if gone in record.nodes} == {True, False}
        cluster.members[gone].down = True
        await trio.sleep(REPAIR_AFTER + 120)
        await cluster.membership.begin_removal(gone, forced=False)
        cluster.upkeep.removal.wake()
        await trio.sleep(120)
        assert gone not in {member.record.name for member in cluster.membership.members()}
        assert not any(gone in record.nodes for record in await records(cluster))
        cluster.members[gone].pieces.clear()
        await check(cluster, OLD + NEW)


async def test_a_cluster_with_both_kinds_goes_on_after_a_crash(autojump_clock: Clock) -> None:
    cluster = Cluster()
    async with cluster.running():
        await fill(cluster)
    cluster.clock_ahead = -3600.0
    async with cluster.running():
        await cluster.put("new-70000", body("new-70000"))
        order = [record.id for record in await records(cluster)]
        assert is_old(order[5])
        manifest = await find_object(cluster.store, name("new-70000"))
        assert order[6] == manifest.chunk, "the clock went back, so this one comes before the other new ones"
        await trio.sleep(10 * GRACE)
        await check(cluster, [*OLD, *NEW, "new-70000"])


@pytest.fixture
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heal, "BATCH", 4)
    monkeypatch.setattr(reconcile, "PAGE", 4)


class FillingNode(SmallNode):
    """Whenever it is asked for a page of what it holds, as much has been put behind it meanwhile."""

    pages_left = 0
    now_ms = 0

    def _page(self, after: str, limit: int) -> list[tuple[str, int]]:
        page = super()._page(after, limit)
        if self.pages_left and limit > 1:
            self.pages_left -= 1
            self.now_ms += 10_000
            some = next(iter(self.pieces.values()))
            for number in range(limit):
                chunk = ChunkId(f"{chunk_time(self.now_ms)}{number:016x}.{'0' * 64}")
                self.pieces[piece_name(chunk, 0)] = some
        return page


@pytest.mark.usefixtures("_small_pages")
async def test_a_look_at_an_inventory_ends_although_more_is_put_than_it_reads(
    autojump_clock: Clock,
) -> None:
    cluster = Cluster()
    member = cluster.members["data3"] = FillingNode("data3")
    async with cluster.running():
        await fill(cluster)
        await trio.sleep(60)
        looks = cluster.upkeep.reconcile.statistics().looks
        member.now_ms = int(cluster.store.now() * 1000) + 10_000
        member.pages_left = 500
        member.instance += 1
        for _ in range(600):
            await trio.sleep(0.1)
            if cluster.upkeep.reconcile.statistics().looks > looks:
                break
        assert member.pages_left > 400, "it ended where the inventory ended when it began"
        member.pages_left = 0
        await trio.sleep(10 * GRACE)
        await check(cluster, OLD + NEW)


@pytest.mark.usefixtures("_small_pages")
async def test_a_pass_of_heal_ends_although_puts_that_lack_pieces_come_faster(
    autojump_clock: Clock,
) -> None:
    cluster = Cluster()
    async with cluster.running():
        cluster.members["data3"].down = True
        await trio.sleep(60)
        for number in range(10):
            await cluster.put(f"old-{number + 1}", body(f"old-{number + 1}"))
        await trio.sleep(1)
        made = 0
        repair_all = cluster.upkeep.heal._repair_all

        async def repair(chunks: list[ChunkId]) -> int:
            nonlocal made
            for _ in range(8):
                made += 1
                await trio.sleep(1)
                await cluster.put(f"new-{made + 10}", body(f"new-{made + 10}"))
            return await repair_all(chunks)

        cluster.upkeep.heal._repair_all = repair  # type: ignore[method-assign]
        passes = cluster.upkeep.heal.statistics().passes
        await trio.sleep(300)
        assert cluster.upkeep.heal.statistics().passes >= passes + 2
        cluster.upkeep.heal._repair_all = repair_all  # type: ignore[method-assign]
        cluster.members["data3"].down = False
        await trio.sleep(300)
        key = f"new-{made + 10}"
        record = await find_chunk(cluster.kv, (await records(cluster))[-1].id)
        assert record is not None
        assert record.missing == ()
        assert await cluster.get(key) == body(key)
        assert cluster.status().health == "ok"
