"""The damaged rows of a metadata file that are known: logged once, counted, and shown to the operator."""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)

KEYS_MAX = 1000
"""Remembered by their keys; a file with more is lost as a whole."""


class DamagedRows:
    """Keys whose rows are damaged, until they are overwritten or deleted. May be used from several threads."""

    def __init__(self) -> None:
        self._keys: dict[bytes, None] = {}
        self.found = 0
        """Ever, in this process; a row is counted once, as long as there are fewer than KEYS_MAX."""

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, key: bytes) -> None:
        if key in self._keys or len(self._keys) >= KEYS_MAX:
            return
        self._keys[key] = None
        self.found += 1
        log.error("event=metadata_row_damaged key=%r", show(key))

    def discard(self, key: bytes) -> None:
        """The row was written anew, or deleted."""
        self._keys.pop(key, None)

    def first(self) -> str:
        """The key that was found first, for a sentence; empty if there is none."""
        return show(next(iter(list(self._keys)), b""))


def show(key: bytes) -> str:
    return key.decode(errors="backslashreplace")
