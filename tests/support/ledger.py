"""The checker behind every crash test: nothing acknowledged is lost, nothing else is there but whole versions."""

from __future__ import annotations

import threading

Version = str | None
"""The digest of a body; None: no such object."""


class Ledger:
    """The values that may be found under each key, given the requests and the acknowledgements.

    Each key is written by one caller at a time; different keys by different threads.
    """

    def __init__(self) -> None:
        self._possible: dict[str, set[Version]] = {}
        self._touched: set[str] = set()
        self._lock = threading.Lock()
        self.acknowledged_count = 0
        self.unknown_count = 0

    def begin(self, key: str, version: Version) -> None:
        """``version`` is being written: from now on it may be found, as may what was there."""
        with self._lock:
            self._possible.setdefault(key, {None}).add(version)
            self._touched.add(key)

    def acknowledge(self, key: str, version: Version) -> None:
        """The write was answered 2xx: nothing else may be found."""
        with self._lock:
            self._possible[key] = {version}
            self.acknowledged_count += 1

    def unknown(self, key: str) -> None:
        """No answer, or a 5xx: the old and the new version are both right."""
        with self._lock:
            self.unknown_count += 1

    def settle(self, key: str, found: Version) -> str | None:
        """Compare what was ``found``: None if it may be, else a sentence. What was found once must stay."""
        with self._lock:
            possible = self._possible.setdefault(key, {None})
            if found not in possible:
                return f"{key}: found {short(found)}, may be {', '.join(sorted(map(short, possible)))}"
            self._possible[key] = {found}
            self._touched.discard(key)
            return None

    def keys(self) -> list[str]:
        with self._lock:
            return sorted(self._possible)

    def touched(self) -> list[str]:
        """Keys written since they were last settled."""
        with self._lock:
            return sorted(self._touched)

    def present(self) -> list[str]:
        """Keys under which an object must be."""
        with self._lock:
            return sorted(key for key, possible in self._possible.items() if None not in possible)

    def summary(self) -> str:
        return f"{self.acknowledged_count} writes acknowledged, {self.unknown_count} not; none lost"


def short(version: Version) -> str:
    return "nothing" if version is None else version[:12]
