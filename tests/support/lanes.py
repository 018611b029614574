"""A lane without a thread, for virtual clocks: those would jump while a thread works."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from flared.http.lane import Done, Work
    from flared.http.turns import Turns


class InlineLane:
    """Is a Lane: the work is done at once, the answer comes in the next turn."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._under_way = 0
        self._idle = trio.Event()

    def submit(self, work: Work, done: Done) -> None:
        self._under_way += 1
        error: BaseException | None = None
        try:
            work()
        except BaseException as raised:
            error = raised

        def tell() -> None:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()
            done(error)

        self._turns.soon(tell)

    async def close(self) -> None:
        with trio.CancelScope(shield=True):
            while self._under_way:
                self._idle = trio.Event()
                await self._idle.wait()
