"""What is committed, as the event loop reads it: from memory, known to be absent, or looked up in the file.

All look-ups in the file are of one moment, until ``refresh``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from flared.errors import RowCorrupt
from flared.meta.cache import Cache
from flared.meta.kv import Entry
from flared.meta.sqlite_file import Reader

if TYPE_CHECKING:
    from pathlib import Path

    from flared.meta.damage import DamagedRows


class Committed:
    """Raises RowCorrupt for the key of a damaged row, which it reports to ``damage``, and VolumeFailed."""

    def __init__(self, path: Path, cache_bytes: int, damage: DamagedRows) -> None:
        self.reader = Reader(path)
        self._cache = Cache(cache_bytes)
        self._damage = damage
        self.absent: set[bytes] = set()
        """Keys found absent since the last refresh."""
        self.peek: Callable[[bytes], Entry | None] = self._cache.peek
        """The entry, if it is in memory; it does not count as a read."""

    def get(self, key: bytes) -> Entry | None:
        entry = self._cache.get(key)
        if entry is None and key not in self.absent:
            entry = self.read(key)
            if entry is not None:
                self._cache.add(key, entry)
        return entry

    def value(self, key: bytes) -> bytes | None:
        entry = self.get(key)
        return None if entry is None else entry.value

    def read(self, key: bytes) -> Entry | None:
        """The entry in the file, past what is in memory."""
        try:
            return self.reader.get(key)
        except RowCorrupt:
            self._damage.add(key)
            raise

    def read_value(self, key: bytes) -> bytes | None:
        entry = self.read(key)
        return None if entry is None else entry.value

    def find(self, alias: bytes) -> tuple[bytes, Entry] | None:
        """The row with this alias. Few ask, so it is kept nowhere."""
        try:
            return self.reader.find(alias)
        except RowCorrupt as error:
            self._damage.add(error.key)
            raise

    def find_value(self, alias: bytes) -> tuple[bytes, bytes] | None:
        found = self.find(alias)
        return None if found is None else (found[0], found[1].value)

    def fetch(self, keys: Iterable[bytes]) -> None:
        """Have those that are not in memory there in one look-up; what cannot be read is met again by its key."""
        unknown = [key for key in keys if key not in self.absent and key not in self._cache]
        if len(unknown) < 2:
            return
        for key, entry in self.reader.get_many(unknown).items():
            if isinstance(entry, Entry):
                self._cache.add(key, entry)
            elif entry is None:
                self.absent.add(key)

    def refresh(self) -> None:
        """Read the newest moment from now on."""
        self.absent.clear()
        self.reader.refresh()

    def update(self, writes: Mapping[bytes, Entry | None]) -> None:
        """A commit changed these keys."""
        self._cache.update(writes)
        if self._damage:
            for key in writes:
                self._damage.discard(key)

    def close(self) -> None:
        self.reader.close()
