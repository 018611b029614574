"""A lane without a thread, for virtual clocks: those would jump while a thread works."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from flared.http.lane import Done, Work
    from flared.http.turns import Turns


class InlineLane:
    """Is a Lane: the work is done at once, the answer comes in the next turn."""

    def __init__(self, turns: Turns, _name: str = "") -> None:
        self._turns = turns
        self._results: deque[tuple[Done, BaseException | None]] = deque()

    def submit(self, work: Work, done: Done) -> None:
        error: BaseException | None = None
        try:
            work()
        except BaseException as raised:
            error = raised
        self._results.append((done, error))
        self._turns.soon(self._report)

    async def close(self) -> None:
        with trio.CancelScope(shield=True):
            await trio.lowlevel.checkpoint()
        while self._results:
            self._report()

    def _report(self) -> None:
        if self._results:
            done, error = self._results.popleft()
            done(error)
