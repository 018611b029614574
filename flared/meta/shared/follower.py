"""Follower: the metadata engine of a process that does not own the file.

It reads the file itself. A decision runs on what is committed; what it wrote travels to the owner with the versions of
all keys it read, those of one turn together, and is applied there if they still hold. If not, the conflicting commit is
published by the time the answer is here, and the decision runs again. One that writes nothing is answered at once: all
it read was of one moment.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, TypeVar, cast

import trio

from flared import __version__, errors
from flared.background import WorkerThreads
from flared.errors import Busy, FlareError, RowCorrupt, TransactionConflict
from flared.meta.jobs import Job
from flared.meta.kv import ABSENT, Entry, Health, Mark, Snapshot, Transaction
from flared.meta.scans import SCANS_MAX, Scans
from flared.meta.shared.frames import (
    PROTOCOL,
    BadFrame,
    Commit,
    Kind,
    Outcome,
    pack_commit,
    pack_list,
    unpack_answers,
)
from flared.meta.shared.reads import SharedReads
from flared.meta.transaction import ATTEMPTS_MAX, Draft

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from flared.http.turns import Turns
    from flared.meta.shared.channel import Channel
    from flared.meta.shared.published import Subscriber

T = TypeVar("T")
Note = tuple[bytes, int, int]

log = logging.getLogger(__name__)

CACHE_BYTES = 16 * 1024 * 1024
GROUP_BYTES_MAX = 8 * 1024 * 1024
RELEASE_SECONDS = 0.2
"""A moment of the file is held no longer, so that its log can begin anew."""


class _Pending:
    """A job at the owner's."""

    __slots__ = ("attempts", "draft", "expected", "fixed", "job")

    def __init__(self, job: Job, *, fixed: bool) -> None:
        self.job = job
        self.fixed = fixed
        """Its versions were given: a conflict is its answer."""
        self.attempts = 0
        self.draft: Draft
        self.expected: Mapping[bytes, int] = {}


