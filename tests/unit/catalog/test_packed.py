"""The row of a small object: bytes <-> values, and what changes in it while a client sees no change."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flared.catalog import manifest as manifests
from flared.catalog import packed
from flared.catalog.chunks import ChunkRecord, find_chunk, find_many, list_chunks, update_placement
from flared.catalog.garbage import CHUNK
from flared.catalog.manifest import Manifest
from flared.catalog.objects import find_object
from flared.errors import ManifestCorrupt
from flared.meta import keys
from flared.meta.alias import alias_of
from flared.meta.memory import MemoryKV
from flared.names import NodeName, chunk_id, chunk_time
from tests.support.checkers import recount
from tests.unit.catalog.support import GRACE_MS, NODES, LittleStore, object_name

A, B = object_name("a"), object_name("b")
NAMES = st.text("abcxyz059äßλ中", min_size=1, max_size=20)
CHUNK_IDS = st.builds(
    chunk_id, st.binary(min_size=32, max_size=32), st.integers(0, 1 << 42), st.integers(0, (1 << 64) - 1)
)
RECORDS = st.builds(
    ChunkRecord,
    id=CHUNK_IDS,
    size=st.integers(1, 1 << 17),
    stored=st.integers(1, 1 << 17),
    codec=st.integers(0, 2),
    scheme=st.sampled_from(["replica:1", "replica:3"]),
    references=st.just(1),
    nodes=st.lists(st.none() | NAMES.map(NodeName), min_size=1, max_size=9).map(tuple),
    missing=st.sets(st.integers(0, 8)).map(lambda numbers: tuple(sorted(numbers))),
    due_ms=st.just(0),
)
USER = st.dictionaries(NAMES, st.text(max_size=30), max_size=3)
LATER = b"\x63" + struct.pack(">I", 5) + b"later"
"""A field that a newer Flare may write."""


def manifest_of(record: ChunkRecord, user: dict[str, str], etag: str = "e-1", content_type: str = "a/b") -> Manifest:
    return Manifest(A, 7, record.size, etag, 1764000000.123456, content_type, user, record.id, (), record)


@given(RECORDS, USER, st.text(max_size=40), st.text(max_size=300))
def test_what_was_packed_is_what_is_decoded(record: ChunkRecord, user: dict[str, str], etag: str, kind: str) -> None:
    manifest = manifest_of(record, user, etag, kind)
    value = manifests.encode(manifest, 7)
    assert manifests.decode(A, value) == manifest
    assert (packed.size_of(value), packed.stored_of(value)) == (record.size, record.stored)
    assert alias_of(value) == packed.alias_of_chunk(record.id)
    assert manifests.decode(A, packed.alone(value)) == manifest._replace(packed=None)
    assert alias_of(packed.alone(value)) is None


@given(RECORDS, RECORDS, USER)
def test_another_placement_changes_nothing_else(record: ChunkRecord, other: ChunkRecord, user: dict[str, str]) -> None:
    manifest = manifest_of(record, user)
    value = packed.placed(manifests.encode(manifest, 7), other.nodes, other.missing)
    moved = record._replace(nodes=other.nodes, missing=other.missing)
    assert manifests.decode(A, value) == manifest._replace(packed=moved)
    assert packed.placed(value, record.nodes, record.missing) == manifests.encode(manifest, 7)


@given(RECORDS, USER)
def test_fields_that_are_not_known_are_kept(record: ChunkRecord, user: dict[str, str]) -> None:
    value = manifests.encode(manifest_of(record, user), 7) + LATER
    assert manifests.decode(A, value) == manifest_of(record, user)
    assert LATER in packed.placed(value, (None,), (0,))
    assert packed.alone(value).endswith(LATER)


@given(RECORDS, st.data())
def test_what_is_cut_short_is_an_error(record: ChunkRecord, data: st.DataObject) -> None:
    value = manifests.encode(manifest_of(record, {"a": "b"}), 7)
    cut = value[: data.draw(st.integers(0, len(value) - 1))]
    try:
        found = manifests.decode(A, cut)
    except ManifestCorrupt:
        return
    # Between two fields the rest of a row may be missing unnoticed: for that there is the checksum of the row.
    assert found._replace(user={}, packed=None) == manifest_of(record, {})._replace(packed=None)


@given(st.lists(CHUNK_IDS, min_size=2, unique_by=lambda chunk: chunk[:29]), st.integers(0, 1 << 42))
def test_aliases_order_as_ids_do(ids: list[str], now_ms: int) -> None:
    by_alias = sorted(ids, key=packed.first_alias)
    assert by_alias == sorted(ids)
    for position in (chunk_time(now_ms), "0123", "u"):
        behind = {chunk for chunk in ids if packed.first_alias(chunk) >= packed.first_alias(position)}
        assert behind == {chunk for chunk in ids if chunk >= position}


@pytest.fixture
async def store() -> LittleStore:
    store = LittleStore(MemoryKV())
    await store.open()
    return store


async def test_a_put_is_one_row(store: LittleStore) -> None:
    before = await store.kv.scan(b"", b"\xff", 99)
    written = await store.put_small(A, b"x")
    ((key, _),) = [row for row in await store.kv.scan(b"", b"\xff", 99) if row not in before]
    assert key == keys.object_(*A)
    assert await find_chunk(store.kv, written.packed.id if written.packed else written.chunk) == written.packed  # type: ignore[arg-type]


async def test_chunks_of_both_kinds_are_listed_in_the_order_of_their_ids(store: LittleStore) -> None:
    records = []
    for number in range(9):
        store.now_ms += 1
        name = object_name(f"k{number}")
        put = store.put_small if number % 3 else store.put_shared
        chunk = (await put(name, b"%d" % number)).chunk
        assert chunk is not None
        records.append(await find_chunk(store.kv, chunk))
    assert await list_chunks(store.kv, None, 99) == records
    ids = [record.id for record in records if record is not None]
    assert await find_many(store.kv, ids[::-1]) == records[::-1]
    for start in range(9):
        for end in range(start + 1, 9):
            page = await list_chunks(store.kv, ids[start], 99, ids[end])
            assert page == records[start + 1 : end]
            assert await list_chunks(store.kv, ids[start], 2, ids[end]) == page[:2]


async def test_repair_of_a_packed_chunk_changes_nothing_that_a_client_sees(store: LittleStore) -> None:
    before = await store.put_small(A, b"x")
    record = before.packed
    assert record is not None
    lacking = record._replace(nodes=(NODES[0], None), missing=(1,))
    assert await store.kv.transact(lambda tx: update_placement(tx, record.id, record, lacking))
    assert not await store.kv.transact(lambda tx: update_placement(tx, record.id, record, lacking))
    assert await find_object(store.kv, A) == before._replace(packed=lacking)
    assert await recount(store.kv) == []


async def test_a_copy_gives_the_chunk_a_record_of_its_own(store: LittleStore) -> None:
    before = await store.put_small(A, b"x")
    record = before.packed
    assert record is not None
    assert await store.copy(A, B)
    assert await find_object(store.kv, A) == before._replace(packed=None)
    assert await find_chunk(store.kv, record.id) == record._replace(references=2)
    assert await store.kv.find(packed.alias_of_chunk(record.id)) is None
    assert await recount(store.kv) == []


async def test_the_chunk_of_a_deleted_object_has_a_record_until_it_is_condemned(store: LittleStore) -> None:
    record = (await store.put_small(A, b"x")).packed
    assert record is not None
    due = store.due_ms
    await store.delete(A)
    assert await find_chunk(store.kv, record.id) == record._replace(references=0, due_ms=due)
    assert [key for key, _ in await store.kv.scan(b"garbage/", b"garbage0", 9)] == [keys.garbage(due, CHUNK, record.id)]
    store.now_ms += 2 * GRACE_MS
    (item,) = await store.due()
    await store.sweep_item(item)
    assert await find_chunk(store.kv, record.id) is None
    assert await recount(store.kv) == []
    await store.sweep_dry()
    assert not store.pieces


async def test_a_copy_that_read_the_manifest_before_the_delete_still_has_the_chunk(store: LittleStore) -> None:
    manifest = await store.put_small(A, b"x")
    await store.delete(A)
    await store.copy_of(manifest, B)
    assert await recount(store.kv) == []
    record = await find_chunk(store.kv, manifest.chunk or "")  # type: ignore[arg-type]
    assert record is not None
    assert (record.references, record.due_ms) == (1, 0)
    store.now_ms += 2 * GRACE_MS
    assert await store.due() == []
