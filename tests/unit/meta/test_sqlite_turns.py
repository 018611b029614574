"""The embedded engine where decisions come in turns and a lane commits them."""

from __future__ import annotations

import sqlite3
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from flared.background import first_of
from flared.errors import Busy, MetadataFull, NoSuchObject
from flared.http.turns import Turns, open_turns
from flared.meta.sqlite import SqliteKV, SqliteSettings
from flared.meta.sqlite_log import LogSettings
from tests.support.lanes import InlineLane
from tests.support.threads import InlineThreads

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from flared.http.lane import Done, Work
    from flared.meta.kv import Transaction


class TroubledLane(InlineLane):
    """Fails on request, and can be held."""

    def __init__(self, turns: Turns, name: str) -> None:
        super().__init__(turns)
        self.errors: list[BaseException] = []
        self.groups = 0
        self.held: list[tuple[Work, Done]] | None = None

    def submit(self, work: Work, done: Done) -> None:
        self.groups += 1
        if self.held is not None:
            self.held.append((work, done))
        elif self.errors:
            error = self.errors.pop(0)

            def fail() -> None:
                raise error

            super().submit(fail, done)
        else:
            super().submit(work, done)

    def let_go(self) -> None:
        held, self.held = self.held or [], None
        for work, done in held:
            super().submit(work, done)


class Heard:
    """The outcomes of transactions, by name."""

    def __init__(self, kv: SqliteKV) -> None:
        self._kv = kv
        self.results: dict[str, object] = {}

    def put(self, key: str, value: str = "1", *, reads: tuple[bytes, ...] = ()) -> None:
        def decide(tx: Transaction) -> str:
            before = tx.get(key.encode())
            tx.put(key.encode(), value.encode())
            return "new" if before is None else before.decode()

        def done(result: str | None, error: Exception | None) -> None:
            assert key not in self.results, "reported twice"
            self.results[key] = result if error is None else type(error)

        self._kv.transact_nowait(decide, done, reads=reads)


@asynccontextmanager
async def engine(
    path: Path, settings: SqliteSettings | None = None
) -> AsyncIterator[tuple[SqliteKV, TroubledLane, Heard]]:
    lanes: list[TroubledLane] = []

    def make_lane(turns: Turns, name: str) -> TroubledLane:
        lanes.append(TroubledLane(turns, name))
        return lanes[0]

    async with open_turns() as turns:
        kv = await SqliteKV.open(
            path / "meta.db", threads=InlineThreads(), settings=settings, turns=turns, make_lane=make_lane
        )
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(kv.run)
                yield kv, lanes[0], Heard(kv)
                nursery.cancel_scope.cancel()
        finally:
            kv.close()
        assert turns.statistics().failures == 0


