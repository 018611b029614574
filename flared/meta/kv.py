"""KV: what Flare asks of a metadata engine.

Keys and values are bytes; keys order as bytes. Every key has a version, larger after every change of it.
One suite (``tests/contract/kv.py``) holds for every engine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

T = TypeVar("T")

ABSENT = 0
"""The version of a key that is not there."""


DAMAGED = b"\xffdamaged"
"""The value that a scan or a walk yields for a damaged row. No record begins like this."""


class Entry(NamedTuple):
    value: bytes
    version: int


class Mark(NamedTuple):
    """How far some metadata had come: everything that one opening of it had committed up to a number."""

    opening: str
    """32 hex digits, drawn at random at each opening."""
    number: int
    """Commits of that opening."""


@dataclass(frozen=True, slots=True)
class Health:
    """An engine's report of its own state; the default says that nothing is wrong."""

    failure: str = ""
    """Why nothing is written any more until the process is restarted."""
    full: bool = False
    """Its disk has no room: only what gives room back is written."""
    damaged_rows: int = 0
    """Known ones that were neither overwritten nor deleted."""
    damaged_key: str = ""
    """The first of them."""
    problems: tuple[str, ...] = ()
    """Found by the check in the background: words that go on from "the metadata file: "."""
    check_passes: int = 0
    """Whole ones, in this process."""
    check_rows: int = 0
    """Looked at by the last whole pass."""
    check_age_seconds: float | None = None
    """Since the last whole pass ended."""


class Snapshot(Protocol):
    """Reads of one moment."""

    def get(self, key: bytes) -> bytes | None: ...

    def find(self, alias: bytes) -> tuple[bytes, bytes] | None:
        """The key and the value of the row with this alias (``meta.alias``)."""


class Transaction(Snapshot, Protocol):
    """A transaction as a decision sees it: reads of one consistent state, writes that apply together or not at all.

    Reads see the transaction's own writes.
    """

    def put(self, key: bytes, value: bytes, /) -> None: ...

    def delete(self, key: bytes) -> None:
        """Remove the key; not an error if it is not there."""

    def note(self, what: object, /) -> None:
        """Tell the listeners ``what`` once the transaction is committed: in commit order, before its answer.

        Those of a group that commits together arrive together.
        """

    def reclaim(self) -> None:
        """Say that this leads to space coming back: on a full disk it may draw on the reserve."""


class KV(Protocol):
    """Ordered transactional key-value store.

    A 2xx depends on it: when ``transact`` or ``commit`` returns, the writes are on stable storage.
    A row that is not what was written is an error for its key alone: RowCorrupt from what reads the key, and DAMAGED in
    a scan or a walk, which go on behind it. It can be overwritten and deleted.
    It does not guard against phantoms: a decision that needs "no key with this prefix" must read a key that
    every writer of such keys reads too, and change it (see ``catalog.buckets``).
    """

    async def get(self, key: bytes) -> Entry | None:
        """The newest committed value; never one of a transaction that may still fail."""

    async def get_many(self, keys: Sequence[bytes]) -> list[Entry | None]:
        """The values of several keys, all of one moment, in the order asked."""

    async def view(self, look: Callable[[Snapshot], T]) -> T:
        """Run ``look``, a plain function without effects that may be run twice, on one committed moment."""

    async def scan(self, start: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """At most ``limit`` (key, value) with ``start <= key < end`` in key order, all of one moment.

        The key of a damaged row may be what is damaged. One that is out of order stands right behind its predecessor.
        """

    async def walk(
        self, start: bytes, end: bytes, limit: int, visit: Callable[[list[tuple[bytes, bytes]]], bytes | None]
    ) -> None:
        """Several scans of one moment: ``visit`` gets each page of at most ``limit`` and says where the next starts.

        None ends the walk, as does an empty page (which is visited too). ``visit`` may run in a thread.
        """

    async def find(self, alias: bytes) -> tuple[bytes, Entry] | None:
        """The key and the newest committed entry of the row with this alias. Several keys or aliases of one moment:
        ``view``."""

    async def scan_aliases(self, start: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes, bytes]]:
        """As ``scan``, of the rows with an alias: (alias, key, value), in the order of the aliases."""

    async def commit(self, expected: Mapping[bytes, int], writes: Mapping[bytes, bytes | None]) -> None:
        """Apply all ``writes`` (None deletes) if every key in ``expected`` has that version (ABSENT: not there).

        An alias may stand for a key there: its version is that of the row that it leads to.
        Raises TransactionConflict, and then nothing was applied. MetadataFull if the disk is full.
        Cancelling may or may not apply the writes, all or none.
        """

    async def transact(self, decide: Callable[[Transaction], T]) -> T:
        """Run ``decide`` on a transaction and commit what it wrote; its result is returned.

        ``decide`` is a plain function that may be run several times and must have no effect but its writes.
        What it raises goes to the caller, and nothing is applied. MetadataFull if the disk is full, the
        transaction writes more than it deletes and does not ``reclaim``.
        Cancelling may or may not apply the writes, all or none.
        """

    def get_many_nowait(self, keys: Sequence[bytes]) -> list[Entry | None]:
        """As ``get_many``, without waiting: for decisions in turns. On an engine that must ask elsewhere, of what it
        knows to be committed."""

    def get_nowait(self, key: bytes) -> Entry | None:
        """As ``get``, likewise."""

    def transact_nowait(
        self,
        decide: Callable[[Transaction], T],
        done: Callable[[T | None, Exception | None], None],
        *,
        reads: Sequence[bytes] = (),
    ) -> None:
        """As ``transact``, for decisions in turns: ``done`` is called once, with the result or with what was raised;
        before this returns only if the engine is not running. ``reads`` are keys that it will read: those of all
        decisions of a turn are looked up together. It may read others."""

    def listen(self, listener: Callable[[Sequence[object]], None]) -> None:
        """Call ``listener`` with the notes of all transactions that this process commits from now on, those of one or
        several at a time."""

    def health(self) -> Health:
        """Return the known problems of the engine. Does no I/O."""

    def checked_since(self, moment: float) -> bool:
        """Report whether all rows are there and findable: a check of everything that began after ``moment``, by trio's
        clock, found nothing wrong. If not, one is asked for. Does no I/O."""

    def mark(self) -> Mark:
        """Return the mark of what is committed and on stable storage now. Does no I/O."""

    def includes(self, mark: Mark) -> bool:
        """Report whether everything that was committed up to ``mark`` is in this metadata.

        It is not if that opening is unknown here, as after a copy of the file went on by itself, or if it had committed
        less, as in a file that was rolled back or lost its log. Does no I/O.
        """
