"""The SQLite engine beyond the contract: groups, failures, the log, the lock."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar, TypeVarTuple

import pytest
import trio

from flared.background import Threads, WorkerThreads
from flared.errors import Busy, ConfigError, MetadataFull, VolumeFailed
from flared.meta.kv import Transaction
from flared.meta.open import open_kv
from flared.meta.sqlite import SqliteKV, SqliteSettings
from flared.meta.sqlite_log import LogSettings
from tests.support.threads import InlineThreads

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
REPOSITORY = Path(__file__).parents[3]


class FaultyThreads(InlineThreads):
    """Commits wait while ``open`` is not set, and fail with the next of ``errors``, if there is one."""

    def __init__(self) -> None:
        self.open = trio.Event()
        self.open.set()
        self.errors: list[int] = []
        self.commits = 0

    async def run(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        if function.__name__ == "apply":
            await self.open.wait()
            self.commits += 1
            if self.errors:
                error = sqlite3.OperationalError("as the test wants it")
                error.sqlite_errorcode = self.errors.pop(0)
                raise error
        return await super().run(function, *arguments)

    def shut(self) -> None:
        self.open = trio.Event()


@asynccontextmanager
async def running(
    path: Path, threads: Threads | None = None, settings: SqliteSettings | None = None
) -> AsyncIterator[SqliteKV]:
    kv = await SqliteKV.open(path, threads=threads or InlineThreads(), settings=settings)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(kv.run)
            yield kv
            nursery.cancel_scope.cancel()
    finally:
        kv.close()


def putter(key: bytes, value: bytes) -> Callable[[Transaction], None]:
    return lambda tx: tx.put(key, value)


def deleter(key: bytes) -> Callable[[Transaction], None]:
    return lambda tx: tx.delete(key)


def appender(text: bytes) -> Callable[[Transaction], bytes]:
    def decide(tx: Transaction) -> bytes:
        value = (tx.get(b"a") or b"") + text
        tx.put(b"a", value)
        return value

    return decide


async def collect(kv: SqliteKV, decide: Callable[[Transaction], object], outcomes: list[object]) -> None:
    try:
        outcomes.append(await kv.transact(decide))
    except (MetadataFull, VolumeFailed) as error:
        outcomes.append(error.code)


async def value(kv: SqliteKV, key: bytes) -> bytes | None:
    entry = await kv.get(key)
    return entry.value if entry else None


async def settle() -> None:
    for _ in range(10):
        await trio.lowlevel.checkpoint()


async def test_decisions_see_what_was_decided_before_and_readers_only_what_is_synced(tmp_path: Path) -> None:
    threads = FaultyThreads()
    async with running(tmp_path / "meta.db", threads) as kv:
        outcomes: list[object] = []
        threads.shut()
        async with trio.open_nursery() as nursery:
            for text in (b"1", b"2"):
                nursery.start_soon(collect, kv, appender(text), outcomes)
                await settle()
            assert outcomes == []
            assert await kv.get(b"a") is None
            assert await kv.view(lambda look: look.get(b"a")) is None
            assert await kv.scan(b"a", b"b", 9) == []
            threads.open.set()
        assert outcomes == [b"1", b"12"]
        assert await value(kv, b"a") == b"12"


async def test_what_waits_during_a_sync_goes_out_together(tmp_path: Path) -> None:
    threads = FaultyThreads()
    async with running(tmp_path / "meta.db", threads) as kv:
        threads.shut()
        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(kv.transact, putter(b"%d" % number, b"x"))
                if number == 0:
                    await settle()
            await settle()
            threads.open.set()
        assert threads.commits == 2
        assert len(await kv.scan(b"", b"\xff", 99)) == 50


async def test_a_refusal_that_rests_on_an_unsynced_write_waits_for_it(tmp_path: Path) -> None:
    threads = FaultyThreads()

    def refuse_if_there(tx: Transaction) -> str:
        if tx.get(b"a") is not None:
            raise VolumeFailed("seen")
        return "not seen"

    async with running(tmp_path / "meta.db", threads) as kv:
        outcomes: list[object] = []
        threads.shut()
        threads.errors = [sqlite3.SQLITE_FULL]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(collect, kv, putter(b"a", b"1"), outcomes)
            await settle()
            nursery.start_soon(collect, kv, refuse_if_there, outcomes)
            await settle()
            assert outcomes == []
            threads.open.set()
        assert sorted(map(str, outcomes)) == ["MetadataFull", "not seen"]


async def test_a_full_disk_refuses_growth_and_lets_deletes_through(tmp_path: Path) -> None:
    threads = FaultyThreads()
    async with running(tmp_path / "meta.db", threads) as kv:
        await kv.transact(putter(b"old", b"x" * 100))
        outcomes: list[object] = []
        threads.errors = [sqlite3.SQLITE_FULL]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(collect, kv, putter(b"new", b"y"), outcomes)
            nursery.start_soon(collect, kv, deleter(b"old"), outcomes)
        assert sorted(map(str, outcomes)) == ["MetadataFull", "None"]
        assert await kv.scan(b"", b"\xff", 9) == []
        # There is room on this disk in truth, so the next put finds it again.
        await kv.transact(putter(b"new", b"y"))
        assert await value(kv, b"new") == b"y"


async def test_on_a_full_disk_the_reserve_is_for_what_leads_to_space(tmp_path: Path) -> None:
    threads = FaultyThreads()
    async with running(tmp_path / "meta.db", threads) as kv:
        reserve = tmp_path / "meta.db.reserve"
        assert reserve.stat().st_size > 0

        def sweep(tx: Transaction) -> None:
            tx.reclaim()
            tx.put(b"garbage", b"z" * 100)

        threads.errors = [sqlite3.SQLITE_FULL]
        await kv.transact(sweep)
        assert not reserve.exists()
        assert await value(kv, b"garbage") is not None
        assert kv.statistics().full
        threads.errors = [sqlite3.SQLITE_FULL] * 4
        with pytest.raises(MetadataFull):
            await kv.transact(sweep)
        assert len(threads.errors) == 1


async def test_after_a_failed_sync_nothing_is_written_any_more_and_reads_go_on(tmp_path: Path) -> None:
    threads = FaultyThreads()
    async with running(tmp_path / "meta.db", threads) as kv:
        await kv.transact(putter(b"a", b"1"))
        threads.errors = [sqlite3.SQLITE_IOERR_FSYNC]
        for decide in (putter(b"a", b"2"), deleter(b"a")):
            with pytest.raises(VolumeFailed):
                await kv.transact(decide)
        assert await value(kv, b"a") == b"1"
        assert await kv.transact(lambda tx: tx.get(b"a")) == b"1"


async def test_a_file_locked_by_another_program_is_waited_for(tmp_path: Path) -> None:
    threads = FaultyThreads()
    async with running(tmp_path / "meta.db", threads) as kv:
        threads.errors = [sqlite3.SQLITE_BUSY] * 3
        assert await kv.transact(appender(b"1")) == b"1"
        assert await value(kv, b"a") == b"1"


async def test_a_stopped_engine_says_so(tmp_path: Path) -> None:
    threads = FaultyThreads()
    async with running(tmp_path / "meta.db", threads) as kv:
        threads.shut()
    with pytest.raises(Busy):
        await kv.transact(putter(b"a", b"1"))


async def test_waiting_callers_get_an_error_when_the_engine_stops(tmp_path: Path) -> None:
    threads = FaultyThreads()
    outcomes: list[str] = []

    async def one(kv: SqliteKV) -> None:
        try:
            await kv.transact(putter(b"a", b"1"))
        except Busy as error:
            outcomes.append(error.code)

    async with trio.open_nursery() as nursery, running(tmp_path / "meta.db", threads) as kv:
        threads.shut()
        nursery.start_soon(one, kv)
        await settle()
        nursery.start_soon(one, kv)
        await settle()
    assert outcomes == ["Busy", "Busy"]


async def test_everything_is_there_at_the_next_start_and_versions_go_on(tmp_path: Path) -> None:
    path = tmp_path / "meta.db"
    async with running(path) as kv:
        await kv.commit({}, {b"a": b"1", b"b": b"1"})
        old = await kv.get(b"a")
        await kv.commit({}, {b"a": None})
    async with running(path) as kv:
        assert await value(kv, b"b") == b"1"
        assert await kv.get(b"a") is None
        await kv.commit({}, {b"a": b"2"})
        new = await kv.get(b"a")
    assert old is not None
    assert new is not None
    assert new.version > old.version


async def test_a_second_process_is_refused_with_the_holder_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "meta.db"
    async with running(path):
        with pytest.raises(Busy, match=rf"{path}.* process {os.getpid()}$"):
            await SqliteKV.open(path, threads=InlineThreads())
    async with running(path):
        pass


async def test_a_file_of_a_newer_flare_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "meta.db"
    async with running(path):
        pass
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 9")
    connection.close()
    for _ in range(2):
        with pytest.raises(ConfigError, match="newer Flare"):
            await SqliteKV.open(path, threads=InlineThreads())


async def test_what_is_not_ours_is_refused(tmp_path: Path) -> None:
    text, other = tmp_path / "text", tmp_path / "other.db"
    text.write_text("not a database at all, and long enough to look like one" * 100)
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE t (a)")
    connection.close()
    for path in (text, other):
        with pytest.raises(ConfigError):
            await SqliteKV.open(path, threads=InlineThreads())
    with pytest.raises(ConfigError):
        async with open_kv("etcd://somewhere"):
            pass


async def test_only_the_owner_can_read_the_metadata_with_any_umask(tmp_path: Path) -> None:
    path = tmp_path / "meta.db"
    path.touch(0o644)
    path.with_name("meta.db.lock").touch(0o644)
    umask = os.umask(0)
    try:
        async with running(path) as kv:
            await kv.commit({}, {b"a": b"1"})
            modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    finally:
        os.umask(umask)
    assert modes == dict.fromkeys(["meta.db", "meta.db-wal", "meta.db-shm", "meta.db.lock", "meta.db.reserve"], 0o600)


async def test_a_directory_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file or directory"):
        await SqliteKV.open(tmp_path / "nowhere" / "meta.db", threads=InlineThreads())


async def test_the_log_stays_bounded_under_load_that_never_pauses(tmp_path: Path) -> None:
    settings = SqliteSettings(log=LogSettings(checkpoint_pages=40, pages_max=100, gate_pages=10))
    path = tmp_path / "meta.db"
    async with running(path, WorkerThreads(4), settings) as kv:
        largest = 0

        async def writer(number: int) -> None:
            nonlocal largest
            for turn in range(100):
                await kv.transact(putter(b"%d/%d" % (number, turn), os.urandom(2000)))
                await kv.get(b"%d/%d" % (number, turn))
                largest = max(largest, log_size(path))

        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(writer, number)
        assert kv.statistics().checkpoints > 5
        assert largest < 300 * 4096
        assert len(await kv.scan(b"", b"\xff", 1000)) == 800


async def test_a_commit_never_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "meta.db"
    async with running(path, settings=SqliteSettings(log=LogSettings(checkpoint_pages=10**9))) as kv:
        before = path.stat().st_size
        for turn in range(30):
            await kv.commit({}, {b"%d/%d" % (turn, n): bytes(3000) for n in range(64)})
        assert log_size(path) > 1000 * 4096  # SQLite's own limit, had we left it on
        assert path.stat().st_size == before


async def test_a_backup_that_holds_the_log_does_not_stop_commits(tmp_path: Path) -> None:
    path = tmp_path / "meta.db"
    settings = SqliteSettings(log=LogSettings(checkpoint_pages=50, pages_max=100, gate_pages=5))
    async with running(path, settings=settings) as kv:
        await kv.transact(putter(b"a", b"1"))
        backup = sqlite3.connect(path, isolation_level=None)
        backup.execute("BEGIN")
        assert backup.execute("SELECT count(*) FROM kv WHERE key < x'ff'").fetchone() == (1,)
        for number in range(100):
            await kv.transact(putter(b"k%d" % number, bytes(3000)))
        assert kv.statistics().checkpoints < 40
        assert log_size(path) > 100 * 4096
        backup.close()


def log_size(path: Path) -> int:
    return path.with_name(path.name + "-wal").stat().st_size


WRITER = """
import sys, trio
from flared.meta.kv import Transaction
from flared.meta.open import open_kv

async def writer(kv, number):
    turn = 0
    while True:
        turn += 1
        await kv.transact(lambda tx: (tx.put(b"%d" % number, b"%d" % turn), tx.put(b"twin%d" % number, b"%d" % turn)))
        print(number, turn, flush=True)

async def main():
    async with open_kv(sys.argv[1]) as kv, trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(writer, kv, number)

trio.run(main)
"""


async def test_a_kill_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    path = tmp_path / "meta.db"
    for _round in range(3):
        answered = await trio.to_thread.run_sync(write_and_kill, path, 300)
        async with running(path) as kv:
            for number, turn in answered.items():
                stored = await value(kv, b"%d" % number)
                assert stored is not None
                assert int(stored) >= turn
                assert stored == await value(kv, b"twin%d" % number)


def write_and_kill(path: Path, lines: int) -> dict[int, int]:
    answered: dict[int, int] = {}
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if not line.endswith("\n"):
                break  # the kill came in the middle of it
            number, turn = map(int, line.split())
            answered[number] = turn
            lines -= 1
            if lines == 0:
                process.send_signal(signal.SIGKILL)
    assert lines <= 0
    return answered
