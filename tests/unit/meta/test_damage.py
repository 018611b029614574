"""Damaged rows of the embedded engine: noticed at each read, for that key alone."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import trio

from flared.errors import Damaged, RowCorrupt
from flared.meta.alias import ALIASED
from flared.meta.check import FileChecker
from flared.meta.kv import DAMAGED
from flared.meta.sqlite_file import PAGE_BYTES
from tests.unit.meta.support import change, content_of, replace_in, root_page, running, write

if TYPE_CHECKING:
    from pathlib import Path

DAMAGE = {
    "value": "value = x'32'",
    "version": "version = version + 1",
    "checksum": "checksum = checksum + 1",
    "type of the value": "value = CAST(value AS TEXT) || x'ff'",
    "type of the version": "version = x'0a20'",
    "type of the checksum": "checksum = x'0a20ff'",
}


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    path = tmp_path / "meta.db"
    async with running(path) as kv:
        await kv.commit({}, {b"a": b"1", b"b": b"1", b"c": b"1"})
    return path


@pytest.mark.parametrize("what", DAMAGE)
async def test_a_damaged_row_is_an_error_for_its_key_alone(path: Path, what: str) -> None:
    change(path, f"UPDATE kv SET {DAMAGE[what]} WHERE key = x'62'")
    async with running(path) as kv:
        for _ in range(2):
            with pytest.raises(RowCorrupt, match="metadata of 'b' is damaged"):
                await kv.get(b"b")
            with pytest.raises(RowCorrupt):
                await kv.get_many([b"a", b"b"])
            with pytest.raises(RowCorrupt):
                await kv.view(lambda look: look.get(b"b"))
            with pytest.raises(RowCorrupt):
                await kv.transact(lambda tx: tx.get(b"b"))
        assert await kv.get(b"a") is not None
        assert await kv.get(b"c") is not None


@pytest.mark.parametrize("what", DAMAGE)
async def test_scans_and_walks_go_on_behind_a_damaged_row(
    path: Path, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    change(path, f"UPDATE kv SET {DAMAGE[what]} WHERE key = x'62'")
    rows = [(b"a", b"1"), (b"b", DAMAGED), (b"c", b"1")]
    async with running(path) as kv:
        for _ in range(3):
            assert await kv.scan(b"", b"\xff", 9) == rows
        pages: list[list[tuple[bytes, bytes]]] = []

        def visit(page: list[tuple[bytes, bytes]]) -> bytes | None:
            pages.append(page)
            return page[-1][0] + b"\0" if page else None

        await kv.walk(b"", b"\xff", 1, visit)
        assert pages == [[row] for row in rows] + [[]]
        assert kv.health().damaged_rows == 1
        assert len([record for record in caplog.records if "metadata_row_damaged" in record.message]) == 1
        await kv.commit({}, {b"b": b"2"})
        assert kv.health().damaged_rows == 0


@pytest.fixture
async def long(tmp_path: Path) -> Path:
    """Keys that can be found in the pages."""
    path = tmp_path / "long.db"
    async with running(path) as kv:
        await kv.commit({}, {b"key-%d" % number: b"value-%d" % number for number in range(5)})
    return path


@pytest.mark.parametrize("key", [b"key_2", b"kex-2", b"\xffey-2"])
async def test_a_row_whose_key_is_out_of_order_holds_up_no_walk(long: Path, key: bytes) -> None:
    replace_in(long, "index", b"key-2", key)
    async with running(long) as kv:
        pages: list[list[bytes]] = []

        def visit(page: list[tuple[bytes, bytes]]) -> bytes | None:
            pages.append([key for key, _ in page])
            return page[-1][0] + b"\0" if page else None

        await kv.walk(b"", b"\xff", 1, visit)
        assert [b"key-0"] in pages
        assert len(pages) < 9


async def test_an_index_key_that_leads_to_another_row_gives_no_value(long: Path) -> None:
    replace_in(long, "index", b"key-4", b"key-5")
    async with running(long) as kv:
        with pytest.raises(RowCorrupt):
            await kv.get(b"key-5")
        for number in range(4):
            assert await kv.get(b"key-%d" % number) is not None


async def test_an_index_key_that_became_a_number_is_looked_up_as_one_alone_is(tmp_path: Path) -> None:
    """One bit in the type of the key."""
    path, keys = tmp_path / "meta.db", [b"object/key-%d" % number for number in range(3)]
    async with running(path) as kv:
        await kv.commit({}, dict.fromkeys(keys, b"1"))
    replace_in(path, "index", b"\x24\x01object/key-2", b"\x04\x01object/key-2")
    async with running(path) as kv:
        alone = [await kv.get(key) for key in keys]
    async with running(path) as kv:
        assert await kv.get_many(keys) == alone


@pytest.mark.parametrize(
    ("tree", "old", "new"),
    [
        ("index", b"key-2", b"key_2"),
        ("index", b"key-4", b"key-5"),
        ("table", b"key-2", b"key-7"),
        ("table", b"value-3", b"value-4"),
    ],
)
async def test_the_check_finds_what_a_read_may_miss(long: Path, tree: str, old: bytes, new: bytes) -> None:
    checker = FileChecker(long, lambda _key: None)
    while checker.step():
        pass
    checker.close()
    assert (checker.rows, checker.problems) == (6, []), "with the number of commits"
    replace_in(long, tree, old, new)
    found = []
    checker = FileChecker(long, found.append)
    while checker.step():
        pass
    checker.close()
    assert checker.problems
    assert bool(found) == (tree == "table")


async def test_the_check_goes_on_behind_a_broken_page(long: Path) -> None:
    pages = bytearray(content_of(long))
    start = (root_page(long, "table") - 1) * PAGE_BYTES
    pages[start : start + 8] = b"\xff" * 8
    write(long, bytes(pages))
    checker = FileChecker(long, lambda _key: None)
    while checker.step():
        pass
    checker.close()
    assert any("malformed" in problem for problem in checker.problems)


@pytest.mark.parametrize("tree", ["table", "index"])
@pytest.mark.parametrize("offset", [0, 3, 5, 8])
async def test_a_broken_page_is_an_error_of_the_tree_and_the_engine_goes_on(long: Path, tree: str, offset: int) -> None:
    pages = bytearray(content_of(long))
    start = (root_page(long, tree) - 1) * PAGE_BYTES
    pages[start + offset] ^= 0x10
    write(long, bytes(pages))
    async with running(long) as kv:
        for _ in range(3):
            with suppress(Damaged):
                await kv.walk(b"", b"\xff", 9, lambda _page: None)
            with suppress(Damaged):
                await kv.get(b"key-2")
        assert kv.mark().opening


async def test_the_engine_checks_itself_and_says_what_is_wrong(
    long: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(long) as kv:
        assert kv.health().check_passes == 0
        began = trio.current_time()
        assert not kv.checked_since(began)
        await trio.sleep(60)
        health = kv.health()
        assert (health.check_passes, health.check_rows, health.problems) == (1, 6, ())
        assert kv.checked_since(began)
        assert not kv.checked_since(trio.current_time())
        await trio.sleep(60)
        assert kv.health().check_passes == 2, "it was asked for"
    replace_in(long, "index", b"key-2", b"key_2")
    async with running(long) as kv:
        await trio.sleep(60)
        assert kv.health().problems
        assert not kv.checked_since(0)


@pytest.mark.parametrize("what", DAMAGE)
async def test_a_damaged_row_can_be_overwritten_and_deleted(path: Path, what: str) -> None:
    change(path, f"UPDATE kv SET {DAMAGE[what]} WHERE key IN (x'62', x'63')")
    async with running(path) as kv:
        await kv.commit({}, {b"b": b"2", b"c": None})
        entry = await kv.get(b"b")
        assert entry is not None
        assert entry.value == b"2"
        assert await kv.get(b"c") is None
        assert await kv.scan(b"", b"\xff", 9) == [(b"a", b"1"), (b"b", b"2")]


@pytest.fixture
async def aliased(tmp_path: Path) -> Path:
    path = tmp_path / "meta.db"
    async with running(path) as kv:
        await kv.commit({}, {b"key-%d" % number: ALIASED + b"alias-%08d" % number for number in range(5)})
    return path


async def test_a_damaged_row_is_an_error_for_its_alias_too_and_is_named_by_its_key(aliased: Path) -> None:
    change(aliased, "UPDATE kv SET version = version + 1 WHERE key = CAST('key-2' AS BLOB)")
    async with running(aliased) as kv:
        with pytest.raises(RowCorrupt, match="metadata of 'key-2' is damaged"):
            await kv.find(b"alias-%08d" % 2)
        assert await kv.find(b"alias-%08d" % 3) is not None
        rows = await kv.scan_aliases(b"", b"\xff", 9)
        assert [value == DAMAGED for _, _, value in rows] == [False, False, True, False, False]
        assert [alias for alias, _, _ in rows] == sorted(alias for alias, _, _ in rows)
        assert kv.health().damaged_key == "key-2"


@pytest.mark.parametrize(
    ("tree", "old", "new"),
    [
        ("aliases", b"alias-%08d" % 2, b"alias_%08d" % 2),
        ("aliases", b"alias-%08d" % 3, b"alias-%08d" % 4),
        ("table", ALIASED + b"alias-%08d" % 2, b"1alias-%08d" % 2),
    ],
)
async def test_the_check_finds_what_is_wrong_with_aliases(aliased: Path, tree: str, old: bytes, new: bytes) -> None:
    replace_in(aliased, tree, old, new)
    checker = FileChecker(aliased, lambda _key: None)
    while checker.step():
        pass
    checker.close()
    assert checker.problems
    async with running(aliased) as kv:
        with suppress(RowCorrupt):
            row = await kv.find(b"alias-%08d" % 2)
            assert row is None or row[1].value == ALIASED + b"alias-%08d" % 2
