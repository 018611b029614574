"""Metadata that came from a backup, on pieces that went on without it; on a virtual clock."""

from __future__ import annotations

import random
from bisect import bisect_left
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from flared.catalog.chunks import list_chunks
from flared.catalog.restored import accept_metadata, mark_restored
from flared.errors import FlareError
from flared.meta import keys
from flared.meta.alias import alias_of
from flared.names import PieceName, piece_name, piece_parts
from flared.objects.commit import ObjectHeaders
from flared.objects.copy import copy_object
from flared.objects.delete import delete_object
from flared.objects.put import put_object
from flared.upkeep.deletion.strays import adopt
from tests.support.checkers import recount
from tests.support.cluster import CHUNK, GRACE, REPAIR_AFTER, Cluster, name
from tests.support.piece_nodes import MemorySource

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from flared.data.pieces import PieceStream, Span
    from flared.meta.keys import Range
    from flared.names import NodeName
    from flared.upkeep.deletion.brake import Found

Clock = trio.testing.MockClock

KEYS = [f"k{number}" for number in range(6)]
SIZES = (300, 4096, CHUNK, 3 * CHUNK + 5)
SPECIAL = {"again": CHUNK, "large again": 3 * CHUNK, "slow": 9 * CHUNK}
HOUR = 3600


class Rows:
    """Is a ``meta.backup.Copy``: all rows of a moment, changed in memory."""

    def __init__(self, rows: list[tuple[bytes, bytes]]) -> None:
        self.rows = dict(rows)

    def get(self, key: bytes) -> bytes | None:
        return self.rows.get(key)

    def find(self, alias: bytes) -> tuple[bytes, bytes] | None:
        return next(((key, value) for key, value in self.rows.items() if alias_of(value) == alias), None)

    def scan(self, span: Range, limit: int) -> list[tuple[bytes, bytes]]:
        found = sorted(self.rows)[slice(*(bisect_left(sorted(self.rows), key) for key in span))]
        return [(key, self.rows[key]) for key in found[:limit]]

    def put(self, key: bytes, value: bytes) -> None:
        self.rows[key] = value

    def delete(self, span: Range) -> None:
        for key, _ in self.scan(span, len(self.rows)):
            del self.rows[key]


async def all_rows(cluster: Cluster) -> list[tuple[bytes, bytes]]:
    return await cluster.kv.scan(b"", b"\xff", 10**6)


async def restore(cluster: Cluster, rows: list[tuple[bytes, bytes]]) -> None:
    """As ``flared restore`` does, while the api node is down."""
    now = int(cluster.store.now() * 1000)
    copy = Rows(rows)
    mark_restored(copy, now, now)  # type: ignore[arg-type]  # what it asks of a Copy
    await cluster.kv.commit({}, dict.fromkeys([key for key, _ in await all_rows(cluster)]))
    await cluster.kv.commit({}, copy.rows)
    assert await cluster.kv.get(keys.RESTORED) is not None
    assert await recount(cluster.kv) == []


