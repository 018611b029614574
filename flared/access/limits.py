"""Limits: how often something may happen by one name. Pure.

A token bucket for each name: it holds as much as a *burst* and fills at a *rate*. Names beyond ``names_max`` push out
the one that was used least recently; what it had used up is forgotten, so state stays bounded.
"""

from __future__ import annotations

from collections import OrderedDict

NAMES_MAX = 10_000
"""About 2 MB."""


class RateLimit:
    """``rate`` a second, and ``burst`` at once. Times are seconds of any monotonic clock."""

    def __init__(self, rate: float, burst: float, names_max: int = NAMES_MAX) -> None:
        self.rate = rate
        self.burst = burst
        self._names_max = names_max
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """(tokens, when they were counted)"""

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, name: str, now: float) -> float:
        """Count one more; return 0 if it may be, else in how many seconds the next one may. A refused one is free."""
        tokens, when = self._buckets.pop(name, (self.burst, now))
        tokens = min(self.burst, tokens + max(0.0, now - when) * self.rate)
        allowed = tokens >= 1
        self._buckets[name] = (tokens - 1 if allowed else tokens, now)
        if len(self._buckets) > self._names_max:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1 - tokens) / self.rate

    def give_back(self, name: str) -> None:
        """What was counted last will be counted once more: leave out one of the two."""
        if name in self._buckets:
            tokens, when = self._buckets[name]
            self._buckets[name] = min(self.burst, tokens + 1), when
