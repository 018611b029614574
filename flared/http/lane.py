"""Lane: a permanent thread for blocking work that comes as an endless series of groups; it reports into a turn.

Each group commit or group append waits for a sync, so the next group is always gathering. A round trip through a
pooled thread and a task costs about 60 us and two task switches; a lane costs a queue and an eventfd. Other blocking
work (checkpoints, scans, cold reads) goes to ``background.Threads``.
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
"""Called with the exception of the work, or None. The work itself stores what it computes."""


class Lane(Protocol):
    """Runs work in the order of submission, one at a time. Tests on a virtual clock run it inline instead."""

    def submit(self, work: Work, done: Done) -> None:
        """Run ``work`` outside the event loop, then call ``done`` once, in a turn. Never waits."""

    async def close(self) -> None:
        """Return when all submitted work is done and its ``done`` was called.

        A cancellation does not shorten the wait, and it needs no turns. Nothing may be submitted afterwards.
        """


class ThreadLane:
    """A Lane with a thread of its own.

    It is a daemon thread: a disk that hangs must not keep the process from ending. Its user bounds the queue by
    submitting the next group only after the answer to the last one, with at most the end of a file before it.
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
            except BaseException as raised:  # passed to ``done``
                error = raised
            results.append((done, error))
            wake()

    def _report(self) -> None:
        """Call ``done`` for finished work; runs in a turn."""
        results = self._results
        while results:
            done, error = results.popleft()
            try:
                done(error)
            except Exception:
                log.exception("event=lane_callback_failed lane=%s", self._thread.name)
