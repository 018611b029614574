"""Batches: many small changes of the metadata, some of them in one transaction, so that others get their turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flared.meta.kv import KV, Transaction

T = TypeVar("T")
R = TypeVar("R")

BATCH = 64
"""Changes in one transaction: few enough that those of clients do not wait for it."""


async def transact_each(kv: KV, items: Sequence[T], change: Callable[[Transaction, T], R]) -> list[R]:
    """``change`` every item, in order. Return what each change returned.

    ``change`` may be run several times for an item, like all that decides in a transaction. After a crash, a
    cancellation or an error the first batches are done, each as a whole, and the others are not.
    """
    answers: list[R] = []
    for start in range(0, len(items), BATCH):
        batch = items[start : start + BATCH]

        def decide(tx: Transaction, batch: Sequence[T] = batch) -> list[R]:
            return [change(tx, item) for item in batch]

        answers += await kv.transact(decide)
    return answers
