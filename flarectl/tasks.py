"""Trio for flarectl: start it, stop it on Ctrl-C, and raise one failure instead of a group."""

from __future__ import annotations

import inspect
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar, TypeVarTuple

import trio

from flarectl.errors import Failure, Interrupted
from flared.errors import leaves

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# Trio 0.22 calls it ``cancellable``, newer ones only know the other name.
_ABANDON = (
    "abandon_on_cancel"
    if "abandon_on_cancel" in inspect.signature(trio.to_thread.run_sync).parameters
    else "cancellable"
)


def run_until_signal(main: Callable[[], Awaitable[T]]) -> T:
    """Run ``main``. SIGINT and SIGTERM cancel it and raise Interrupted once everything is cleaned up."""

    async def watched() -> T:
        results: list[T] = []
        async with open_tasks() as tasks:
            tasks.start_soon(_raise_on_signal)
            results.append(await main())
            tasks.cancel_scope.cancel()
        return results[0]

    return trio.run(watched, restrict_keyboard_interrupt_to_checkpoints=True, strict_exception_groups=True)


@asynccontextmanager
async def open_tasks() -> AsyncIterator[trio.Nursery]:
    """Open a nursery that raises one exception: of several, the most important."""
    try:
        async with trio.open_nursery(strict_exception_groups=True) as tasks:
            yield tasks
    except BaseExceptionGroup as group:
        raise _worst(group) from None


async def in_thread(function: Callable[[*Ts], T], *arguments: *Ts) -> T:
    """Run a blocking function; a cancellation waits for it."""
    return await trio.to_thread.run_sync(function, *arguments)


async def in_abandonable_thread(function: Callable[[*Ts], T], *arguments: *Ts) -> T:
    """Run a function that may block for ever, as on a pipe without a reader; a cancellation abandons it."""
    result: T = await trio.to_thread.run_sync(function, *arguments, **{_ABANDON: True})  # type: ignore[arg-type]  # the name depends on trio's version
    return result


async def _raise_on_signal() -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            raise Interrupted("interrupted")


def _worst(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the most important exception: an interrupt, else a bug, else a failure."""
    found = leaves(group)
    for kind in (Interrupted, KeyboardInterrupt):
        for leaf in found:
            if isinstance(leaf, kind):
                return leaf
    return next((leaf for leaf in found if not isinstance(leaf, Failure | trio.Cancelled)), found[0])
