"""Delays: many things that are to happen the same time after each began, behind one timer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from flared.http.turns import Turns

STRAGGLER_SECONDS = 0.05
"""How long a put waits for the remaining pieces once the quorum is durable. A large piece gets as long again as the
quorum took, if that is more: on slow disks 50 ms would leave every large put degraded."""

HEDGE_SECONDS = 1.0
"""A node that has not begun to answer a read after this long is passed over while another one has the piece."""


class Delay:
    """Calls each action ``seconds`` after it was added, in a turn, whatever has become of what it was for.

    It holds what was added within that time: some hundred bytes a put or get of the last second at most.
    """

    def __init__(self, turns: Turns, seconds: float) -> None:
        self._turns = turns
        self._seconds = seconds
        self._waiting: deque[tuple[float, Callable[[], None]]] = deque()

    def add(self, action: Callable[[], None]) -> None:
        deadline = trio.current_time() + self._seconds
        self._waiting.append((deadline, action))
        if len(self._waiting) == 1:
            self._turns.at(deadline, self._run_due)

    def _run_due(self) -> None:
        now = trio.current_time()
        while self._waiting and self._waiting[0][0] <= now:
            self._waiting.popleft()[1]()
        if self._waiting:
            self._turns.at(self._waiting[0][0], self._run_due)
