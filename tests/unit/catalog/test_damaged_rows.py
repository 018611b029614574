"""Objects whose rows are damaged: listed, deleted, overwritten, and no obstacle to their neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from flared.catalog.chunks import list_chunks, list_repairs
from flared.catalog.nodes import NodeRecord, list_nodes, put_node
from flared.catalog.objects import find_object, list_page
from flared.catalog.totals import Totals
from flared.errors import NoSuchObject, PreconditionFailed, RowCorrupt
from flared.names import NodeName
from flared.objects.conditions import Conditions, check_write
from tests.unit.catalog.support import BUCKET, LittleStore, draft, object_name
from tests.unit.meta.support import change, running

if TYPE_CHECKING:
    from pathlib import Path

    from flared.catalog.manifest import Manifest
    from flared.meta.kv import Transaction

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
