"""Delays: many things that are to happen the same time after each began, behind one timer."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from flared.http.turns import Turns

log = logging.getLogger(__name__)

STRAGGLER_SECONDS = 0.05
"""How long a put waits for the remaining pieces once the quorum is durable. A large piece gets as long again as the
quorum took, if that is more: on slow disks 50 ms would leave every large put degraded."""

HEDGE_SECONDS = 1.0
"""A node that has not begun to answer a read after this long is passed over while another one has the piece."""


class Delay:
    """Calls each action ``seconds`` after it was added, in a turn, even if its purpose is gone by then.

    It holds what was added within that time: some hundred bytes a put or get of the last second at most. An action that
    raises is logged, and costs only what it was for.
    """

    def __init__(self, turns: Turns, seconds: float) -> None:
        self._turns = turns
        self._seconds = seconds
        self._waiting: deque[tuple[float, Callable[[], None]]] = deque()
        self._timed = False
        """There is a timer, or the actions are being run."""

    def add(self, action: Callable[[], None]) -> None:
        self._waiting.append((self._turns.now() + self._seconds, action))
        if not self._timed:
            self._set_timer()

    def _set_timer(self) -> None:
        self._timed = True
        self._turns.at(self._waiting[0][0], self._run_due)

    def _run_due(self) -> None:
        now = trio.current_time()
        while self._waiting and self._waiting[0][0] <= now:
            try:
                self._waiting.popleft()[1]()
            except Exception:
                log.exception("event=delayed_action_failed")
        self._timed = False
        if self._waiting:
            self._set_timer()
