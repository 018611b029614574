"""Objects whose rows are damaged: listed, deleted, overwritten, and no obstacle to their neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from flared.catalog import objects
from flared.catalog.buckets import Versioning, set_versioning
from flared.catalog.chunks import list_chunks, list_repairs
from flared.catalog.nodes import NodeRecord, list_nodes, put_node
from flared.catalog.objects import find_object, list_page
from flared.catalog.totals import Totals
from flared.catalog.version_listing import list_version_page
from flared.catalog.versions import NULL, find_next
from flared.errors import NoSuchObject, PreconditionFailed, RowCorrupt
from flared.meta import keys
from flared.names import NodeName
from flared.objects.conditions import Conditions, check_write
from tests.unit.catalog.support import BUCKET, LittleStore, draft, object_name
from tests.unit.meta.support import change, running

if TYPE_CHECKING:
    from pathlib import Path

    from flared.catalog.manifest import Manifest
    from flared.catalog.objects import Deletion
    from flared.meta.kv import KV, Transaction

B = object_name("b")


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """Three objects; everything that is known of the second one is damaged. Its chunk has a record of its own."""
    path = tmp_path / "meta.db"
    async with running(path) as kv:
        store = LittleStore(kv)
        await store.open()
        for name in "abc":
            await store.put_shared(object_name(name), name.encode())
        chunk = (await find_object(kv, B)).chunk
        await kv.transact(lambda tx: put_node(tx, NodeRecord(NodeName("n1"), "h:1", "", 1)))
        await kv.transact(lambda tx: put_node(tx, NodeRecord(NodeName("n2"), "h:2", "", 1)))
    for key in (f"object/{BUCKET}/b", f"chunk/{chunk}", "node/n1"):
        change(path, f"UPDATE kv SET version = version + 1 WHERE key = x'{key.encode().hex()}'")
    return path


async def test_its_neighbours_are_listed_and_its_name_is(path: Path) -> None:
    async with running(path) as kv:
        page = await list_page(kv, BUCKET)
        assert [(found.name.key, found.is_readable) for found in page.objects] == [
            ("a", True),
            ("b", False),
            ("c", True),
        ]
        assert len(await list_chunks(kv, None, 10)) == 2
        assert await list_repairs(kv, None, 10) == []
        assert [node.name for node in await list_nodes(kv)] == ["n2"]
        totals = Totals(kv)
        await totals.fill()
        assert totals.now().objects == 3
        with pytest.raises(RowCorrupt):
            await find_object(kv, B)


async def test_it_can_be_deleted(path: Path) -> None:
    async with running(path) as kv:
        totals = Totals(kv)
        await totals.fill()
        store = LittleStore(kv)
        assert await store.delete(B)
        with pytest.raises(NoSuchObject):
            await find_object(kv, B)
        assert totals.now().objects == 2
        assert kv.health().damaged_rows == 1, "the one of the chunk, which nothing names any more"


async def test_it_can_be_overwritten(path: Path) -> None:
    async with running(path) as kv:
        store = LittleStore(kv)
        await store.put_small(B, b"new")
        assert (await find_object(kv, B)).is_readable


async def test_an_object_can_be_deleted_whose_chunk_is_damaged(path: Path) -> None:
    key = f"object/{BUCKET}/b".encode().hex()
    change(path, f"UPDATE kv SET version = version - 1 WHERE key = x'{key}'")
    async with running(path) as kv:
        assert (await find_object(kv, B)).is_readable
        assert await LittleStore(kv).delete(B)


@pytest.mark.parametrize("when", [Conditions(if_none_match=("*",)), Conditions(if_match=("etag-1",))])
async def test_conditions_know_that_something_is_there(path: Path, when: Conditions) -> None:
    def check(current: Manifest | None) -> None:
        check_write(when, current.etag if current else None)

    async with running(path) as kv:
        from flared.catalog.objects import put_version

        def decide(tx: Transaction) -> None:
            put_version(tx, draft(B), check, 1, 1)

        with pytest.raises(PreconditionFailed):
            await kv.transact(decide)


@pytest.fixture
async def packed_path(tmp_path: Path) -> Path:
    """Three packed objects; the row of the second one is damaged."""
    path = tmp_path / "meta.db"
    async with running(path) as kv:
        store = LittleStore(kv)
        await store.open()
        for name in "abc":
            await store.put_small(object_name(name), name.encode())
    change(path, f"UPDATE kv SET version = version + 1 WHERE key = CAST('object/{BUCKET}/b' AS BLOB)")
    return path


async def test_a_damaged_packed_row_is_an_error_for_its_chunk_and_hides_no_other(packed_path: Path) -> None:
    async with running(packed_path) as kv:
        a, c = [await find_object(kv, object_name(name)) for name in "ac"]
        assert await list_chunks(kv, None, 10) == [a.packed, c.packed]
        totals = Totals(kv)
        await totals.fill()
        assert (totals.now().objects, totals.now().chunks) == (3, 3)
        store = LittleStore(kv)
        assert await store.delete(B)
        assert (await store.copy(object_name("a"), B)) is True
        assert kv.health().damaged_rows == 0
        assert totals.now().chunks == 3, (
            "the pieces that nothing names now are orphans; counted again at the next start"
        )


async def make_versions(path: Path, *, deleted: bool = False) -> list[int]:
    """Put three versions, the first of them without an id, and perhaps delete the object. Return their numbers."""
    async with running(path) as kv:
        store = LittleStore(kv)
        await store.open()
        numbers = [(await store.put_small(B, b"1")).version]
        await kv.transact(lambda tx: set_versioning(tx, BUCKET, Versioning.ENABLED, 1))
        numbers += [(await store.put_small(B, content)).version for content in (b"2", b"3")]
        if deleted:
            await store.delete(B)
    return numbers


def damage(path: Path, key: bytes) -> None:
    change(path, f"UPDATE kv SET version = version + 1 WHERE key = x'{key.hex()}'")


async def delete_version(kv: KV, number: int) -> Deletion:
    found = await find_next(kv, B)
    return await kv.transact(lambda tx: objects.delete_version(tx, B, number, found, lambda _: None, 1))


async def test_an_old_version_can_be_deleted_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "meta.db"
    numbers = await make_versions(path)
    damage(path, keys.version(*B, numbers[1]))
    async with running(path) as kv:
        page = await list_version_page(kv, BUCKET, "", "", "", None, 10)
        listed = [(found.version, found.is_readable) for found, _ in page.versions]
        assert listed == [(numbers[2], True), (numbers[1], False), (numbers[0], True)]
        with pytest.raises(RowCorrupt):
            await find_object(kv, B, numbers[1])
        assert (await find_object(kv, B)).version == numbers[2]
        assert (await delete_version(kv, numbers[1])).deleted is not None
        assert (await find_object(kv, B, NULL)).version == numbers[0], "which has no id is still known"
        await delete_version(kv, numbers[2])
        assert (await find_object(kv, B)).version == numbers[0]
        assert kv.health().damaged_rows == 0


@pytest.mark.parametrize("suspended", [False, True])
async def test_puts_go_on_whatever_of_the_old_versions_is_damaged(tmp_path: Path, suspended: bool) -> None:
    path = tmp_path / "meta.db"
    numbers = await make_versions(path, deleted=True)
    damage(path, keys.version(*B, numbers[0]))
    damage(path, keys.delete_marker(*B))
    async with running(path) as kv:
        store = LittleStore(kv)
        store.now_ms += 100
        if suspended:
            await kv.transact(lambda tx: set_versioning(tx, BUCKET, Versioning.SUSPENDED, 1))
        written = await store.put_small(B, b"4")
        assert (await find_object(kv, B)).version == written.version
        page = await list_version_page(kv, BUCKET, "", "", "", None, 10)
        left = numbers[:0:-1] if suspended else numbers[::-1]
        assert [found.version for found, _ in page.versions] == [written.version, *left]
