"""Turns: one task handles everything that is ready at once, without a task switch in between.

One epoll holds the sockets of all connections that need no task of their own, and one eventfd for threads that have
something to report. One trio task waits for the epoll; each wake-up is a **turn**:

    turn = callbacks of ready descriptors, reports of threads, timers that are due, then the actions put ``at_end``,
           until there are none

So small requests travel in groups through the whole process: one read of the metadata, one batch to each node, one
commit, one burst of replies. Requests that may wait, or are large or rare, go to a task; see ``http.server``.

Descriptors are registered once, edge-triggered, for both directions, so no request costs an ``epoll_ctl``: a callback
must go on until the kernel says that it would block, or come back by ``soon``.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count

import trio

from flared.background import first_of

log = logging.getLogger(__name__)

Action = Callable[[], None]
Ready = Callable[[int], None]
"""Called with the events of ``select.epoll``."""

EVENTS_MAX = 256
"""Most descriptors of one turn: some milliseconds of work. Then the tasks of the process run, as trio would do."""

WRITABLE = select.EPOLLOUT
ENDED = select.EPOLLRDHUP
"""The peer sends nothing more; it may still wait for an answer."""
GONE = select.EPOLLHUP | select.EPOLLERR
_EVENTS = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET


@dataclass(frozen=True, slots=True)
class TurnStatistics:
    turns: int
    events: int
    """Callbacks of descriptors; divided by the turns, the size of the groups."""
    failures: int
    """Callbacks and actions that raised; each is logged with its traceback."""


class Turns:
    """The loop. Everything but ``wake`` is called from the task of the event loop; nothing here blocks.

    A callback or action that raises is logged and counted, and affects nothing else. If its connection must then be
    closed, the callback itself has to see to that (see ``http.turn_connection``).
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._ready: dict[int, Ready] = {}
        self._reports: list[Action] = []
        self._actions: list[Action] = []
        self._soon: list[Action] = []
        self._timers: list[tuple[float, int, Action]] = []
        """A heap of (deadline, number that keeps equal deadlines in order, action)."""
        self._timer_numbers = count()
        self._moment: float | None = None
        """The time of this turn, once somebody asked."""
        self._turning = False
        self._eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._eventfd, select.EPOLLIN | select.EPOLLET)
        self._ready[self._eventfd] = self._take_wake
        self._turns = self._events = self._failures = 0

    def watch(self, descriptor: int, ready: Ready) -> None:
        """Call ``ready`` in a turn whenever the descriptor becomes readable or writable, or its peer ends."""
        self._epoll.register(descriptor, _EVENTS)
        self._ready[descriptor] = ready

    def forget(self, descriptor: int) -> None:
        """Stop the calls, before the descriptor is closed. Not an error if it is not watched."""
        if self._ready.pop(descriptor, None) is not None:
            with contextlib.suppress(OSError):  # closed already: the kernel has removed it by itself
                self._epoll.unregister(descriptor)

    def at_end(self, action: Action) -> None:
        """Run ``action`` once, at the end of this turn, or of the next one between turns."""
        self._actions.append(action)
        if not self._turning and len(self._actions) == 1:
            self.wake()

    def soon(self, action: Action) -> None:
        """Run ``action`` once, in the next turn, after the callbacks that are ready by then."""
        self._soon.append(action)
        if len(self._soon) == 1:
            self.wake()

    def at(self, deadline: float, action: Action) -> None:
        """Run ``action`` once, in the first turn at or after ``deadline`` on trio's clock.

        It cannot be cancelled: the action finds out whether it is still wanted. Many actions with one delay belong in a
        queue behind a single timer.
        """
        heappush(self._timers, (deadline, next(self._timer_numbers), action))
        if self._timers[0][0] == deadline and not self._turning:
            self.wake()

    def now(self) -> float:
        """Return the time by trio's clock; of everything that happens in a turn it is the same."""
        if not self._turning:
            return trio.current_time()
        if self._moment is None:
            self._moment = trio.current_time()
        return self._moment

    def add_reporter(self, report: Action) -> None:
        """Run ``report`` in the turn after each ``wake``: it collects results of a thread."""
        self._reports.append(report)

    def remove_reporter(self, report: Action) -> None:
        self._reports.remove(report)

    def wake(self) -> None:
        """Start a turn; may be called from any thread."""
        os.eventfd_write(self._eventfd, 1)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run turns until cancelled. Registrations stay; ``close`` closes our descriptors."""
        poll, ready, descriptor = self._epoll.poll, self._ready, self._epoll.fileno()
        task_status.started()
        while True:
            if self._timers:
                with trio.CancelScope(deadline=self._timers[0][0]):  # move_on_at takes twice as long, every turn
                    await trio.lowlevel.wait_readable(descriptor)
            else:
                await trio.lowlevel.wait_readable(descriptor)
            self._turning, self._moment = True, None
            try:
                events = poll(0, EVENTS_MAX)
                soon, self._soon = self._soon, []
                self._turns += 1
                self._events += len(events)
                for number, flags in events:
                    callback = ready.get(number)  # an earlier callback of this turn may have closed it
                    if callback is not None:
                        try:
                            callback(flags)
                        except Exception:
                            self._failed()
                self._run_all(soon)
                if self._timers:
                    self._run_all(self._take_due())
                while self._actions:
                    actions, self._actions = self._actions, []
                    self._run_all(actions)
            finally:
                self._turning = False

    def close(self) -> None:
        """Close our descriptors. Not while ``run`` is running."""
        self._ready.clear()
        self._epoll.close()
        os.close(self._eventfd)

    def statistics(self) -> TurnStatistics:
        return TurnStatistics(self._turns, self._events, self._failures)

    def _take_wake(self, _flags: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._eventfd)
        self._run_all(self._reports)

    def _take_due(self) -> list[Action]:
        now, due = trio.current_time(), []
        while self._timers and self._timers[0][0] <= now:
            due.append(heappop(self._timers)[2])
        return due

    def _run_all(self, actions: Sequence[Action]) -> None:
        for action in actions:
            try:
                action()
            except Exception:
                self._failed()

    def _failed(self) -> None:
        self._failures += 1
        log.exception("event=turn_failed")


@asynccontextmanager
async def open_turns() -> AsyncIterator[Turns]:
    """Run turns inside the block. An exception of the block is raised unchanged."""
    turns = Turns()
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(turns.run)
            try:
                yield turns
            finally:
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise first_of(group) from None
    finally:
        turns.close()
