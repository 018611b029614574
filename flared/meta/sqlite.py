"""The embedded metadata engine: one SQLite file, one process, group commit.

What is committed is read through ``committed``; decisions and the groups in which they commit are in ``group_commit``.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import trio

from flared.background import Threads, WorkerThreads
from flared.errors import Busy, FlareError, TransactionConflict
from flared.http.lane import Lane, ThreadLane
from flared.http.turns import Turns
from flared.meta.check import Check
from flared.meta.committed import Committed
from flared.meta.damage import DamagedRows
from flared.meta.group_commit import GroupCommit
from flared.meta.jobs import Job
from flared.meta.kv import Entry, Health, Mark, Snapshot, Transaction
from flared.meta.lockfile import LockFile
from flared.meta.room import Room
from flared.meta.scans import SCANS_MAX, Scans
from flared.meta.sqlite_file import Writer
from flared.meta.sqlite_log import LogSettings, WriteAheadLog
from flared.meta.transaction import Draft, View

if TYPE_CHECKING:
    from flared.meta.openings import Opening
    from flared.meta.shared.published import Publisher

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SqliteSettings:
    cache_bytes: int = 16 * 1024 * 1024
    log: LogSettings = field(default_factory=LogSettings)


@dataclass(frozen=True, slots=True)
class SqliteStatistics:
    transactions: int
    groups: int
    rows: int
    checkpoints: int
    log_bytes: int
    full: bool


class SqliteKV:
    """A KV in a file. ``run`` must be running for anything to commit."""

    def __init__(
        self,
        path: Path,
        threads: Threads,
        settings: SqliteSettings,
        turns: Turns | None = None,
        make_lane: Callable[[Turns, str], Lane] = ThreadLane,
    ) -> None:
        """Blocks, like ``close``; see ``open``."""
        self._lock = LockFile(path.with_name(path.name + ".lock"), f"the metadata file {path}")
        self._room = Room(path)
        try:
            self._opening = self._room.open_even_if_full(path)
        except BaseException:
            self._lock.close()
            raise
        self._room.begin()
        self._damage = DamagedRows()
        self._writer = Writer(path, self._opening)
        self._committed = Committed(path, settings.cache_bytes, self._damage)
        self._log = WriteAheadLog(path, self._committed.reader, threads, settings.log, failed=self._room.take_failure)
        self._scans = Scans(path, threads, self._damage.add)
        self._check = Check(path, threads, self._damage.add)
        self._turns = turns
        self._make_lane = make_lane
        self._groups = GroupCommit(
            self._committed, self._writer, self._log, self._room, threads, turns, version=self._opening.version
        )

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        threads: Threads | None = None,
        settings: SqliteSettings | None = None,
        turns: Turns | None = None,
        make_lane: Callable[[Turns, str], Lane] = ThreadLane,
    ) -> SqliteKV:
        """Open or create the file. Raises Busy if another process has it, ConfigError if it is not ours to read.

        With ``turns``, which must run as long as anything is to be committed, what is decided in a turn is looked up
        together and committed by a lane, which ``make_lane`` makes.
        """
        threads = threads or WorkerThreads(3 + SCANS_MAX)
        return await threads.run(cls, path, threads, settings or SqliteSettings(), turns, make_lane)

    def close(self) -> None:
        """Move the log into the database and let go of the file. Not while ``run`` is running."""
        self._committed.close()
        self._scans.close()
        self._log.close()
        self._writer.close()
        # The log is gone now, and on a disk that fills up meanwhile the next start needs room for one.
        self._room.begin()
        self._lock.close()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Commit and checkpoint until cancelled."""
        groups = self._groups
        if self._turns is not None:
            groups.lane = self._make_lane(self._turns, "metadata")
        groups.stopped = False
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(groups.run)
                nursery.start_soon(self._log.run)
                nursery.start_soon(self._check.run)
                nursery.start_soon(self._room.watch)
                task_status.started()
        finally:
            groups.stopped = True
            if groups.lane is not None:
                await groups.lane.close()  # the group in progress gets its outcome
            groups.refuse_waiting(Busy("the metadata engine is stopping"))

    # Reads

    async def get(self, key: bytes) -> Entry | None:
        return self._committed.get(key)

    async def get_many(self, keys: Sequence[bytes]) -> list[Entry | None]:
        return self.get_many_nowait(keys)

    def get_many_nowait(self, keys: Sequence[bytes]) -> list[Entry | None]:
        committed = self._committed
        if not self._groups.flying.keys().isdisjoint(keys):
            return [committed.read(key) for key in keys]
        if len(keys) > 1:
            committed.fetch(keys)
        return [committed.get(key) for key in keys]

    def get_nowait(self, key: bytes) -> Entry | None:
        return (self._committed.read if key in self._groups.flying else self._committed.get)(key)

    async def view(self, look: Callable[[Snapshot], T]) -> T:
        """While a group is flying its keys may change under us, in the file first and in the cache a little later.

        So a look that touched one of them is repeated on the reader alone, whose moment stands still.
        """
        committed, flying = self._committed, self._groups.flying
        if not flying:
            return look(Draft(committed.value, committed.find_value))
        view = View(committed.get, committed.find_value, flying)
        try:
            result = look(view)
        except FlareError:
            if not view.doubtful:
                raise
        if view.doubtful:
            return look(Draft(committed.read_value, committed.find_value))
        return result

    async def find(self, alias: bytes) -> tuple[bytes, Entry] | None:
        return self._committed.find(alias)

    async def scan(self, start: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        return await self._scans.scan(start, end, limit)

    async def scan_aliases(self, start: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes, bytes]]:
        return await self._scans.scan_aliases(start, end, limit)

    async def walk(
        self, start: bytes, end: bytes, limit: int, visit: Callable[[list[tuple[bytes, bytes]]], bytes | None]
    ) -> None:
        await self._scans.walk(start, end, limit, visit)

    # Decisions

    async def transact(self, decide: Callable[[Transaction], T]) -> T:
        if self._groups.stopped:
            raise Busy("the metadata engine is not running")
        job = Job(decide)
        self._groups.decide(job)
        job.task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(job.abandon)
        if job.error is not None:
            error, job.error = job.error, None
            raise error
        return cast("T", job.result)

    def transact_nowait(
        self,
        decide: Callable[[Transaction], T],
        done: Callable[[T | None, Exception | None], None],
        *,
        reads: Sequence[bytes] = (),
    ) -> None:
        job = Job(decide, done)  # type: ignore[arg-type]  # it gets what ``decide`` returned
        if self._groups.stopped:
            done(None, Busy("the metadata engine is not running"))
        else:
            self._groups.plan(job, reads)

    async def commit(self, expected: Mapping[bytes, int], writes: Mapping[bytes, bytes | None]) -> None:
        def decide(tx: Transaction) -> None:
            self._expect(expected)
            for key, value in writes.items():
                if value is None:
                    tx.delete(key)
                else:
                    tx.put(key, value)

        await self.transact(decide)

    def commit_nowait(
        self,
        expected: Mapping[bytes, int],
        change: Callable[[Transaction], None],
        done: Callable[[None, Exception | None], None],
    ) -> None:
        """As ``transact_nowait``: make the ``change`` if every key in ``expected`` has that version. For what was
        decided elsewhere; raises TransactionConflict to ``done``, and what conflicts is committed by then."""

        def decide(tx: Transaction) -> None:
            self._expect(expected)
            change(tx)

        self.transact_nowait(decide, done, reads=tuple(expected))

    def publish_to(self, publisher: Publisher, release: Callable[[], Awaitable[None]]) -> Opening:
        """Tell ``publisher`` of every commit from now on, before its jobs are answered; ``release`` has the readers
        there let go of their moments, so that the log can begin anew. Returns this opening, by which others know the
        marks of this process."""
        self._groups.publisher = publisher
        self._log.release_others = release
        publisher.publish((), self._groups.commits)
        return self._opening

    def note_damage(self, key: bytes) -> None:
        """Another reader of the file met a damaged row."""
        self._damage.add(key)

    def _expect(self, expected: Mapping[bytes, int]) -> None:
        for key, version in expected.items():
            if self._groups.newest_version(key) != version:
                raise TransactionConflict(f"the key {key!r} has changed")

    def listen(self, listener: Callable[[Sequence[object]], None]) -> None:
        self._groups.listeners.append(listener)

    def health(self) -> Health:
        check = self._check.statistics()
        return Health(
            self._room.failure,
            self._room.full,
            len(self._damage),
            self._damage.first(),
            check.problems,
            check.passes,
            check.rows,
            None if check.ended is None else trio.current_time() - check.ended,
        )

    def checked_since(self, moment: float) -> bool:
        if self._check.clean_since(moment) and not self._damage and not self._room.failure:
            return True
        self._check.ask()
        return False

    def mark(self) -> Mark:
        return Mark(self._opening.id, self._groups.commits)

    def includes(self, mark: Mark) -> bool:
        if mark.opening == self._opening.id:
            return mark.number <= self._groups.commits
        return mark.number <= self._opening.past.get(mark.opening, -1)

    def statistics(self) -> SqliteStatistics:
        groups, log = self._groups, self._log
        return SqliteStatistics(
            groups.transactions, groups.groups, groups.rows, log.checkpoints, log.size_bytes, self._room.full
        )
