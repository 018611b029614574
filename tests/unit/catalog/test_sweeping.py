"""Single steps of the sweep and of placement, at their edges."""

from __future__ import annotations

import pytest
import trio

from flared.catalog import extents, garbage
from flared.catalog.chunks import (
    ChunkRecord,
    create_chunk,
    create_shared_chunk,
    find_chunk,
    find_many,
    find_shared,
    list_chunks,
    list_repairs,
    update_placement,
)
from flared.catalog.garbage import CONDEMNED, Garbage, condemn_pieces, list_due, mark_deleted, postpone
from flared.errors import Conflict
from flared.meta.memory import MemoryKV
from flared.names import ChunkId, NodeName, chunk_digest
from tests.support.checkers import recount
from tests.unit.catalog.support import GRACE_MS, NODES, SCHEME, LittleStore, object_name

OTHER = NodeName("data3")


@pytest.fixture
async def store() -> LittleStore:
    store = LittleStore(MemoryKV())
    await store.open()
    return store


async def stored(
    store: LittleStore, key: str = "a", content: bytes = b"x", missing: tuple[int, ...] = ()
) -> ChunkRecord:
    manifest = await store.put_shared(object_name(key), content, missing)
    assert manifest.chunk is not None
    record = await find_chunk(store.kv, manifest.chunk)
    assert record is not None
    return record


async def test_a_long_extent_is_released_in_portions_and_goes_on_after_each(store: LittleStore) -> None:
    count = extents.PAGE_CHUNKS + 5
    extent = await store.begin_large([b"x"] * count)
    await store.end_large(object_name("a"), extent)
    assert await recount(store.kv) == []
    assert len(await extents.read_page(store.kv, extent, 1)) == 5
    await store.delete(object_name("a"))
    store.now_ms += 2 * GRACE_MS
    (item,) = [item for item in await store.due(5000) if item.kind == garbage.EXTENT]
    rounds = 0
    while await store.kv.view(lambda look: extents.read_extent(look, extent)) is not None:
        await store.sweep_item(item, 100)
        assert await recount(store.kv) == []
        rounds += 1
    assert rounds == 7  # six in the first page, one in the second
    await store.sweep_item(item, 100)
    assert await recount(store.kv) == []
    await store.sweep_dry()
    assert store.pieces == set()


async def test_a_given_up_extent_takes_no_more_chunks(store: LittleStore) -> None:
    extent = await store.begin_large([b"x"])
    store.now_ms += 100_000
    await store.give_up_expired()
    with pytest.raises(Conflict):
        await store.append(extent, store.store_pieces(b"y"))
    with pytest.raises(Conflict):
        await store.end_large(object_name("a"), extent)
    assert not await store.kv.transact(lambda tx: extents.give_up(tx, extent, 1))
    assert await recount(store.kv) == []


async def test_placement_is_compare_and_swap_and_keeps_references(store: LittleStore) -> None:
    record = await stored(store)
    await stored(store, "b")
    moved = record._replace(nodes=(NODES[0], OTHER))
    assert await store.kv.transact(lambda tx: update_placement(tx, record.id, record, moved))
    now = await find_chunk(store.kv, record.id)
    assert now == moved._replace(references=2)
    assert not await store.kv.transact(lambda tx: update_placement(tx, record.id, record, moved))
    gone = record._replace(id=ChunkId("0" * 64 + "." + "0" * 16))
    assert not await store.kv.transact(lambda tx: update_placement(tx, gone.id, gone, moved))


async def test_chunks_with_missing_pieces_are_listed_for_repair(store: LittleStore) -> None:
    record = await stored(store)
    assert await list_repairs(store.kv, None, 10) == []
    lacking = record._replace(nodes=(NODES[0], None), missing=(1,))
    assert await store.kv.transact(lambda tx: update_placement(tx, record.id, record, lacking))
    assert await list_repairs(store.kv, None, 10) == [record.id]
    assert await list_repairs(store.kv, record.id, 10) == []
    assert await recount(store.kv) == []
    assert await store.kv.transact(lambda tx: update_placement(tx, record.id, lacking, record))
    assert await list_repairs(store.kv, None, 10) == []


