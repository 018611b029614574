"""A transaction's write set, and transactions for engines that only know ``commit(expected, writes)``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import trio

from flared.errors import TransactionConflict
from flared.meta.alias import alias_of
from flared.meta.kv import ABSENT, KV, Entry, Transaction

T = TypeVar("T")

ATTEMPTS_MAX = 200
"""Someone wins every conflict, so even hundreds of writers of one key get through; more is a livelock."""


class Draft:
    """A Transaction over a look-up: collects what a decision wants, touches nothing."""

    __slots__ = ("_find", "_look", "note", "notes", "put", "reclaims", "writes")

    def __init__(
        self, look: Callable[[bytes], bytes | None], find: Callable[[bytes], tuple[bytes, bytes] | None]
    ) -> None:
        self._look = look
        self._find = find
        self.writes: dict[bytes, bytes | None] = {}
        self.notes: list[object] = []
        self.reclaims = False
        self.put: Callable[[bytes, bytes], None] = self.writes.__setitem__
        self.note: Callable[[object], None] = self.notes.append

    def get(self, key: bytes) -> bytes | None:
        if key in self.writes:
            return self.writes[key]
        return self._look(key)

    def find(self, alias: bytes) -> tuple[bytes, bytes] | None:
        for key, value in self.writes.items():
            if value is not None and alias_of(value) == alias:
                return key, value
        found = self._find(alias)
        return None if found is None or found[0] in self.writes else found

    def delete(self, key: bytes) -> None:
        self.writes[key] = None

    def reclaim(self) -> None:
        self.reclaims = True


class View:
    """Committed reads that notice when a key may be of another moment than the rest."""

    __slots__ = ("_find", "_flying", "_look", "doubtful")

    def __init__(
        self,
        look: Callable[[bytes], Entry | None],
        find: Callable[[bytes], tuple[bytes, bytes] | None],
        flying: Mapping[bytes, Entry | None],
    ) -> None:
        self._look = look
        self._find = find
        self._flying = flying
        self.doubtful = False

    def get(self, key: bytes) -> bytes | None:
        if key in self._flying:
            self.doubtful = True
        entry = self._look(key)
        return None if entry is None else entry.value

    def find(self, alias: bytes) -> tuple[bytes, bytes] | None:
        self.doubtful = True  # any key that flies may come to have the alias, or lose it
        return self._find(alias)


class _Unread(BaseException):
    """A decision asked for a key or an alias that was not fetched yet; no ``except Exception`` of a decision may eat
    it."""

    def __init__(self, *, key: bytes = b"", alias: bytes = b"") -> None:
        self.key = key
        self.alias = alias


class _ReadSet:
    """The rows fetched for a decision. The commit verifies the version of each."""

    def __init__(self) -> None:
        self._entries: dict[bytes, Entry | None] = {}
        self._aliases: dict[bytes, tuple[bytes, Entry] | None] = {}

    def look(self, key: bytes) -> bytes | None:
        try:
            entry = self._entries[key]
        except KeyError:
            raise _Unread(key=key) from None
        return None if entry is None else entry.value

    def find(self, alias: bytes) -> tuple[bytes, bytes] | None:
        try:
            found = self._aliases[alias]
        except KeyError:
            raise _Unread(alias=alias) from None
        return None if found is None else (found[0], found[1].value)

    async def fetch(self, kv: KV, unread: _Unread) -> None:
        if unread.alias:
            self._aliases[unread.alias] = await kv.find(unread.alias)
        else:
            self._entries[unread.key] = await kv.get(unread.key)

    def versions(self) -> dict[bytes, int]:
        versions = {key: ABSENT if entry is None else entry.version for key, entry in self._entries.items()}
        for alias, found in self._aliases.items():
            versions[alias] = ABSENT if found is None else found[1].version
        return versions


async def transact_optimistically(
    kv: KV, decide: Callable[[Transaction], T], committed: Callable[[list[object]], None]
) -> T:
    """``KV.transact`` by ``kv.get`` and ``kv.commit`` alone; ``committed`` gets the notes.

    A decision runs again each time it asks for one more key. Its reads may be of different moments, so what it
    returns or raises counts only once all versions it read were found unchanged together.
    """
    for _ in range(ATTEMPTS_MAX):
        # Decide until every key it reads was fetched. A refusal counts only after the commit has verified the reads.
        reads = _ReadSet()
        while True:
            draft = Draft(reads.look, reads.find)
            refusal: Exception | None = None
            try:
                result = decide(draft)
            except _Unread as unread:
                await reads.fetch(kv, unread)
                continue
            except Exception as error:
                refusal = error
            break
        try:
            await kv.commit(reads.versions(), {} if refusal else draft.writes)
        except TransactionConflict:
            await trio.lowlevel.checkpoint()
            continue
        if refusal is not None:
            raise refusal
        committed(draft.notes)
        return result
    raise TransactionConflict(f"the keys of a transaction changed under it {ATTEMPTS_MAX} times")