def failure(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("as the test wants it")
    error.sqlite_errorcode = code
    return error


async def settle() -> None:
    for _ in range(5):
        await trio.testing.wait_all_tasks_blocked()


async def test_what_is_decided_in_one_turn_is_one_group(tmp_path: Path) -> None:
    async with engine(tmp_path) as (kv, lane, heard):
        for number in range(100):
            heard.put(f"k{number}", reads=(f"k{number}".encode(),))
        await settle()
        assert lane.groups == 1
        assert heard.results == {f"k{number}": "new" for number in range(100)}
        assert kv.statistics().groups == 1


async def test_the_next_group_gathers_while_one_is_under_way(tmp_path: Path) -> None:
    async with engine(tmp_path) as (kv, lane, heard):
        lane.held = []
        heard.put("a")
        await settle()
        heard.put("b")
        await settle()
        heard.put("c")
        await settle()
        assert lane.groups == 1
        assert heard.results == {}
        assert [kv.get_nowait(key) for key in (b"a", b"b")] == [None, None], "nothing is committed yet"
        lane.let_go()
        await settle()
        assert [entry and entry.value for entry in map(kv.get_nowait, (b"a", b"b"))] == [b"1", b"1"]
        assert lane.groups == 2
        assert heard.results == dict.fromkeys("abc", "new")


async def test_a_listener_that_raises_keeps_no_one_from_his_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with engine(tmp_path) as (kv, _, heard):
        noted: list[object] = []
        kv.listen(lambda notes: noted.append(1 / 0))
        kv.listen(noted.extend)
        kv.transact_nowait(lambda tx: tx.note("news"), lambda *_: heard.put("c"))
        heard.put("a")
        heard.put("b")
        await settle()
        assert heard.results == dict.fromkeys("abc", "new")
        assert noted == ["news"]
    assert "event=listener_failed" in caplog.text


async def test_what_was_absent_is_seen_once_it_is_there(tmp_path: Path) -> None:
    """An absent key is remembered only until the next commit."""
    async with engine(tmp_path) as (kv, _, heard):
        assert kv.get_many_nowait([b"a", b"b", b"c"]) == [None, None, None]
        heard.put("a", "first")
        await settle()
        assert [entry and entry.value for entry in kv.get_many_nowait([b"a", b"b", b"c"])] == [b"first", None, None]
        heard.results.clear()
        heard.put("a", "second", reads=(b"a", b"b"))
        await settle()
        assert heard.results == {"a": "first"}


async def test_a_full_disk_fails_the_group_and_its_decisions_are_made_again(tmp_path: Path) -> None:
    async with engine(tmp_path) as (_, lane, heard):
        lane.errors = [failure(sqlite3.SQLITE_FULL)]
        heard.put("a")
        heard.put("b")
        await settle()
        # The reserve made room for a second try.
        assert heard.results in ({"a": "new", "b": "new"}, {"a": MetadataFull, "b": MetadataFull})
        assert lane.groups >= 1


async def test_a_decision_that_refuses_hears_it_with_its_group(tmp_path: Path) -> None:
    async with engine(tmp_path) as (kv, _, heard):
        errors: list[Exception | None] = []

        def refuse(tx: Transaction) -> None:
            tx.put(b"never", b"x")
            raise NoSuchObject("as the test wants it")

        kv.transact_nowait(refuse, lambda _, error: errors.append(error))
        heard.put("a")
        await settle()
        assert [type(error) for error in errors] == [NoSuchObject]
        assert heard.results == {"a": "new"}
        assert kv.get_many_nowait([b"never"]) == [None]


async def test_a_long_log_is_begun_anew_between_groups(tmp_path: Path) -> None:
    settings = SqliteSettings(log=LogSettings(checkpoint_pages=10**9, pages_max=60, gate_pages=10**6))
    async with engine(tmp_path, settings) as (kv, _, heard):
        for number in range(60):
            heard.put(f"k{number}", "x" * 2000)
            await settle()
        assert len(heard.results) == 60
        assert kv.statistics().checkpoints > 0


async def test_a_bug_in_a_commit_ends_the_engine_loudly(tmp_path: Path) -> None:
    async def run_into_it() -> None:
        async with engine(tmp_path) as (_, lane, heard):
            lane.errors = [ValueError("a bug")]
            heard.put("a")
            await trio.sleep_forever()

    with pytest.raises((ValueError, ExceptionGroup)) as caught:  # in a group or not, by the version of trio
        await run_into_it()
    assert isinstance(first_of(BaseExceptionGroup("", [caught.value])), ValueError)


async def test_a_stop_tells_everyone_the_truth(tmp_path: Path) -> None:
    async with engine(tmp_path) as (_, lane, heard):
        lane.held = []
        heard.put("a")
        await settle()
        heard.put("b")
        await settle()
        heard.put("c")  # in this turn, not decided yet
        lane.let_go()
    assert heard.results["a"] == "new"
    assert heard.results.keys() == set("abc")
    assert set(heard.results.values()) <= {"new", Busy}
    async with engine(tmp_path) as (kv, _, _):
        for key, result in heard.results.items():
            (entry,) = kv.get_many_nowait([key.encode()])
            assert (entry is not None) == (result == "new")
