"""Group commit: decisions run at once, join the group that gathers, and are answered when their group is synced.

A decision runs inline on the event loop, on top of everything decided before it: the committed state, the group that
is being synced (*flying*) and the group that gathers meanwhile. A group is written and synced in one SQLite
transaction, by a lane or a thread; only then are its jobs answered. What a decision returned or raised is answered no
earlier than the group it may depend on. If a group fails, everything decided on top of it is decided again.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import trio

from flared.meta.alias import ALIAS_BYTES, alias_of
from flared.meta.jobs import Group, Job
from flared.meta.kv import ABSENT, Entry
from flared.meta.room import FULL, Room
from flared.meta.transaction import Draft

if TYPE_CHECKING:
    from flared.background import Threads
    from flared.errors import FlareError
    from flared.http.lane import Lane
    from flared.http.turns import Turns
    from flared.meta.committed import Committed
    from flared.meta.shared.published import Publisher
    from flared.meta.sqlite_file import Writer
    from flared.meta.sqlite_log import WriteAheadLog

log = logging.getLogger(__name__)

NOTHING: Mapping[bytes, Entry | None] = {}


class GroupCommit:
    """``run`` must be running for anything to commit. With ``lane``, what is planned in a turn is decided and committed
    at its end; without, a task commits in a thread."""

    def __init__(
        self,
        committed: Committed,
        writer: Writer,
        log_: WriteAheadLog,
        room: Room,
        threads: Threads,
        turns: Turns | None,
        *,
        version: int,
    ) -> None:
        self._committed = committed
        self._writer = writer
        self._log = log_
        self._room = room
        self._threads = threads
        self._turns = turns
        self._version = version
        self.lane: Lane | None = None
        self.publisher: Publisher | None = None
        """Where other processes see what is committed."""
        self.listeners: list[Callable[[Sequence[object]], None]] = []
        self.stopped = True
        self._gathering = Group()
        self._flying: Group | None = None
        self.flying: Mapping[bytes, Entry | None] = NOTHING
        """The writes that are being synced. Their keys may change under a read, in the file first."""
        self._work = trio.Event()
        """The task is to look after the next group: without turns, and before the log is begun anew."""
        self._planned: list[tuple[Job, Sequence[bytes]]] = []
        """To be decided at the turn's end, and what they will read."""
        self._bug: BaseException | None = None
        self.transactions = self.groups = self.rows = 0
        self.commits = 0
        """Groups with writes that are on stable storage, of which the reads know."""

    def plan(self, job: Job, reads: Sequence[bytes]) -> None:
        """Decide at the turn's end, after one look-up of all that this turn's decisions will read."""
        if self._turns is None:
            self.decide(job)
            return
        self._planned.append((job, reads))
        if len(self._planned) == 1:
            self._turns.at_end(self._decide_planned)

    def _decide_planned(self) -> None:
        """Decide what this turn brought, after one look-up of all that it reads."""
        if self.stopped:
            return  # they are refused with all that wait
        planned, self._planned = self._planned, []
        try:
            self._committed.fetch({key: None for _, reads in planned for key in reads})
        finally:
            for job, _ in planned:
                self.decide(job)

    def decide(self, job: Job) -> None:
        """Run the decision on top of all others and let it join the gathering group, with any outcome."""
        group = self._gathering
        draft = _Decision(self._committed, self.flying, group.writes, self.find_newest)
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
        if key in self.flying:
            return self.flying[key]
        return self._committed.get(key)

    def newest_version(self, key: bytes) -> int:
        """Of a key, or of the row that an alias leads to."""
        entry = self._newest(key)
        if entry is None and len(key) == ALIAS_BYTES:
            found = self.find_newest(key)
            entry = None if found is None else self._newest(found[0])
        return ABSENT if entry is None else entry.version

    def find_newest(self, alias: bytes) -> tuple[bytes, bytes] | None:
        """With everything decided so far: of the rows that it leads to the one that was written last."""
        later: list[dict[bytes, Entry | None]] = []
        for group in (self._gathering, self._flying):
            for key, entry in group.writes.items() if group is not None else ():
                if entry is not None and alias_of(entry.value) == alias and not any(key in writes for writes in later):
                    return key, entry.value
            if group is not None:
                later.append(group.writes)
        found = self._committed.find_value(alias)
        return None if found is None or any(found[0] in writes for writes in later) else found

    def _admit(self, job: Job, draft: Draft) -> None:
        """Refuse what must not be written now."""
        self._room.admit(job.failures, lambda: draft.reclaims or self._growth(draft) <= 0)

    def _growth(self, draft: Draft) -> int:
        """Bytes that the transaction writes beyond those it deletes."""
        growth = 0
        for key, value in draft.writes.items():
            old = self._newest(key)
            growth += 0 if value is None else len(key) + len(value)
            growth -= 0 if old is None else len(key) + len(old.value)
        return growth

    # Groups

    def _plan_commit(self) -> None:
        """Have the gathering group, which has its first job, committed when the one under way is through."""
        if self.lane is None:
            self._work.set()
        elif self._flying is None:
            assert self._turns is not None
            self._turns.at_end(self._commit_now)

    def _commit_now(self) -> None:
        """At the end of a turn: give the group to the lane."""
        if self.stopped or self._flying is not None or not self._gathering.jobs or self._work.is_set():
            return
        if self._log.must_begin_anew(full=self._room.full):
            self._work.set()
        else:
            self._submit()

    def _submit(self) -> None:
        assert self.lane is not None
        group = self._take_group()
        if group.writes:
            self.lane.submit(partial(self._writer.apply, group.writes), partial(self._came_back, group))
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

    async def run(self) -> None:
        """Without a lane every group, with one those before which the log is begun anew."""
        while True:
            await self._work.wait()
            if self._bug is not None:
                raise self._bug
            await self._log.begin_anew_if_long(full=self._room.full)
            if self.lane is not None or not self._gathering.jobs:
                self._work = trio.Event()
                if self.lane is not None and self._flying is None and self._gathering.jobs:
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
        self.flying, self._gathering = group.writes, Group()
        return group

    def _end_group(self, group: Group, error: sqlite3.Error | None) -> None:
        self._flying, self.flying = None, NOTHING
        self._committed.refresh()
        if error is None:
            self._group_committed(group)
        else:
            self._group_failed(group, error)

    def _group_committed(self, group: Group) -> None:
        # Readers see the new state, and caches are updated, before any job is answered.
        self.commits = self._writer.commits
        if self.publisher is not None:
            self.publisher.publish(group.writes, self.commits)
        writes, jobs = group.writes, group.jobs
        self._committed.update(writes)
        self.groups += 1
        self.transactions += len(jobs)
        self.rows += len(writes)
        self._log.group_appended(len(writes), sum([len(entry.value) for entry in writes.values() if entry is not None]))
        self._tell([note for job in jobs if job.error is None for note in job.notes])
        for job in jobs:
            job.answer()

    def _tell(self, notes: Sequence[object]) -> None:
        for listener in self.listeners if notes else ():
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
        again = group.jobs + self._gathering.jobs
        self._gathering = Group()
        for job in again:
            self.decide(job)

    def refuse_waiting(self, error: FlareError) -> None:
        planned, self._planned = self._planned, []
        for group in (self._flying, self._gathering):
            for job in group.jobs if group is not None else ():
                job.error = error
                job.answer()
        for job, _ in planned:
            job.error = error
            job.answer()
        self._flying, self.flying = None, NOTHING
        self._gathering = Group()


class _Decision(Draft):
    """A draft on top of everything decided so far. Every decision reads some keys, so each is found in one call."""

    __slots__ = ("_committed", "_flying", "_gathering")

    def __init__(
        self,
        committed: Committed,
        flying: Mapping[bytes, Entry | None],
        gathering: Mapping[bytes, Entry | None],
        find: Callable[[bytes], tuple[bytes, bytes] | None],
    ) -> None:
        super().__init__(committed.value, find)
        self._committed = committed
        self._gathering = gathering
        self._flying = flying

    def get(self, key: bytes) -> bytes | None:
        if key in self.writes:
            return self.writes[key]
        if key in self._gathering:
            entry = self._gathering[key]
        elif key in self._flying:
            entry = self._flying[key]
        else:
            entry = self._committed.peek(key)
            if entry is None and key not in self._committed.absent:
                entry = self._committed.get(key)
        return None if entry is None else entry.value
