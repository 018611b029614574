"""Threads that are none."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

import trio

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class InlineThreads:
    """``Threads`` for trio's autojump clock, which would jump while a thread runs."""

    async def run(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        await trio.lowlevel.checkpoint()
        return function(*arguments)
