"""The embedded metadata engine: one SQLite file, one process, group commit.

A decision runs at once, inline on the event loop, on top of everything decided before it: the committed state,
the group that is being synced (*flying*) and the group that gathers meanwhile. A group is written and synced by a
thread in one SQLite transaction; only then are its jobs answered. What a decision returned or raised is answered
no earlier than the group it may depend on. If a group fails, everything decided on top of it is decided again.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import trio

from flared.background import Threads, WorkerThreads
from flared.errors import Busy, FlareError, RowCorrupt, TransactionConflict
from flared.http.lane import Lane, ThreadLane
from flared.http.turns import Turns
from flared.meta.alias import ALIAS_BYTES, alias_of
from flared.meta.cache import Cache
from flared.meta.check import Check
from flared.meta.damage import DamagedRows
from flared.meta.jobs import Group, Job
from flared.meta.kv import ABSENT, Entry, Health, Mark, Snapshot, Transaction
from flared.meta.lockfile import LockFile
from flared.meta.room import FULL, Room
from flared.meta.scans import SCANS_MAX, Scans
from flared.meta.sqlite_file import Reader, Writer
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
        self._version = self._opening.version
        self._writer = Writer(path, self._opening)
        self._reader = Reader(path)
        self._log = WriteAheadLog(path, self._reader, threads, settings.log, failed=self._room.take_failure)
        self._scans = Scans(path, threads, self._damage.add)
        self._threads = threads
        self._check = Check(path, threads, self._damage.add)
        self._cache = Cache(settings.cache_bytes)
        self._gathering = Group()
        self._flying: Group | None = None
        self._work = trio.Event()
        """The task is to look after the next group: without turns, and before the log is begun anew."""
        self._turns = turns
        self._make_lane = make_lane
        self._lane: Lane | None = None
        self._planned: list[tuple[Job, Sequence[bytes]]] = []
        """To be decided at the turn's end, and what they will read."""
        self._bug: BaseException | None = None
        self._absent: set[bytes] = set()
        """Keys found absent since the last group was committed."""
        self._publisher: Publisher | None = None
        """Where other processes see what is committed."""
        self._stopped = True
        self._listeners: list[Callable[[Sequence[object]], None]] = []
        self._transactions = self._groups = self._rows = 0
        self._committed_groups = 0
        """Groups with writes that are on stable storage, of which the reads know."""

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
        self._reader.close()
        self._scans.close()
        self._log.close()
        self._writer.close()
        # The log is gone now, and on a disk that fills up meanwhile the next start needs room for one.
        self._room.begin()
        self._lock.close()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Commit and checkpoint until cancelled."""
        self._stopped = False
        if self._turns is not None:
            self._lane = self._make_lane(self._turns, "metadata")
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._commit_groups)
                nursery.start_soon(self._log.run)
                nursery.start_soon(self._check.run)
                nursery.start_soon(self._room.watch)
                task_status.started()
        finally:
            self._stopped = True
            if self._lane is not None:
                await self._lane.close()  # the group in progress gets its outcome
            self._refuse_waiting(Busy("the metadata engine is stopping"))

    # Reads

    async def get(self, key: bytes) -> Entry | None:
        return self._committed(key)

    async def get_many(self, keys: Sequence[bytes]) -> list[Entry | None]:
        return self.get_many_nowait(keys)

    def get_many_nowait(self, keys: Sequence[bytes]) -> list[Entry | None]:
        if self._flying is not None and not self._flying.writes.keys().isdisjoint(keys):
            return [self._read(key) for key in keys]
        if len(keys) > 1:
            self._fetch(keys)
        return [self._committed(key) for key in keys]

    def get_nowait(self, key: bytes) -> Entry | None:
        if self._flying is not None and key in self._flying.writes:
            return self._read(key)
        return self._committed(key)

    def _fetch(self, keys: Iterable[bytes]) -> None:
        """Have those that are not in memory there in one look-up; what cannot be read is met again by its key."""
        unknown = [key for key in keys if key not in self._absent and key not in self._cache]
        if len(unknown) < 2:
            return
        for key, entry in self._reader.get_many(unknown).items():
            if isinstance(entry, Entry):
                self._cache.add(key, entry)
            elif entry is None:
                self._absent.add(key)

    async def view(self, look: Callable[[Snapshot], T]) -> T:
        """While a group is flying its keys may change under us, in the file first and in the cache a little later.

        So a look that touched one of them is repeated on the reader alone, whose moment stands still.
        """
        flying = self._flying
        if flying is None:
            return look(Draft(self._committed_value, self._find_value))
        view = View(self._committed, self._find_value, flying.writes)
        try:
            result = look(view)
        except FlareError:
            if not view.doubtful:
                raise
        if view.doubtful:
            return look(Draft(self._read_value, self._find_value))
        return result

    async def find(self, alias: bytes) -> tuple[bytes, Entry] | None:
        return self._find(alias)

    async def scan(self, start: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        return await self._scans.scan(start, end, limit)

    async def scan_aliases(self, start: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes, bytes]]:
        return await self._scans.scan_aliases(start, end, limit)

    async def walk(
        self, start: bytes, end: bytes, limit: int, visit: Callable[[list[tuple[bytes, bytes]]], bytes | None]
    ) -> None:
        await self._scans.walk(start, end, limit, visit)

    def _committed(self, key: bytes) -> Entry | None:
        entry = self._cache.get(key)
        if entry is None and key not in self._absent:
            entry = self._read(key)
            if entry is not None:
                self._cache.add(key, entry)
        return entry

    def _committed_value(self, key: bytes) -> bytes | None:
        entry = self._committed(key)
        return None if entry is None else entry.value

    def _read_value(self, key: bytes) -> bytes | None:
        entry = self._read(key)
        return None if entry is None else entry.value

    def _find(self, alias: bytes) -> tuple[bytes, Entry] | None:
        """The committed row. Few ask, so it is kept nowhere."""
        try:
            return self._reader.find(alias)
        except RowCorrupt as error:
            self._damage.add(error.key)
            raise

    def _find_value(self, alias: bytes) -> tuple[bytes, bytes] | None:
        found = self._find(alias)
        return None if found is None else (found[0], found[1].value)

    def _read(self, key: bytes) -> Entry | None:
        try:
            return self._reader.get(key)
        except RowCorrupt:
            self._damage.add(key)
            raise

    # Decisions

    async def transact(self, decide: Callable[[Transaction], T]) -> T:
        if self._stopped:
            raise Busy("the metadata engine is not running")
        job = Job(decide)
        self._decide(job)
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
        if self._stopped:
            done(None, Busy("the metadata engine is not running"))
        elif self._turns is None:
            self._decide(job)
        else:
            self._planned.append((job, reads))
            if len(self._planned) == 1:
                self._turns.at_end(self._decide_planned)

    def _decide_planned(self) -> None:
        """Decide what this turn brought, after one look-up of all that it reads."""
        if self._stopped:
            return  # they are refused with all that wait
        planned, self._planned = self._planned, []
        try:
            self._fetch({key: None for _, reads in planned for key in reads})
        finally:
            for job, _ in planned:
                self._decide(job)

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
        self._publisher = publisher
        self._log.release_others = release
        publisher.publish((), self._committed_groups)
        return self._opening

    def note_damage(self, key: bytes) -> None:
        """Another reader of the file met a damaged row."""
        self._damage.add(key)

    def _expect(self, expected: Mapping[bytes, int]) -> None:
        for key, version in expected.items():
            if self._newest_version(key) != version:
                raise TransactionConflict(f"the key {key!r} has changed")

    def listen(self, listener: Callable[[Sequence[object]], None]) -> None:
        self._listeners.append(listener)

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
        return Mark(self._opening.id, self._committed_groups)

    def includes(self, mark: Mark) -> bool:
        if mark.opening == self._opening.id:
            return mark.number <= self._committed_groups
        return mark.number <= self._opening.past.get(mark.opening, -1)

    def statistics(self) -> SqliteStatistics:
        return SqliteStatistics(
            self._transactions, self._groups, self._rows, self._log.checkpoints, self._log.size_bytes, self._room.full
        )

    def _decide(self, job: Job) -> None:
        """Run the decision on top of all others and let it join the gathering group, with any outcome."""
        group = self._gathering
        draft = Draft(self._newest_value, self._find_newest)
        job.error = None
        job.notes = ()
        group.jobs.append(job)
        if len(group.jobs) == 1:
            self._plan_commit()
        try:
            job.result = job.decide(draft)
            if draft.writes and (self._room.full or self._room.failure):
                self._admit(job, draft)
        except Exception as error:
            job.error = error
            return
        job.notes = draft.notes
        self._version += 1
        version = self._version
        writes = group.writes
        for key, value in draft.writes.items():
            writes[key] = None if value is None else Entry(value, version)

    def _newest(self, key: bytes) -> Entry | None:
        """With everything decided so far, synced or not."""
        writes = self._gathering.writes
        if key in writes:
            return writes[key]
        if self._flying is not None and key in self._flying.writes:
            return self._flying.writes[key]
        return self._committed(key)

    def _newest_value(self, key: bytes) -> bytes | None:
        """The value of ``_newest``. Every decision reads some keys, so what is in memory is found in one call."""
        writes = self._gathering.writes
        if key not in writes:
            if self._flying is None or key not in self._flying.writes:
                entry = self._cache.peek(key)
                if entry is None and key not in self._absent:
                    entry = self._committed(key)
                return None if entry is None else entry.value
            writes = self._flying.writes
        entry = writes[key]
        return None if entry is None else entry.value

    def _newest_version(self, key: bytes) -> int:
        """Of a key, or of the row that an alias leads to."""
        entry = self._newest(key)
        if entry is None and len(key) == ALIAS_BYTES:
            found = self._find_newest(key)
            entry = None if found is None else self._newest(found[0])
        return ABSENT if entry is None else entry.version

    def _find_newest(self, alias: bytes) -> tuple[bytes, bytes] | None:
        """With everything decided so far: of the rows that it leads to the one that was written last."""
        later: list[dict[bytes, Entry | None]] = []
        for group in (self._gathering, self._flying):
            for key, entry in group.writes.items() if group is not None else ():
                if entry is not None and alias_of(entry.value) == alias and not any(key in writes for writes in later):
                    return key, entry.value
            if group is not None:
                later.append(group.writes)
        found = self._find_value(alias)
        return None if found is None or any(found[0] in writes for writes in later) else found

    def _admit(self, job: Job, draft: Draft) -> None:
        """Refuse what must not be written now."""
        self._room.admit(job.failures, lambda: draft.reclaims or self._growth(draft) <= 0)

    def _growth(self, draft: Draft) -> int:
        """Bytes that the transaction writes beyond those it deletes."""
        growth = 0
        for key, value in draft.writes.items():
            old = self._newest_value(key)
            growth += 0 if value is None else len(key) + len(value)
            growth -= 0 if old is None else len(key) + len(old)
        return growth

    # Groups

    def _plan_commit(self) -> None:
        """Have the gathering group, which has its first job, committed when the one under way is through."""
        if self._lane is None:
            self._work.set()
        elif self._flying is None:
            assert self._turns is not None
            self._turns.at_end(self._commit_now)

    def _commit_now(self) -> None:
        """At the end of a turn: give the group to the lane."""
        if self._stopped or self._flying is not None or not self._gathering.jobs or self._work.is_set():
            return
        if self._log.must_begin_anew(full=self._room.full):
            self._work.set()
        else:
            self._submit()

    def _submit(self) -> None:
        assert self._lane is not None
        group = self._take_group()
        if group.writes:
            self._lane.submit(partial(self._writer.apply, group.writes), partial(self._came_back, group))
        else:
            self._came_back(group, None)

    def _came_back(self, group: Group, error: BaseException | None) -> None:
        if error is not None and not isinstance(error, sqlite3.Error):
            self._bug = error
            self._work.set()
            return
        self._end_group(group, error)
        if self._gathering.jobs and self._turns is not None:
            self._turns.at_end(self._commit_now)

    async def _commit_groups(self) -> None:
        """Without a lane every group, with one those before which the log is begun anew."""
        while True:
            await self._work.wait()
            if self._bug is not None:
                raise self._bug
            await self._log.begin_anew_if_long(full=self._room.full)
            if self._lane is not None or not self._gathering.jobs:
                self._work = trio.Event()
                if self._lane is not None and self._flying is None and self._gathering.jobs:
                    self._submit()
                continue
            group = self._take_group()
            failure: sqlite3.Error | None = None
            try:
                if group.writes:
                    await self._threads.run(self._writer.apply, group.writes)
            except sqlite3.Error as error:
                failure = error
            self._end_group(group, failure)

    def _take_group(self) -> Group:
        group = self._flying = self._gathering
        self._gathering = Group()
        return group

    def _end_group(self, group: Group, error: sqlite3.Error | None) -> None:
        self._flying = None
        self._absent.clear()
        if error is None:
            self._group_committed(group)
        else:
            self._group_failed(group, error)

    def _group_committed(self, group: Group) -> None:
        # Readers see the new state, and caches are updated, before any job is answered.
        self._reader.refresh()
        self._committed_groups = self._writer.commits
        if self._publisher is not None:
            self._publisher.publish(group.writes, self._committed_groups)
        writes, jobs = group.writes, group.jobs
        self._cache.update(writes)
        if self._damage:
            for key in writes:
                self._damage.discard(key)
        self._groups += 1
        self._transactions += len(jobs)
        self._rows += len(writes)
        self._log.group_appended(len(writes), sum([len(entry.value) for entry in writes.values() if entry is not None]))
        self._tell([note for job in jobs if job.error is None for note in job.notes])
        for job in jobs:
            job.answer()

    def _tell(self, notes: Sequence[object]) -> None:
        for listener in self._listeners if notes else ():
            try:
                listener(notes)
            except Exception:  # a bug of one listener's is not that of those who wait for their answers
                log.exception("event=listener_failed")

    def _group_failed(self, group: Group, error: sqlite3.Error) -> None:
        """Nothing of the group is in the file: decide its jobs again, and those that were decided on top of it."""
        if error.sqlite_errorcode in FULL:
            for job in group.jobs:
                job.failures += 1
        self._room.take_failure(error)
        self._reader.refresh()
        again = group.jobs + self._gathering.jobs
        self._gathering = Group()
        for job in again:
            self._decide(job)

    def _refuse_waiting(self, error: FlareError) -> None:
        planned, self._planned = self._planned, []
        for group in (self._flying, self._gathering):
            for job in group.jobs if group is not None else ():
                job.error = error
                job.answer()
        for job, _ in planned:
            job.error = error
            job.answer()
        self._flying = None
        self._gathering = Group()
