"""The entries last read, in memory: a point look-up in a dict is ten times cheaper than one in a B-tree."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping

from flared.meta.kv import Entry

ENTRY_OVERHEAD_BYTES = 300
"""The memory of a key, a value and their Entry beyond their own bytes, measured on CPython 3.11."""

VALUE_BYTES_MAX = 4096
"""Larger values (pages of extents) are read in sequence, once; they would only push out what is read again."""


class Cache:
    """Committed entries, least recently read out first. Keys that are not there are not remembered."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._bytes = 0
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()
        self.peek: Callable[[bytes], Entry | None] = self._entries.get
        """As ``get``, without taking note of it: for decisions, which look at what a put is about to replace."""

    def __contains__(self, key: bytes) -> bool:
        return key in self._entries

    def get(self, key: bytes) -> Entry | None:
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    def add(self, key: bytes, entry: Entry) -> None:
        """Remember what was read just now."""
        if len(entry.value) > VALUE_BYTES_MAX:
            return
        if key in self._entries:
            self.drop(key)
        self._entries[key] = entry
        self._bytes += len(key) + len(entry.value) + ENTRY_OVERHEAD_BYTES
        while self._bytes > self._limit:
            self.drop(next(iter(self._entries)))

    def update(self, writes: Mapping[bytes, Entry | None]) -> None:
        """A commit changed these keys."""
        entries = self._entries
        for key in [key for key in writes if key in entries]:
            entry = writes[key]
            self.drop(key)
            if entry is not None:
                self.add(key, entry)

    def drop(self, key: bytes) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= len(key) + len(entry.value) + ENTRY_OVERHEAD_BYTES