class FollowerKV:
    """A KV on the owner's file. Nothing commits before ``run`` is running and the owner's HELLO has come."""

    def __init__(self, path: Path, subscriber: Subscriber, turns: Turns, hello: Mapping[str, object]) -> None:
        """``hello`` is the content of the owner's HELLO. Raises BadFrame if it is another version's."""
        # Of one protocol and two versions of Flare, what the rows hold might differ: an upgrade restarts both.
        if (hello.get("version"), hello.get("protocol")) != (__version__, PROTOCOL):
            raise BadFrame(f"the owner is of version {hello.get('version')}, this process of {__version__}")
        opening, past = hello["opening"], hello["past"]
        if not (isinstance(opening, str) and isinstance(past, dict)):
            raise BadFrame("the owner does not name its opening of the file")
        self._opening = opening
        self._past: dict[str, int] = past
        self._subscriber = subscriber
        self._turns = turns
        self._reads = SharedReads(path, subscriber, opening, CACHE_BYTES, self._report)
        self._scans = Scans(path, WorkerThreads(SCANS_MAX), self._report_from_thread, writes=False)
        self._channel: Channel | None = None
        self._before_commits: Callable[[], None] = lambda: None
        self._planned: list[tuple[_Pending, Sequence[bytes]]] = []
        self._outgoing: list[bytes] = []
        self._outgoing_bytes = 0
        self._sent: dict[int, _Pending] = {}
        self._number = 0
        self._damaged: list[bytes] = []
        """Found by scans, not reported yet."""
        self._listeners: list[Callable[[Sequence[object]], None]] = []
        self._health = Health()

    def connect(self, channel: Channel, before_commits: Callable[[], None]) -> None:
        """Commit through ``channel`` from now on; ``before_commits`` sends what must be known there before a group."""
        self._channel = channel
        self._before_commits = before_commits

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Let go of old moments until cancelled; then what waits is refused."""
        task_status.started()
        try:
            while True:
                await trio.sleep(RELEASE_SECONDS)
                self._reads.release()
                damaged, self._damaged = self._damaged, []
                for key in damaged:
                    self._report(key)
        finally:
            self.lose_owner()

    def close(self) -> None:
        """Let go of the file. Blocks; not while ``run`` is running."""
        self._reads.close()
        self._scans.close()

    def lose_owner(self) -> None:
        """The owner is gone, or we are: no one knows what became of the commits under way."""
        self._channel = None
        waiting = [pending.job for pending in self._sent.values()] + [pending.job for pending, _ in self._planned]
        self._sent.clear()
        self._planned.clear()
        self._outgoing.clear()
        for job in waiting:
            job.error = Busy("the owner of the metadata is gone")
            job.answer()

    def take_answers(self, payload: bytes) -> None:
        """An ANSWERS frame has come. Raises BadFrame."""
        again = []
        for answer in unpack_answers(payload):
            pending = self._sent.pop(answer.id, None)
            if pending is None:
                raise BadFrame(f"an answer to commit {answer.id}, which was not sent")
            if answer.outcome is Outcome.DONE:
                for listener in self._listeners:
                    listener(pending.draft.notes)
            elif answer.outcome is Outcome.CONFLICT and not pending.fixed and pending.attempts < ATTEMPTS_MAX:
                again.append(pending)
                continue
            elif answer.outcome is Outcome.CONFLICT:
                pending.job.error = TransactionConflict(answer.text or "the keys of a transaction changed under it")
            else:
                pending.job.error = _error_of(answer.text)
            pending.job.answer()
        if again:
            self._decide_all(again, ())

    def release(self) -> None:
        """Let go of the moment at which the file is read."""
        self._reads.release()

    def take_health(self, health: Health) -> None:
        """The owner's last report of its own state."""
        self._health = health

    # Reads

    async def get(self, key: bytes) -> Entry | None:
        self._reads.begin()
        return self._reads.get(key)

    async def get_many(self, keys: Sequence[bytes]) -> list[Entry | None]:
        return self.get_many_nowait(keys)

    def get_many_nowait(self, keys: Sequence[bytes]) -> list[Entry | None]:
        reads = self._reads
        reads.begin()
        if len(keys) > 1:
            reads.fetch(keys)
        return [reads.get(key) for key in keys]

    def get_nowait(self, key: bytes) -> Entry | None:
        self._reads.begin()
        return self._reads.get(key)

    async def view(self, look: Callable[[Snapshot], T]) -> T:
        self._reads.begin()
        return look(Draft(self._value, self._find_value))

    async def find(self, alias: bytes) -> tuple[bytes, Entry] | None:
        self._reads.begin()
        return self._reads.find(alias)

    async def scan_aliases(self, start: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes, bytes]]:
        return await self._scans.scan_aliases(start, end, limit)

    async def scan(self, start: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        return await self._scans.scan(start, end, limit)

    async def walk(
        self, start: bytes, end: bytes, limit: int, visit: Callable[[list[tuple[bytes, bytes]]], bytes | None]
    ) -> None:
        await self._scans.walk(start, end, limit, visit)

    def _value(self, key: bytes) -> bytes | None:
        entry = self._reads.get(key)
        return None if entry is None else entry.value

    def _find_value(self, alias: bytes) -> tuple[bytes, bytes] | None:
        found = self._reads.find(alias)
        return None if found is None else (found[0], found[1].value)

    def _report(self, key: bytes) -> None:
        if self._channel is not None:
            self._channel.send(Kind.FOUND, json.dumps({"row": key.hex()}).encode())

    def _report_from_thread(self, key: bytes) -> None:
        self._damaged.append(key)

    # Decisions

    async def transact(self, decide: Callable[[Transaction], T]) -> T:
        job = Job(decide)
        await self._wait_for(job, _Pending(job, fixed=False))
        return cast("T", job.result)

    async def commit(self, expected: Mapping[bytes, int], writes: Mapping[bytes, bytes | None]) -> None:
        def decide(tx: Transaction) -> None:
            for key, value in writes.items():
                if value is None:
                    tx.delete(key)
                else:
                    tx.put(key, value)

        job = Job(decide)
        pending = _Pending(job, fixed=True)
        pending.expected = expected
        await self._wait_for(job, pending)

    def transact_nowait(
        self,
        decide: Callable[[Transaction], T],
        done: Callable[[T | None, Exception | None], None],
        *,
        reads: Sequence[bytes] = (),
    ) -> None:
        if self._channel is None:
            return done(None, Busy("the owner of the metadata is gone"))
        job = Job(decide, cast("Callable[[object, Exception | None], None]", done))
        return self._plan(_Pending(job, fixed=False), reads)

    def listen(self, listener: Callable[[Sequence[object]], None]) -> None:
        self._listeners.append(listener)

    def health(self) -> Health:
        return self._health

    def checked_since(self, _moment: float) -> bool:
        return False  # the owner checks the file, and nothing that needs this runs elsewhere

    def mark(self) -> Mark:
        return Mark(self._opening, self._subscriber.commits())

    def includes(self, mark: Mark) -> bool:
        if mark.opening == self._opening:
            return mark.number <= self._subscriber.commits()
        return mark.number <= self._past.get(mark.opening, -1)

    async def _wait_for(self, job: Job, pending: _Pending) -> None:
        if self._channel is None:
            raise Busy("the owner of the metadata is gone")
        self._plan(pending, ())
        job.task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(job.abandon)
        if job.error is not None:
            error, job.error = job.error, None
            raise error

    def _plan(self, pending: _Pending, reads: Sequence[bytes]) -> None:
        self._planned.append((pending, reads))
        if len(self._planned) == 1:
            self._turns.at_end(self._decide_planned)

    def _decide_planned(self) -> None:
        """Decide what this turn brought, after one look-up of all that it reads."""
        planned, self._planned = self._planned, []
        self._decide_all([pending for pending, _ in planned], {key: None for _, reads in planned for key in reads})

    def _decide_all(self, waiting: Sequence[_Pending], reads: Iterable[bytes]) -> None:
        try:
            self._reads.begin()
            self._reads.fetch(reads)
        except FlareError as error:  # the file cannot be read
            for pending in waiting:
                pending.job.error = error
                pending.job.answer()
            return
        for pending in waiting:
            # If no one waits for it any more, its caller has given up all that it stored.
            if pending.job.done is not None or pending.job.task is not None:
                self._decide(pending)

    def _decide(self, pending: _Pending) -> None:
        job, read = pending.job, {} if not pending.fixed else dict(pending.expected)

        def look(key: bytes) -> bytes | None:
            entry = self._reads.get(key)
            read[key] = ABSENT if entry is None else entry.version
            return None if entry is None else entry.value

        def find(alias: bytes) -> tuple[bytes, bytes] | None:
            found = self._reads.find(alias)
            read[alias] = ABSENT if found is None else found[1].version
            return None if found is None else (found[0], found[1].value)

        draft = pending.draft = Draft(look, find)
        pending.attempts += 1
        try:
            job.result = job.decide(draft)
        except Exception as error:
            job.error = error
            return job.answer()
        if not (draft.writes or draft.notes or pending.fixed):
            return job.answer()
        if self._channel is None:
            job.error = Busy("the owner of the metadata is gone")
            return job.answer()
        # Others have no listeners at the owner's.
        notes = [cast("Note", note) for note in draft.notes if isinstance(note, tuple)]
        self._number += 1
        packed = pack_commit(Commit(self._number, read, draft.writes, notes, draft.reclaims))
        self._sent[self._number] = pending
        if self._outgoing and self._outgoing_bytes + len(packed) > GROUP_BYTES_MAX:
            self._send()
        self._outgoing.append(packed)
        self._outgoing_bytes += len(packed)
        if len(self._outgoing) == 1:
            self._turns.at_end(self._send)
        return None

    def _send(self) -> None:
        outgoing, self._outgoing, self._outgoing_bytes = self._outgoing, [], 0
        if outgoing and self._channel is not None:
            self._before_commits()
            self._channel.send(Kind.COMMITS, pack_list(outgoing))


def _error_of(text: str) -> FlareError:
    """The error that an answer names, as far as this side can make it again."""
    name, _, message = text.partition("\n")
    if name == RowCorrupt.__name__:
        return RowCorrupt(bytes.fromhex(message))
    kind = getattr(errors, name, None)
    if isinstance(kind, type) and issubclass(kind, FlareError) and kind.__init__ is FlareError.__init__:
        return kind(message)
    return Busy(f"the owner of the metadata: {name}: {message}")