async def test_a_chunk_that_lacks_pieces_is_not_shared_but_replaced(store: LittleStore) -> None:
    lacking = await stored(store, "a", missing=(1,))
    whole = await stored(store, "b")
    assert whole.id != lacking.id
    assert await find_shared(store.kv, chunk_digest(whole.id), SCHEME) == whole
    assert await find_shared(store.kv, chunk_digest(whole.id), "replica:9") is None
    assert {record.id for record in await list_chunks(store.kv, None, 10)} == {lacking.id, whole.id}
    await store.delete(object_name("a"))
    await store.sweep_dry()
    assert await find_shared(store.kv, chunk_digest(whole.id), SCHEME) == whole
    assert await recount(store.kv) == []


async def test_a_chunk_found_unfit_is_replaced_though_it_looks_whole(store: LittleStore) -> None:
    unfit = await stored(store)
    record = store.store_pieces(b"x")
    used = await store.kv.transact(lambda tx: create_shared_chunk(tx, record, 1, unfit=unfit.id))
    assert used == record


async def test_records_are_listed_in_pages(store: LittleStore) -> None:
    records = sorted([await stored(store, key, key.encode()) for key in "abcde"], key=lambda record: record.id)
    assert await list_chunks(store.kv, None, 3) == records[:3]
    assert await list_chunks(store.kv, records[2].id, 3) == records[3:]
    gone = ChunkId("0" * 64 + "." + "0" * 16)
    assert await find_many(store.kv, [records[1].id, gone, records[0].id]) == [records[1], None, records[0]]


async def test_nodes_are_asked_one_by_one_and_may_be_asked_twice(store: LittleStore) -> None:
    record = store.store_pieces(b"x")
    assert await store.kv.transact(lambda tx: condemn_pieces(tx, record.id, record.pieces, 5))
    (item,) = await list_due(store.kv, 5, 10)
    left = await store.kv.transact(lambda tx: mark_deleted(tx, item, NODES[0]))
    assert left == Garbage(5, CONDEMNED, record.id, ((1, NODES[1]),))
    assert await store.kv.transact(lambda tx: mark_deleted(tx, item, NODES[0])) == left
    assert await store.kv.transact(lambda tx: mark_deleted(tx, item, NODES[1])) is None
    assert await store.kv.transact(lambda tx: mark_deleted(tx, item, NODES[1])) is None
    assert await list_due(store.kv, 5, 10) == []


async def test_a_postponed_item_is_due_later_and_joins_what_is_there(store: LittleStore) -> None:
    record = store.store_pieces(b"x")
    await store.kv.transact(lambda tx: condemn_pieces(tx, record.id, record.pieces[:1], 5))
    await store.kv.transact(lambda tx: condemn_pieces(tx, record.id, record.pieces[1:], 9))
    (item,) = await list_due(store.kv, 8, 10)
    later = await store.kv.transact(lambda tx: postpone(tx, item, 9))
    assert await list_due(store.kv, 8, 10) == []
    assert await list_due(store.kv, 9, 10) == [later]
    assert later is not None
    assert set(later.pieces) == set(record.pieces)
    assert await store.kv.transact(lambda tx: postpone(tx, item, 9)) is None


async def test_pieces_of_a_recorded_chunk_are_not_condemned(store: LittleStore) -> None:
    record = store.store_pieces(b"x")
    await store.kv.transact(lambda tx: create_chunk(tx, record))
    assert not await store.kv.transact(lambda tx: condemn_pieces(tx, record.id, record.pieces, 5))
    assert await list_due(store.kv, 5, 10) == []


async def test_garbage_comes_in_the_order_it_is_due(store: LittleStore) -> None:
    for due in (30, 10, 20, 1000):
        record = store.store_pieces(b"x")
        await store.kv.transact(lambda tx, record=record, due=due: condemn_pieces(tx, record.id, record.pieces, due))
    first = await list_due(store.kv, 30, 2)
    assert [item.due_ms for item in first] == [10, 20]
    assert [item.due_ms for item in await list_due(store.kv, 30, 2, after=first[-1])] == [30]


async def test_racing_creators_share_the_winner() -> None:
    store = LittleStore(MemoryKV())
    await store.open()
    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(store.put_shared, object_name(str(number)), b"x")
    (record,) = await list_chunks(store.kv, None, 10)
    assert record.references == 10
    assert await recount(store.kv) == []
    await store.sweep_dry()
    assert len(store.pieces) == len(NODES)
