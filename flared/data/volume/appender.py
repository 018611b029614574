"""Appender: the active segment of one kind, and the group commit in front of it.

Changes that arrive while one group is written and synced form the next one; otherwise a group is written at the end of
the turn that brought its first change. A lane (a permanent thread) looks up which pieces exist, writes and syncs;
everything else happens in turns. The order is: append, sync, enter into the memtable that reads consult, answer. So
nothing is acknowledged before its bytes are durable, and no reader sees a record that a crash could take back.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import trio

from flared.background import Threads
from flared.data.disk.disk import File
from flared.data.index.index import Location, Watermark
from flared.data.record import (
    BLOCK,
    KIND_NAMES,
    LARGE,
)
from flared.data.volume.changes import Batch, Change, Put
from flared.data.volume.group import Active, Group, mark_of, pack_large, pack_small, seal
from flared.data.volume.segment import GROUP_BYTES_MAX, Segment, Segments
from flared.errors import Busy, Damaged, FlareError, VolumeFull
from flared.http.lane import Lane
from flared.http.turns import Turns

log = logging.getLogger(__name__)

_ALLOCATE_BYTES = 64 * 1024 * 1024
_GROUP_RECORDS_MAX = 1024
_FAILURES_MAX = 3
"""Failed writes in a row after which the disk counts as broken."""


class AppenderOwner(Protocol):
    """The calls that an Appender makes to its volume."""

    segment_size: int

    def draw_sequences(self, count: int) -> int:
        """Return the first of so many sequence numbers, which belong to the caller."""

    def present(self, names: Sequence[str]) -> list[str]:
        """Return those of the names that the index has already; called in the lane."""

    def settled(self, changes: Sequence[Change], locations: Sequence[Location]) -> None:
        """Take note of durable changes and their locations."""

    def stop_writes(self, reason: str) -> None: ...


class Appender:
    """Writes only while ``run`` is running, in its own lane, which ``make_lane`` creates."""

    def __init__(
        self,
        owner: AppenderOwner,
        segments: Segments,
        turns: Turns,
        make_lane: Callable[[Turns, str], Lane],
        threads: Threads,
        kind: int,
    ) -> None:
        self._owner = owner
        self._segments = segments
        self._turns = turns
        self._make_lane = make_lane
        self._threads = threads
        self._kind = kind
        self._waiting: list[Change] = []
        self._lane: Lane | None = None
        self._under_way = False
        """True while the lane has a group. It gets the next one when it has answered, so its queue is bounded."""
        self._planned = False
        """True if the end of this turn begins a group."""
        self._broken = trio.Event()
        self._bug: BaseException | None = None
        self._active: Active | None = None
        self._sealed: list[Watermark] = []
        self._unsealed: list[Active] = []
        """Segments that ended while the lane was being closed."""
        self._roll_wanted: trio.Event | None = None
        self._failures = 0
        self.syncs = self.records = 0
        """Groups that became durable, and the records in them."""
        self._closed: FlareError | None = Busy("the volume is not open yet")
        self._pack = pack_large if kind == LARGE else pack_small

    def append(self, change: Change) -> None:
        """Queue a change; its batch gets the answer. Call ``wake`` after the last one."""
        if self._closed:
            change.batch.answers[change.number] = self._closed
        else:
            change.batch.left += 1
            self._waiting.append(change)

    def extend(self, changes: Sequence[Change], batch: Batch) -> None:
        """``append`` for many of one batch."""
        if self._closed:
            for change in changes:
                batch.answers[change.number] = self._closed
        else:
            batch.left += len(changes)
            self._waiting += changes

    def wake(self) -> None:
        """Have waiting changes written at the end of this turn, or after the group in progress."""
        if not self._planned and not self._under_way:
            self._planned = True
            self._turns.at_end(self._begin_group)

    @property
    def active(self) -> Segment | None:
        """The segment being written, once it exists."""
        return self._active.segment if self._active else None

    @property
    def unused_bytes(self) -> int:
        """Return the bytes preallocated on the disk, but not yet written."""
        return self._active.allocated - self._active.end if self._active else 0

    def take_marks(self) -> list[Watermark]:
        """Return how far the active segment is durable, and the segments sealed since the last call."""
        marks, self._sealed = self._sealed, []
        if self._active and self._active.segment:
            marks.append(mark_of(self._active, sealed=False))
        return marks

    async def run(self) -> None:
        """Write groups until cancelled, then answer Busy to all changes that still wait. Raise the exception of a bug
        in a group, whose callers have been answered that the outcome is unknown."""
        self._lane = self._make_lane(self._turns, f"append {KIND_NAMES[self._kind]}")
        self._closed = None
        try:
            await self._broken.wait()
            assert self._bug is not None
            raise self._bug
        finally:
            self.close(Busy("the volume is being closed"))
            lane, self._lane = self._lane, None
            with trio.CancelScope(shield=True):  # a thread may be writing from the callers' buffers
                await lane.close()
                self._roll()
                for active in self._unsealed:
                    await self._threads.run(self._seal, active)
                    self._note_sealed(active)

    def close(self, reason: FlareError) -> None:
        """Accept no more changes; answer all that wait with ``reason``."""
        self._closed = reason
        waiting, self._waiting = self._waiting, []
        for change in waiting:
            change.batch.answer(change.number, reason)

    async def request_roll(self) -> None:
        """Have the active segment sealed between two groups; return when it is."""
        if self._roll_wanted is None:
            self._roll_wanted = trio.Event()
            self.wake()
        await self._roll_wanted.wait()

    def _roll(self, rolled: Callable[[], None] = lambda: None) -> None:
        """Have the active segment sealed, if there is one, then call ``rolled``; the next group begins another.
        Not while a group is written."""
        active, self._active = self._active, None
        if active is None or active.segment is None:
            return rolled()
        self._sealed.append(mark_of(active, sealed=True))
        active.segment.sealed = True
        if self._lane is None:
            self._unsealed.append(active)
            return rolled()

        def sealed(bug: BaseException | None) -> None:
            if bug is not None:
                self._break(bug)
            self._note_sealed(active)
            rolled()

        self._lane.submit(partial(self._seal, active), sealed)
        return None

    def _seal(self, active: Active) -> None:
        """Seal the segment, in the lane; a failure is recorded in it."""
        assert active.segment
        try:
            seal(active)
        except FlareError as error:
            log.error("event=seal_failed path=%s error=%r", active.segment.path, str(error))
            active.error = error

    def _note_sealed(self, active: Active) -> None:
        if active.error:
            self._owner.stop_writes(str(active.error))

    def _begin_group(self) -> None:
        self._planned = False
        if self._under_way or self._lane is None:
            return
        wanted, self._roll_wanted = self._roll_wanted, None
        if wanted is not None:
            self._roll(wanted.set)
        if self._waiting:
            self._submit(self._take(), check=True)

    def _submit(self, changes: list[Change], *, check: bool) -> None:
        """Have the lane write the changes."""
        assert self._lane is not None
        try:
            group = self._form(changes, check=check)
        except Exception as bug:
            self._abandon(changes, bug)
            return
        self._under_way = True
        self._lane.submit(partial(self._write, group), partial(self._written, group))

    def _written(self, group: Group, bug: BaseException | None) -> None:
        """Answer the group that the lane has written, and begin the next one."""
        self._under_way = False
        try:
            if bug is not None:
                raise bug
            if group.existing:
                self._write_rest(group)
            elif group.error:
                self._fail(group, group.error)
            else:
                self.syncs += 1
                self.records += len(group.changes)
                self._settle(group)
        except BaseException as error:  # a bug: no caller may wait for this group forever
            self._abandon(group.changes, error)
        if self._waiting or self._roll_wanted:
            self.wake()

    def _abandon(self, changes: Sequence[Change], bug: BaseException) -> None:
        for change in changes:
            change.batch.finish()
        self._break(bug)

    def _break(self, bug: BaseException) -> None:
        self._bug = self._bug or bug
        self._broken.set()
        self.close(Busy("the volume is being closed"))

    def _write_rest(self, group: Group) -> None:
        """Write the others alone: some pieces existed already, so nothing was written."""
        changes = self._without(group.changes, set(group.existing))
        if changes and self._closed:
            for change in changes:
                change.batch.answer(change.number, self._closed)
        elif changes:
            self._submit(changes, check=False)

    def _take(self) -> list[Change]:
        """As much of what waits as fits into one group; one change at least."""
        room = GROUP_BYTES_MAX[self._kind]
        for count, change in enumerate(self._waiting[:_GROUP_RECORDS_MAX]):
            room -= change.length
            if room < 0 and count:
                break
        else:
            count = min(len(self._waiting), _GROUP_RECORDS_MAX)
        group, self._waiting = self._waiting[:count], self._waiting[count:]
        return group

    def _form(self, changes: list[Change], *, check: bool) -> Group:
        """Pack the changes for the active segment, or for a fresh one if they do not fit."""
        names = [change.name for change in changes if isinstance(change, Put) and not change.absent] if check else []
        total = sum([change.length for change in changes])
        active = self._active
        if active and active.end > BLOCK and active.end + total > self._owner.segment_size:
            self._roll()
            active = None
        if active is None:
            active = self._active = Active(self._segments.new_head(self._kind))
        group = Group(changes, active, names)
        self._pack(group, self._owner.draw_sequences(len(changes)))
        return group

    def _write(self, group: Group) -> None:
        """Write and sync the group, in the lane; a failure is recorded in the group."""
        active = group.active
        try:
            if group.check:
                group.existing = self._owner.present(group.check)
                if group.existing:
                    return
            if active.file is None:
                active.segment, active.file = self._segments.create(active.head)
            if self._kind == LARGE:
                self._allocate(active, active.file, group.end)
            active.file.write(active.end, group.buffers)
            group.synced = True
            active.file.sync()
        except FlareError as error:
            group.error = error

    def _allocate(self, active: Active, file: File, end: int) -> None:
        """Grow the file in large steps: few extents, and no allocation while a piece waits."""
        if end <= active.allocated:
            return
        step = min(_ALLOCATE_BYTES, self._owner.segment_size)
        wanted = -(-end // step) * step
        try:
            file.allocate(active.allocated, wanted - active.allocated)
        except VolumeFull:
            wanted = end  # no room for a whole step; the write will show if there is room for the group
        active.allocated = wanted

    def _settle(self, group: Group) -> None:
        active = group.active
        assert active.segment
        self._failures = 0
        active.end = active.segment.size = group.end
        active.segment.allocated = active.allocated = max(active.allocated, group.end)
        self._segments.known[active.head.id] = active.segment
        self._owner.settled(group.changes, group.locations)
        for change in group.changes:  # ``Batch.answer`` at each would be a tenth of what a small put costs here
            batch = change.batch
            batch.answers[change.number] = True
            batch.left -= 1
            if not batch.left:
                batch.finish()

    def _fail(self, group: Group, error: FlareError) -> None:
        """A failed write ends the segment; a failed sync is never repeated and ends all writing to the volume."""
        log.error(
            "event=append_failed segment=%016x synced=%s error=%r", group.active.head.id, group.synced, str(error)
        )
        self._failures += isinstance(error, Damaged)
        if group.synced or self._failures >= _FAILURES_MAX:
            self._owner.stop_writes(str(error))
        for change in group.changes:
            change.batch.answer(change.number, error)
        if group.active.segment:
            self._segments.known.setdefault(group.active.head.id, group.active.segment)
        self._roll()

    def _without(self, changes: Sequence[Change], existing: set[str]) -> list[Change]:
        rest = []
        for change in changes:
            if change.name in existing and isinstance(change, Put):
                change.batch.answer(change.number, False)
            else:
                rest.append(change)
        return rest
