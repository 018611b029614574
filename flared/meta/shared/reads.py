"""Reads: a follower's committed view of the metadata file, with a cache that never hides what was published.

Before each look-up the number of published commits is compared. If it has changed, the keys that changed leave the
cache and the file is read at a new moment. A group can be in the file a little before it is published; while the moment
is such a one, the cache is left alone, so that no one sees two moments at once.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from flared.errors import RowCorrupt
from flared.meta.cache import ENTRY_OVERHEAD_BYTES, VALUE_BYTES_MAX
from flared.meta.kv import Entry
from flared.meta.shared.published import Subscriber, hash_of
from flared.meta.sqlite_file import Reader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

_HASH_BYTES = 200
"""The memory of an entry beyond one of ``meta.cache``: its hash, in a dict and as a number."""


class _Cache:
    """Entries and absent keys, found by key, forgotten by the hash of their key; least recently added out first."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._bytes = 0
        self._entries: OrderedDict[bytes, Entry | None] = OrderedDict()
        self._keys: dict[int, bytes] = {}
        self.get = self._entries.get
        self.has = self._entries.__contains__

    def add(self, key: bytes, entry: Entry | None) -> None:
        if entry is not None and len(entry.value) > VALUE_BYTES_MAX:
            return
        number = hash_of(key)
        if self._keys.setdefault(number, key) != key or key in self._entries:
            return  # two keys of one hash: the second is not remembered, else the first would not be forgotten
        self._entries[key] = entry
        self._bytes += _cost(key, entry)
        while self._bytes > self._limit:
            self.forget(hash_of(next(iter(self._entries))))

    def forget(self, number: int) -> None:
        key = self._keys.pop(number, None)
        if key is not None:
            self._bytes -= _cost(key, self._entries.pop(key))

    def clear(self) -> None:
        self._entries.clear()
        self._keys.clear()
        self._bytes = 0


def _cost(key: bytes, entry: Entry | None) -> int:
    return len(key) + (len(entry.value) if entry else 0) + ENTRY_OVERHEAD_BYTES + _HASH_BYTES


class SharedReads:
    """Point look-ups of a follower. ``begin`` first; until the next ``begin`` all look-ups are of one moment."""

    def __init__(
        self, path: Path, subscriber: Subscriber, opening: str, cache_bytes: int, report: Callable[[bytes], None]
    ) -> None:
        """``opening`` is the id of the owner's; ``report`` gets the key of each damaged row."""
        self._reader = Reader(path, writes=False)
        self._subscriber = subscriber
        self._opening = opening
        self._cache = _Cache(cache_bytes)
        self._report = report
        self._commits = -1
        self._moment = False
        """The file is being read at a moment."""
        self._ahead = False
        """That moment has commits which are not published yet."""

    def begin(self) -> None:
        """Let what is looked up from now on be no older than what is published."""
        commits = self._subscriber.commits()
        if commits != self._commits:
            changes = self._subscriber.take_changes()
            if changes is None:
                self._cache.clear()
            else:
                for number in changes:
                    self._cache.forget(number)
            self._commits = commits
            self.release()
        if not self._moment:
            self._ahead = self._reader.commits_of(self._opening) != commits
            self._moment = True

    def release(self) -> None:
        """Let go of the moment, which keeps the log of the file from beginning anew."""
        self._reader.refresh()
        self._moment = False

    def get(self, key: bytes) -> Entry | None:
        """Return what is recorded. Raises RowCorrupt and VolumeFailed."""
        if self._ahead:
            return self._read(key)
        cache = self._cache
        entry = cache.get(key)
        if entry is None and not cache.has(key):
            entry = self._read(key)
            cache.add(key, entry)
        return entry

    def find(self, alias: bytes) -> tuple[bytes, Entry] | None:
        """Return the row with this alias. Raises RowCorrupt and VolumeFailed. Few ask, so it is kept nowhere."""
        try:
            return self._reader.find(alias)
        except RowCorrupt as error:
            self._report(error.key)
            raise

    def fetch(self, keys: Iterable[bytes]) -> None:
        """Have these in memory after one look-up; what cannot be read is met again by its key."""
        if self._ahead:
            return
        has = self._cache.has
        unknown = [key for key in keys if not has(key)]
        if len(unknown) < 2:
            return
        for key, entry in self._reader.get_many(unknown).items():
            if not isinstance(entry, RowCorrupt):
                self._cache.add(key, entry)

    def close(self) -> None:
        self._reader.close()

    def _read(self, key: bytes) -> Entry | None:
        try:
            return self._reader.get(key)
        except RowCorrupt:
            self._report(key)
            raise
