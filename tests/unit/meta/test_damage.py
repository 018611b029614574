"""Damaged rows of the embedded engine: noticed at each read, for that key alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from flared.errors import RowCorrupt
from tests.unit.meta.support import change, running

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
            with pytest.raises(RowCorrupt, match="metadata of b is damaged"):
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
async def test_a_damaged_row_can_be_overwritten_and_deleted(path: Path, what: str) -> None:
    change(path, f"UPDATE kv SET {DAMAGE[what]} WHERE key IN (x'62', x'63')")
    async with running(path) as kv:
        await kv.commit({}, {b"b": b"2", b"c": None})
        entry = await kv.get(b"b")
        assert entry is not None
        assert entry.value == b"2"
        assert await kv.get(b"c") is None
        assert await kv.scan(b"", b"\xff", 9) == [(b"a", b"1"), (b"b", b"2")]
