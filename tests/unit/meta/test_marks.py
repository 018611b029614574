"""The marks of the embedded engine reveal files that were rolled back, copied and restored."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from flared.meta import openings
from flared.meta.kv import Mark
from tests.unit.meta.support import change, running

if TYPE_CHECKING:
    from pathlib import Path


async def committed(path: Path, *keys: bytes) -> Mark:
    """The mark of an opening that commits these keys, one after the other."""
    async with running(path) as kv:
        for key in keys:
            await kv.commit({}, {key: b"1"})
        return kv.mark()


async def includes(path: Path, *marks: Mark) -> list[bool]:
    async with running(path) as kv:
        return [kv.includes(mark) for mark in marks]


async def test_a_file_includes_the_marks_of_its_earlier_openings(tmp_path: Path) -> None:
    path = tmp_path / "meta.db"
    first = await committed(path, b"a", b"b")
    second = await committed(path, b"c")
    assert first.number == 2
    assert second.opening != first.opening
    assert await includes(path, first, second, Mark(first.opening, 3)) == [True, True, False]


async def test_a_file_that_was_rolled_back_never_includes_what_it_lost(
    tmp_path: Path,
) -> None:
    path, old = tmp_path / "meta.db", tmp_path / "old.db"
    async with running(path) as kv:
        await kv.commit({}, {b"a": b"1"})
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(old)) as target:
            source.backup(target)
        early = kv.mark()
        await kv.commit({}, {b"b": b"1"})
        late = kv.mark()
    old.replace(path)
    await committed(path, b"c", b"d", b"e", b"f")
    assert await includes(path, early, late) == [True, False]


async def test_two_copies_that_went_their_own_ways_do_not_include_each_other(tmp_path: Path) -> None:
    path, copy = tmp_path / "meta.db", tmp_path / "copy.db"
    common = await committed(path, b"a")
    shutil.copy(path, copy)
    ours = await committed(path, b"b")
    theirs = await committed(copy, b"b")
    assert await includes(path, common, ours, theirs) == [True, True, False]
    assert await includes(copy, common, ours, theirs) == [True, False, True]


async def test_a_group_that_only_deletes_counts(tmp_path: Path) -> None:
    path = tmp_path / "meta.db"
    await committed(path, b"a")
    async with running(path) as kv:
        before = kv.mark()
        await kv.commit({}, {b"a": None})
        assert kv.mark().number == before.number + 1


async def test_only_the_last_openings_are_remembered_and_versions_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openings, "OPENINGS_MAX", 3)
    path = tmp_path / "meta.db"
    marks = [await committed(path, b"a") for _ in range(6)]
    assert await includes(path, *marks) == [False] * 3 + [True] * 3
    async with running(path) as kv:
        entry = await kv.get(b"a")
        assert entry is not None
        old = entry.version
        await kv.commit({}, {b"a": b"2"})
        entry = await kv.get(b"a")
        assert entry is not None
        assert entry.version > old


async def test_a_damaged_opening_is_not_believed_and_versions_never_go_back(tmp_path: Path) -> None:
    path = tmp_path / "meta.db"
    mark = await committed(path, b"a")
    await committed(path, b"a")
    change(path, "UPDATE openings SET commits = 99 WHERE number = 1", "UPDATE openings SET number = 0 WHERE number = 2")
    assert await includes(path, Mark(mark.opening, 1)) == [False]
    async with running(path) as kv:
        entry = await kv.get(b"a")
        assert entry is not None
        before = entry.version
        await kv.commit({}, {b"a": b"2"})
        entry = await kv.get(b"a")
        assert entry is not None
        assert entry.version > before


@pytest.mark.parametrize("column", ["id", "commits", "checksum"])
async def test_an_opening_that_became_text_of_no_encoding_keeps_no_file_closed(tmp_path: Path, column: str) -> None:
    """The highest bit of one of its hex digits is enough."""
    path = tmp_path / "meta.db"
    damaged = await committed(path, b"a")
    sound = await committed(path, b"b")
    change(path, f"UPDATE openings SET {column} = CAST(x'e630' AS TEXT) WHERE number = 1")
    assert await includes(path, damaged, sound) == [False, True]


@pytest.mark.parametrize("column", ["value", "version", "checksum"])
async def test_a_damaged_number_of_commits_is_not_believed_and_keeps_no_file_closed(
    tmp_path: Path, column: str
) -> None:
    """The highest bit of one of its hex digits is enough."""
    path = tmp_path / "meta.db"
    sound = await committed(path, b"a")
    damaged = await committed(path, b"b")
    change(path, f"UPDATE kv SET {column} = CAST(x'e630' AS TEXT) WHERE key = x'{openings.COMMITS.hex()}'")
    assert await includes(path, damaged, sound) == [False, True]
    assert damaged.number == 1
    assert await includes(path, sound) == [True], "and the next openings are counted again"


async def test_the_number_of_commits_is_in_no_range_of_keys(tmp_path: Path) -> None:
    async with running(tmp_path / "meta.db") as kv:
        await kv.commit({}, {b"a": b"1"})
        assert await kv.scan(b"", b"\xff", 10) == [(b"a", b"1")]
        pages: list[list[tuple[bytes, bytes]]] = []
        await kv.walk(b"", b"\xff", 10, lambda page: pages.append(page))
        assert pages == [[(b"a", b"1")]]


async def test_a_group_of_puts_is_one_statement_and_one_transaction(tmp_path: Path) -> None:
    statements: list[str] = []
    async with running(tmp_path / "meta.db") as kv:
        kv._writer.connection.set_trace_callback(statements.append)
        await kv.commit({}, {b"%d" % number: b"1" for number in range(64)})
        assert [statement.split()[0] for statement in statements] == ["INSERT"]
        statements.clear()
        await kv.commit({}, {b"%d" % number: b"2" for number in range(65)})
        await kv.commit({}, {b"1": None, b"new": b"1"})
        assert [statement.split()[0] for statement in statements] == [
            *("BEGIN", "INSERT", "INSERT", "COMMIT"),
            *("BEGIN", "INSERT", "DELETE", "COMMIT"),
        ]
        assert kv.mark().number == 3


async def test_commits_are_counted_where_their_row_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "meta.db"
    before = await committed(path, b"a")
    with monkeypatch.context() as patched:
        patched.setattr(openings, "put_row", lambda _, opening: opening._replace(has_row=False))
        without = await committed(path, b"b", b"c")
    after = await committed(path, b"d")
    assert await includes(path, before, without, after) == [True] * 3
    assert await includes(path, Mark(without.opening, 3), Mark(before.opening, 2)) == [False] * 2
