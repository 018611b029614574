"""Lane: a thread that stays, for blocking work that comes in an endless row of groups, and answers into a turn.

A group commit or a group append costs a sync each, so there is always a next group. A hop to a pooled thread and back
through a task costs about 60 us and two task switches each time; a lane costs a queue and an eventfd. Everything that
is not such a row (checkpoints, scans, segments that are begun or sealed) goes to ``background.Threads``.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import TYPE_CHECKING, Protocol

import trio

if TYPE_CHECKING:
    from flared.http.turns import Turns

log = logging.getLogger(__name__)

Work = Callable[[], object]
Done = Callable[[BaseException | None], None]
"""Gets what the work raised. What it returns it keeps in a value of its own."""


class Lane(Protocol):
    """Runs one piece of work after the other, in the order given. Tests on a virtual clock run it inline instead."""

    def submit(self, work: Work, done: Done) -> None:
        """Run ``work`` off the event loop; then call ``done`` once, in a turn. Never waits."""

    async def close(self) -> None:
        """Return when all that was submitted is done and told, whatever is cancelled meanwhile, and whether there are
        still turns or not. Nothing may be submitted after it."""


class ThreadLane:
    """A Lane with a thread of its own.

    It is a daemon thread: a disk that hangs must not keep the process from ending. What it holds is bounded by its
    user, who submits the next group only when the last one was answered.
    """

    def __init__(self, turns: Turns, name: str) -> None:
        self._turns = turns
        self._queue: SimpleQueue[tuple[Work, Done] | None] = SimpleQueue()
        self._results: deque[tuple[Done, BaseException | None]] = deque()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        turns.add_reporter(self._report)
        self._thread.start()

    def submit(self, work: Work, done: Done) -> None:
        self._queue.put((work, done))

    async def close(self) -> None:
        self._queue.put(None)
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._thread.join)
        self._turns.remove_reporter(self._report)
        self._report()

    def _run(self) -> None:
        get, results, wake = self._queue.get, self._results, self._turns.wake
        while (job := get()) is not None:
            work, done = job
            error: BaseException | None = None
            try:
                work()
            except BaseException as raised:  # carried over to whoever waits for it
                error = raised
            results.append((done, error))
            wake()

    def _report(self) -> None:
        """In a turn: tell what is done by now."""
        results = self._results
        while results:
            done, error = results.popleft()
            try:
                done(error)
            except Exception:
                log.exception("event=lane_callback_failed lane=%s", self._thread.name)
