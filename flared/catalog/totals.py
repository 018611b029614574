"""How many objects, bytes and chunks there are: kept in memory, exact, and never a row that every put would touch.

A paged scan fills the counters at the start; from then on they follow the notes of committed transactions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import trio

from flared.catalog import packed
from flared.catalog.records import leading_number
from flared.meta import keys

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from flared.meta.kv import KV, Transaction

PAGE_KEYS = 500
NOTHING = -1
ReadSizes = Callable[["KV", bytes, bytes], "Awaitable[list[tuple[bytes, int]]]"]
BUCKETS_MAX = 100
"""Buckets that are counted each by itself."""


class Counted(NamedTuple):
    """The note of a transaction that changed what ``key`` counts for: its size before and after, or NOTHING."""

    key: bytes
    before: int
    after: int


class CountedPacked(NamedTuple):
    """The same of a packed chunk, by the alias of its row."""

    key: bytes
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class TotalsNow:
    objects: int
    bytes: int
    chunks: int
    stored_bytes: int
    """Of all chunks after their codec, each counted once, whatever its scheme."""
    exact: bool
    """The first scan is done; until then the numbers only grow towards the truth."""
    versions: int = 0
    """Noncurrent versions and delete markers, which are not among ``objects``."""
    version_bytes: int = 0


class BucketTotals(NamedTuple):
    bucket: str
    objects: int
    bytes: int


class Totals:
    """Listens to ``kv`` from its making on; ``fill`` counts what was there before."""

    def __init__(self, kv: KV) -> None:
        self._kv = kv
        self._buckets = _Groups()
        self._objects = _Table(keys.under(b"object/"), _read_sizes, self._buckets)
        self._versions = _Table(keys.under(b"version/"), _read_sizes)
        self._chunks = _Table(keys.under(b"chunk/"), _read_sizes)
        self._packed = _Table(keys.Range(b"", packed.CHUNK_ALIASES_END), _read_packed_sizes)
        kv.listen(self._hear)

    def now(self) -> TotalsNow:
        objects, chunks, packed, versions = self._objects, self._chunks, self._packed, self._versions
        return TotalsNow(
            objects.count,
            objects.size,
            chunks.count + packed.count,
            chunks.size + packed.size,
            objects.full and chunks.full and packed.full and versions.full,
            versions.count,
            versions.size,
        )

    def buckets(self) -> tuple[list[BucketTotals], BucketTotals]:
        """The buckets that are counted each by itself, the largest first; and all others together, without a name."""
        each = [BucketTotals(name.decode(), *held) for name, held in self._buckets.held.items()]
        return sorted(each, key=lambda bucket: -bucket.bytes), BucketTotals("", *self._buckets.others)

    async def fill(self, rest: Callable[[], float] = lambda: 0.0) -> None:
        """Count everything once, a page at a time, with ``rest()`` seconds between two pages."""
        for table in (self._objects, self._versions, self._chunks, self._packed):
            while not table.full:
                await table.count_page(self._kv)
                await trio.sleep(rest())

    def _hear(self, notes: Sequence[object]) -> None:
        """Count what a group of transactions changed: a call for each table, not for each note of each put."""
        self._packed.hear([note for note in notes if type(note) is CountedPacked])
        counted = [note for note in notes if type(note) is Counted]
        objects = [note for note in counted if note.key.startswith(b"object/")]
        self._objects.hear(objects)
        if len(objects) < len(counted):
            versions = [note for note in counted if note.key.startswith(b"version/")]
            self._versions.hear(versions)
            self._chunks.hear([note for note in counted if not note.key.startswith((b"object/", b"version/"))])


class _Table:
    """The count of one key range.

    Keys below the cursor are counted, so notes about them apply; keys above it will be. The page under way is of a
    moment that no one knows exactly: a note about one of its keys may or may not be in it already. So the page's
    sizes are kept, and each note about such a key sets what the key counts for, until every transaction that can
    have been in the page has sent its note.
    """

    def __init__(self, span: keys.Range, read_sizes: ReadSizes, groups: _Groups | None = None) -> None:
        self.count = 0
        self.size = 0
        self._read_sizes = read_sizes
        self._groups = groups
        self._end = span.end
        self._cursor = span.start
        self._page_start = span.start
        self._page: dict[bytes, int] | None = None
        self._heard: dict[bytes, int] | None = None

    @property
    def full(self) -> bool:
        return self._cursor == self._end

    def hear(self, notes: Sequence[Counted] | Sequence[CountedPacked]) -> None:
        if self.full and self._page is None:
            self._count(notes)
        else:
            for note in notes:
                self._hear_while_counting(note)

    def _count(self, notes: Sequence[Counted] | Sequence[CountedPacked]) -> None:
        """Apply notes about keys that all are counted."""
        count = size = 0
        groups = self._groups
        for key, before, after in notes:
            more = (after != NOTHING) - (before != NOTHING)
            larger = max(after, 0) - max(before, 0)  # NOTHING has no size
            count += more
            size += larger
            if groups is not None:
                groups.add(key, more, larger)
        self.count += count
        self.size += size

    def _hear_while_counting(self, note: Counted | CountedPacked) -> None:
        if note.key < self._cursor:
            before = note.before
            if self._page is not None and note.key >= self._page_start:
                before = self._page.get(note.key, NOTHING)
                self._page[note.key] = note.after
            if before != NOTHING:
                self._add(note.key, before, -1)
            if note.after != NOTHING:
                self._add(note.key, note.after, 1)
        elif self._heard is not None:
            self._heard[note.key] = note.after

    async def count_page(self, kv: KV) -> None:
        self._heard = {}
        page = await self._read_sizes(kv, self._cursor, self._end)
        cursor = keys.after(page[-1][0]) if len(page) == PAGE_KEYS else self._end
        sizes = dict(page)
        sizes |= {key: size for key, size in self._heard.items() if key < cursor}
        for key, size in sizes.items():
            if size != NOTHING:
                self._add(key, size, 1)
        self._page, self._heard = sizes, None
        self._page_start, self._cursor = self._cursor, cursor
        # Answered only after everything decided before it, hence everything that the page can have seen.
        await kv.transact(_nothing)
        self._page = None

    def _add(self, key: bytes, size: int, sign: int) -> None:
        self.count += sign
        self.size += sign * size
        if self._groups is not None:
            self._groups.add(key, sign, sign * size)


async def _read_sizes(kv: KV, start: bytes, end: bytes) -> list[tuple[bytes, int]]:
    """A page of (key, size), of objects or chunks."""
    rows = await kv.scan(start, end, PAGE_KEYS)
    return [(key, packed.size_of(value) if value[:1] in packed.MARKS else leading_number(value)) for key, value in rows]


async def _read_packed_sizes(kv: KV, start: bytes, end: bytes) -> list[tuple[bytes, int]]:
    """The same of packed chunks, by their aliases."""
    return [(alias, packed.stored_of(value)) for alias, _, value in await kv.scan_aliases(start, end, PAGE_KEYS)]


class _Groups:
    """The same for each bucket: the first ones met, by name at the start and later as they come.

    A bucket never moves between those counted by name and the others: once one found no room, no new one gets a
    name, so that a count with a name is complete.
    """

    def __init__(self) -> None:
        self.held: dict[bytes, list[int]] = {}
        self.others = [0, 0]
        self._overflowed = False

    def add(self, key: bytes, count: int, size: int) -> None:
        """Add so many objects and bytes, which may be less than none, to the bucket of ``key``."""
        bucket = key.split(b"/", 2)[1]
        held = self.held.get(bucket)
        if held is None:
            self._overflowed = self._overflowed or len(self.held) >= BUCKETS_MAX
            held = self.others if self._overflowed else self.held.setdefault(bucket, [0, 0])
        held[0] += count
        held[1] += size
        if not held[0] and not self._overflowed:  # later it would not get its place back
            self.held.pop(bucket, None)


def _nothing(_tx: Transaction) -> None:
    pass
