"""The metadata in memory: for tests and throw-away clusters. Nothing survives the process."""

from __future__ import annotations

import secrets
from bisect import bisect_left, insort
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import trio

from flared.errors import TransactionConflict
from flared.meta.alias import alias_of
from flared.meta.kv import ABSENT, Entry, Health, Mark, Snapshot, Transaction
from flared.meta.transaction import Draft, transact_optimistically

T = TypeVar("T")


class MemoryKV:
    """A KV on a dict and a sorted list of its keys. Its transactions are optimistic, as an etcd's would be."""

    def __init__(self) -> None:
        self._entries: dict[bytes, Entry] = {}
        self._keys: list[bytes] = []
        self._aliases: dict[bytes, bytes] = {}
        """The key of each alias."""
        self._version = ABSENT
        self._opening = secrets.token_hex(16)
        self._listeners: list[Callable[[Sequence[object]], None]] = []

    async def get(self, key: bytes) -> Entry | None:
        await trio.lowlevel.checkpoint()
        return self._entries.get(key)

    async def get_many(self, keys: Sequence[bytes]) -> list[Entry | None]:
        await trio.lowlevel.checkpoint()
        return [self._entries.get(key) for key in keys]

    async def view(self, look: Callable[[Snapshot], T]) -> T:
        await trio.lowlevel.checkpoint()
        return look(Draft(self._value, self._find))

    async def find(self, alias: bytes) -> tuple[bytes, Entry] | None:
        await trio.lowlevel.checkpoint()
        key = self._aliases.get(alias)
        return None if key is None else (key, self._entries[key])

    async def scan_aliases(self, start: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes, bytes]]:
        await trio.lowlevel.checkpoint()
        aliases = sorted(alias for alias in self._aliases if start <= alias < end)
        keys = [self._aliases[alias] for alias in aliases[:limit]]
        return [(alias, key, self._entries[key].value) for alias, key in zip(aliases, keys, strict=False)]

    async def scan(self, start: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        await trio.lowlevel.checkpoint()
        return self._page(start, end, limit)

    async def walk(
        self, start: bytes, end: bytes, limit: int, visit: Callable[[list[tuple[bytes, bytes]]], bytes | None]
    ) -> None:
        await trio.lowlevel.checkpoint()
        position: bytes | None = start
        while position is not None:
            page = self._page(position, end, limit)
            position = visit(page)
            if not page:
                break

    async def commit(self, expected: Mapping[bytes, int], writes: Mapping[bytes, bytes | None]) -> None:
        await trio.lowlevel.checkpoint()
        for key, version in expected.items():
            entry = self._entries.get(self._aliases.get(key, key))
            if (ABSENT if entry is None else entry.version) != version:
                raise TransactionConflict(f"the key {key!r} has changed")
        if writes:
            self._version += 1
        for key, value in writes.items():
            self._write(key, value)

    async def transact(self, decide: Callable[[Transaction], T]) -> T:
        return await transact_optimistically(self, decide, self._tell)

    def get_many_nowait(self, keys: Sequence[bytes]) -> list[Entry | None]:
        return [self._entries.get(key) for key in keys]

    def get_nowait(self, key: bytes) -> Entry | None:
        return self._entries.get(key)

    def transact_nowait(
        self,
        decide: Callable[[Transaction], T],
        done: Callable[[T | None, Exception | None], None],
        *,
        reads: Sequence[bytes] = (),
    ) -> None:
        async def transact() -> None:
            result: T | None = None
            error: Exception | None = None
            try:
                result = await self.transact(decide)
            except Exception as raised:
                error = raised
            done(result, error)

        trio.lowlevel.spawn_system_task(transact)

    def listen(self, listener: Callable[[Sequence[object]], None]) -> None:
        self._listeners.append(listener)

    def health(self) -> Health:
        return Health()

    def checked_since(self, _moment: float) -> bool:
        return True

    def mark(self) -> Mark:
        return Mark(self._opening, self._version)

    def includes(self, mark: Mark) -> bool:
        return mark.opening == self._opening and mark.number <= self._version

    def _tell(self, notes: list[object]) -> None:
        for listener in self._listeners:
            listener(notes)

    def _value(self, key: bytes) -> bytes | None:
        entry = self._entries.get(key)
        return None if entry is None else entry.value

    def _find(self, alias: bytes) -> tuple[bytes, bytes] | None:
        key = self._aliases.get(alias)
        return None if key is None else (key, self._entries[key].value)

    def _page(self, start: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        first = bisect_left(self._keys, start)
        last = min(bisect_left(self._keys, end), first + limit)
        return [(key, self._entries[key].value) for key in self._keys[first:last]]

    def _write(self, key: bytes, value: bytes | None) -> None:
        old = self._entries.get(key)
        alias = None if old is None else alias_of(old.value)
        if alias is not None and self._aliases.get(alias) == key:
            del self._aliases[alias]
        if value is not None:
            if key not in self._entries:
                insort(self._keys, key)
            self._entries[key] = Entry(value, self._version)
            alias = alias_of(value)
            if alias is not None:
                self._aliases[alias] = key
        elif self._entries.pop(key, None) is not None:
            del self._keys[bisect_left(self._keys, key)]