class Life:
    """Random changes, and what they should have led to."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self.cluster = cluster
        self.random = random.Random(seed)
        self.objects: dict[str, bytes] = {}

    async def go_on(self, steps: int) -> None:
        """Changes of objects; one node after the other loses its disk, and repair moves what it had."""
        for step in range(steps):
            await self._change()
            await trio.sleep(self.random.choice((0, 1, GRACE / 2)))
            if step % 12 == 11:
                await self._lose_a_disk()

    async def _change(self) -> None:
        key, store = self.random.choice(KEYS), self.cluster.store
        what = self.random.random()
        if what < 0.6:  # of few bodies, so that chunks are shared
            data = random.Random(self.random.randrange(6)).randbytes(self.random.choice(SIZES))
            await self.cluster.put(key, data)
            self.objects[key] = data
        elif key in self.objects and what < 0.75:
            other = self.random.choice(KEYS)
            await copy_object(store, name(key), name(other))
            self.objects[other] = self.objects[key]
        elif key in self.objects:
            await delete_object(store, name(key))
            del self.objects[key]

    async def _lose_a_disk(self) -> None:
        member = self.cluster.members[f"data{self.random.randint(1, 5)}"]
        member.down = True
        await trio.sleep(REPAIR_AFTER + 60)
        member.pieces.clear()
        member.instance += 1
        member.down = False
        await trio.sleep(60)


async def put_slowly(cluster: Cluster, key: str, data: bytes) -> None:
    await put_object(cluster.store, name(key), MemorySource(data, pause=0.5), headers=ObjectHeaders())


@pytest.mark.parametrize("number", range(6))
async def test_what_the_restored_names_need_is_there_and_the_way_back_is_open(
    autojump_clock: Clock, number: int
) -> None:
    cluster = Cluster(5)
    life = Life(cluster, number)
    bodies = {key: random.Random(key).randbytes(size) for key, size in SPECIAL.items()}
    async with cluster.running(), trio.open_nursery() as nursery:
        await life.go_on(30)
        for key in ("again", "large again"):
            await cluster.put(key, bodies[key])
            await delete_object(cluster.store, name(key))
        nursery.start_soon(put_slowly, cluster, "slow", bodies["slow"])
        await trio.sleep(3)
        old, old_rows = dict(life.objects), await all_rows(cluster)
        for key in ("again", "large again"):  # its chunks are garbage in the backup, and referenced by this
            await cluster.put(key, bodies[key])
        await life.go_on(40)
        new = life.objects | bodies
        assert cluster.status().health == "ok"
    new_rows = await all_rows(cluster)

    await restore(cluster, old_rows)
    async with cluster.running():
        await trio.sleep(REPAIR_AFTER + 20 * GRACE)
        readable = set()
        for key, data in old.items():
            got = None
            with suppress(FlareError, ExceptionGroup):
                got = await cluster.get(key)
            assert got in (None, data), "never wrong bytes"
            if got is not None:
                readable.add(key)
        assert readable >= {key for key, data in old.items() if new.get(key) == data}, "what stayed is there"
        await cluster.put("since", b"the restore" * 10_000)
        for member in cluster.members.values():
            member.instance += 1  # so that each is looked at again
        await trio.sleep(2 * HOUR)

    await restore(cluster, new_rows)
    async with cluster.running():
        await trio.sleep(REPAIR_AFTER + 20 * GRACE)
        for key, data in new.items():
            assert await cluster.get(key) == data, "a restore of the wrong file is mended"
        assert (cluster.status().heal.lost, cluster.status().health) == (0, "ok")


async def test_a_copy_that_was_moved_to_a_node_with_a_failed_disk_is_found(autojump_clock: Clock) -> None:
    cluster = Cluster(4)
    data = random.Random(1).randbytes(4096)
    async with cluster.running():
        await cluster.put("a", data)
        rows, pieces = await all_rows(cluster), sorted(await cluster.recorded_pieces())
    (other,) = cluster.members.keys() - {node for node, _ in pieces}
    first, piece = pieces[0]
    cluster.members[other].pieces[piece] = cluster.members[first].pieces[piece]
    for node, _ in pieces:
        cluster.members[node].pieces.clear()
    cluster.members[other].failed_volumes = ("/disk2",)

    await restore(cluster, rows)
    async with cluster.running():
        await trio.sleep(120)
        assert await cluster.get("a") == data
        assert await cluster.recorded_pieces() == cluster.held_pieces()
        assert len(cluster.held_pieces()) == 3


async def test_a_moved_copy_is_found_even_while_heal_is_at_its_chunk(autojump_clock: Clock) -> None:
    cluster = Cluster(4)
    data = random.Random(1).randbytes(4096)
    async with cluster.running():
        await cluster.put("a", data)
        rows, pieces = await all_rows(cluster), sorted(await cluster.recorded_pieces())
    (other,) = cluster.members.keys() - {node for node, _ in pieces}
    for node, piece in pieces:
        cluster.members[other].pieces[piece] = cluster.members[node].pieces.pop(piece)
    chunk = piece_parts(PieceName(pieces[0][1]))[0]

    await restore(cluster, rows)
    async with cluster.running(), trio.open_nursery() as nursery:

        async def be_at_it() -> None:
            """Heal tries again whenever somebody wakes it, and that is most often when a node was looked through."""
            while True:
                cluster.store.chunks.in_flight.claim(chunk)
                await trio.sleep(40)
                cluster.store.chunks.in_flight.release(chunk)
                await trio.sleep(1)

        nursery.start_soon(be_at_it)
        await trio.sleep(300)
        assert cluster.upkeep.reconcile.statistics().adopted
        nursery.cancel_scope.cancel()


async def test_a_chunk_of_which_a_copy_is_found_just_now_is_not_called_lost(autojump_clock: Clock) -> None:
    cluster = Cluster(4)
    data = random.Random(1).randbytes(4096)
    async with cluster.running():
        await cluster.put("a", data)
        pieces = sorted(await cluster.recorded_pieces())
        (other,) = [member for key, member in cluster.members.items() if key not in dict(pieces)]
        for node, piece in pieces:
            other.pieces[piece] = cluster.members[node].pieces.pop(piece)
        chunk, number = piece_parts(PieceName(pieces[0][1]))
        ask, lost = cluster.members[pieces[-1][0]].read, []

        @asynccontextmanager
        async def ask_last(name: PieceName, span: Span) -> AsyncIterator[PieceStream]:
            """Meanwhile a node is looked through."""
            await adopt(cluster.store, chunk, number, other.name)
            async with ask(name, span) as stream:
                yield stream

        cluster.members[pieces[-1][0]].read = ask_last  # type: ignore[method-assign]
        for node, piece in pieces:
            cluster.damage.add(chunk, piece_parts(PieceName(piece))[1], node, "no node has it")
        for _ in range(60):
            await trio.sleep(0.1)
            lost.append(cluster.status().heal.lost)
        assert not any(lost)
        assert await cluster.get("a") == data
        assert cluster.status().health == "ok"


async def test_a_moved_copy_is_found_though_its_chunk_lacked_another_before(autojump_clock: Clock) -> None:
    """Its node was looked through while only the other copy was known to be gone; then this one is missed, too."""
    cluster = Cluster(4, scheme="replica:2")
    data = random.Random(1).randbytes(4096)
    async with cluster.running():
        await cluster.put("a", data)
        rows = await all_rows(cluster)
        (record,) = await list_chunks(cluster.kv, None, 10)
    first, second = (cluster.members[node] for node in record.nodes if node)
    elsewhere, _ = (member for member in cluster.members.values() if member not in (first, second))
    moved = piece_name(record.id, 1)
    elsewhere.pieces[moved] = second.pieces.pop(moved)
    first.pieces.clear()
    second.down = elsewhere.down = True

    await restore(cluster, rows)
    async with cluster.running():
        for member in (elsewhere, second):
            await trio.sleep(20)
            member.down = False
        await trio.sleep(120)
        assert cluster.status().heal.lost == 0
        assert await cluster.get("a") == data
        assert len(cluster.held_pieces()) == 2


async def test_metadata_that_is_accepted_in_the_middle_of_a_look_keeps_its_orphans(autojump_clock: Clock) -> None:
    """When the look began, nothing spoke against deleting what it confirms."""
    cluster = Cluster()
    async with cluster.running():
        await cluster.put("a", random.Random(1).randbytes(4096))
    rows = [key for key, _ in await all_rows(cluster) if key.startswith((b"chunk/", b"object/"))]
    await cluster.kv.commit({}, dict.fromkeys(rows))
    held = cluster.piece_count()
    async with cluster.running():
        accepted: list[int] = []
        admits = cluster.upkeep.reconcile.brake.admits

        async def admit_later(node: NodeName, found: Found, now_ms: int) -> bool:
            """The inventory was taken; the operator is as quick as that."""
            if found.confirmed and not accepted:
                accepted.append(await accept_metadata(cluster.kv, int(cluster.store.now() * 1000)))
            return await admits(node, found, now_ms)

        cluster.upkeep.reconcile.brake.admits = admit_later  # type: ignore[method-assign]
        await trio.sleep(20 * GRACE)
        assert accepted, "a second look took place"
        assert cluster.piece_count() == held
