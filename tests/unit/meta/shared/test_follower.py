"""An owner and a follower of one file: who sees what, and when."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from flared.errors import Busy, RowCorrupt
from flared.meta.sqlite import SqliteSettings
from flared.meta.sqlite_log import LogSettings
from tests.support.shared_kv import open_shared

if TYPE_CHECKING:
    from pathlib import Path

    from flared.meta.kv import Transaction


async def test_what_one_side_commits_the_other_side_reads_at_once(tmp_path: Path) -> None:
    async with open_shared(tmp_path / "meta.db") as (owner, follower):
        for number in range(20):
            value = b"%d" % number
            writer, reader = (owner, follower) if number % 2 else (follower, owner)
            await writer.commit({}, {b"k": value})
            entry = await reader.get(b"k")
            assert entry is not None
            assert entry.value == value
            assert await writer.get(b"k") == entry
            assert follower.mark() == owner.mark()
            await writer.commit({}, {b"k": None})
            assert await reader.get(b"k") is None


async def test_a_decision_runs_again_on_what_the_owner_committed_meanwhile(tmp_path: Path) -> None:
    async with open_shared(tmp_path / "meta.db") as (owner, follower):

        def add(tx: Transaction) -> int:
            count = int(tx.get(b"n") or b"0") + 1
            tx.put(b"n", b"%d" % count)
            return count

        seen: list[int] = []

        async def add_some(side: int) -> None:
            seen.extend([await (owner, follower)[side].transact(add) for _ in range(25)])

        async with trio.open_nursery() as nursery:
            for side in (0, 1, 1):
                nursery.start_soon(add_some, side)
        assert sorted(seen) == list(range(1, 76))


async def test_without_its_owner_nothing_is_committed(tmp_path: Path) -> None:
    async with open_shared(tmp_path / "meta.db") as (_, follower):
        follower.lose_owner()
        with pytest.raises(Busy):
            await follower.commit({}, {b"k": b"v"})
        errors: list[Exception | None] = []
        follower.transact_nowait(lambda tx: tx.put(b"k", b"v"), lambda _, error: errors.append(error))
        assert isinstance(errors[0], Busy)


async def test_a_damaged_row_is_an_error_for_its_key_and_the_owner_hears_of_it(tmp_path: Path) -> None:
    async with open_shared(tmp_path / "meta.db") as (owner, follower):
        await owner.commit({}, {b"good": b"1", b"bad": b"2"})
        with sqlite3.connect(tmp_path / "meta.db") as raw:
            raw.execute("UPDATE kv SET value = x'33' WHERE key = ?", (b"bad",))
        raw.close()
        follower._reads.release()
        assert await follower.get(b"good") is not None
        with pytest.raises(RowCorrupt):
            await follower.get(b"bad")
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert owner.health().damaged_key == "bad"
        await follower.commit({}, {b"bad": b"4"})
        entry = await follower.get(b"bad")
        assert entry is not None
        assert entry.value == b"4"


async def test_the_log_begins_anew_although_a_follower_reads_all_the_time(tmp_path: Path) -> None:
    settings = SqliteSettings(log=LogSettings(checkpoint_pages=64, pages_max=128, gate_pages=64))
    async with open_shared(tmp_path / "meta.db", settings) as (owner, follower):
        with trio.CancelScope() as reading:
            async with trio.open_nursery() as nursery:

                async def read() -> None:
                    while True:
                        await follower.get(b"absent")
                        await trio.lowlevel.checkpoint()

                nursery.start_soon(read)
                for number in range(600):
                    await owner.commit({}, {b"%d" % number: bytes(4000)})
                reading.cancel()
        log_bytes = (tmp_path / "meta.db-wal").stat().st_size
        assert log_bytes < 500 * 4096  # what was written is three times as much
