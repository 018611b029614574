"""Jobs: decisions on their way to stable storage, and the groups in which they get there."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from flared.meta.kv import Entry, Transaction

log = logging.getLogger(__name__)


class Job:
    """One ``transact`` on its way: decided again if the group under it fails."""

    __slots__ = ("decide", "done", "error", "failures", "notes", "result", "task")

    def __init__(
        self, decide: Callable[[Transaction], object], done: Callable[[object, Exception | None], None] | None = None
    ) -> None:
        self.decide = decide
        self.done = done
        self.result: object = None
        self.error: Exception | None = None
        self.notes: Sequence[object] = ()
        self.failures = 0
        self.task: trio.lowlevel.Task | None = None

    def abandon(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self.task = None
        return trio.lowlevel.Abort.SUCCEEDED

    def answer(self) -> None:
        if self.done is not None:
            error, self.error = self.error, None
            try:
                self.done(self.result if error is None else None, error)
            except Exception:  # a bug of one caller's is not the others'
                log.exception("event=transaction_callback_failed")
        elif self.task is not None:
            trio.lowlevel.reschedule(self.task)
            self.task = None


class Group:
    """Jobs that commit together, and all they write."""

    __slots__ = ("jobs", "writes")

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.writes: dict[bytes, Entry | None] = {}
