"""Background work with one shape: a Worker does one step after the other, at a pace.

Also ``Threads``: the one way to leave the event loop for work that blocks.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar, TypeVarTuple

import trio

from flared.errors import FlareError, leaves

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

log = logging.getLogger(__name__)

PAUSE_AFTER_FAILURE_SECONDS = 5.0


class Threads(Protocol):
    """Runs a plain function off the event loop. Tests on a virtual clock run it inline instead."""

    async def run(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Return the function's result, or raise what it raised. Not cancelled once begun."""


class WorkerThreads:
    """Threads for real: at most ``limit`` at once, the rest wait their turn."""

    def __init__(self, limit: int) -> None:
        self._limiter = trio.CapacityLimiter(limit)

    async def run(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        return await trio.to_thread.run_sync(function, *arguments, limiter=self._limiter)


@dataclass(frozen=True, slots=True)
class WorkerStatistics:
    name: str
    steps: int
    failures: int


class Worker(Protocol):
    """One kind of background work."""

    name: str

    async def step(self) -> bool:
        """Do a bounded piece of work; True if there is more to do at once."""

    async def wait(self) -> None:
        """Return when there may be something to do again."""


class WorkerRun:
    """Drives one Worker until cancelled, and counts what happens to it.

    A step that fails is logged and tried again after a pause; a bug in one kind of upkeep, with its traceback, must
    not end a process that serves.
    ``rest`` paces it: after each step it rests ``rest`` times as long as the step took.
    """

    def __init__(self, worker: Worker, *, rest: float = 0.0) -> None:
        self._worker = worker
        self._rest = rest
        self._steps = 0
        self._failures = 0

    async def run(self) -> None:
        while True:
            # One failure, or a bug, of one kind of work must not end the process; it rests and tries again.
            started = trio.current_time()
            try:
                more = await self._worker.step()
                self._steps += 1
            except FlareError as error:
                self._failures += 1
                log.warning(
                    "event=worker_failed worker=%s error=%s message=%r", self._worker.name, error.code, str(error)
                )
                await trio.sleep(PAUSE_AFTER_FAILURE_SECONDS)
                continue
            except Exception:
                self._failures += 1
                log.exception("event=worker_bug worker=%s", self._worker.name)
                await trio.sleep(PAUSE_AFTER_FAILURE_SECONDS)
                continue
            if not more:
                await self._worker.wait()
            elif self._rest:
                await trio.sleep(self._rest * (trio.current_time() - started))
            else:
                await trio.lowlevel.checkpoint()

    def statistics(self) -> WorkerStatistics:
        return WorkerStatistics(self._worker.name, self._steps, self._failures)


def first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the exception that a caller should see of several that a nursery gathered.

    A bug before a FlareError, and neither hidden behind the cancellations that followed from it.
    """
    return min(leaves(group), key=_insignificance)


def _insignificance(error: BaseException) -> int:
    if isinstance(error, trio.Cancelled):
        return 2
    return 1 if isinstance(error, FlareError) else 0
