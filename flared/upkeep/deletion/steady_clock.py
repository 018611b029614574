"""SteadyClock: the time that deletes go by."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from flared.objects.store import Store


class SteadyClock:
    """The wall clock, but never further ahead than the monotonic clock has moved since the start, and standing still
    for the first grace: a clock that jumps, while this process runs or before, makes nothing due."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._wall = store.now()
        self._monotonic: float | None = None

    def steady_ms(self) -> int:
        if self._monotonic is None:
            self._monotonic = trio.current_time()
        elapsed = trio.current_time() - self._monotonic
        if elapsed < self._store.garbage_grace_seconds:
            return 0
        return int(min(self._store.now(), self._wall + elapsed) * 1000)
