"""PieceMap: the locations of a volume's pieces: the index, and durable records that are not in the index yet.

Look-ups consult, in this order: the memtable (durable in a segment, not yet in the index), the part of it that is just
being written to the index, the index. All of it can be lost at any time and is rebuilt from the segments.
"""

from __future__ import annotations

import heapq
import logging
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple

import trio

from flared.data.index.index import Deletion, Index, IndexCorrupt, Location, Quarantined, Watermark
from flared.errors import Busy, FlareError, VolumeFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from flared.background import Threads

log = logging.getLogger(__name__)

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

FLUSH_ENTRIES = 2048
FLUSH_SECONDS = 0.5
CROWD = 16 * 1024
"""With more entries calls wait for the index: a thread that competes with a busy event loop for the interpreter falls
behind, and catches up while the loop waits."""
MEMTABLE_MAX = 100_000
"""With more entries puts are refused: the index has no room."""
_CHECKPOINT_ENTRIES = 16 * 1024
_RETRY_SECONDS = 2.0
_BEHIND_ALL = "\x7f"
"""Comes behind every name of a piece."""


class Unknown:
    """The memtable has no entry for a name."""


UNKNOWN = Unknown()


class PieceMap:
    """``collect`` returns the marks and facts that are current now, to be written with each flush."""

    def __init__(
        self, path: str, threads: Threads, collect: Callable[[], tuple[Sequence[Watermark], dict[str, int]]]
    ) -> None:
        self._path = path
        self._threads = threads
        self._collect = collect
        self._lock = trio.Lock()
        self._index: Index | None = None
        self._unsaved = 0
        self._waiting = trio.lowlevel.ParkingLot()
        self._flusher = trio.lowlevel.ParkingLot()
        self.clear()

    def clear(self) -> None:
        """Drop all entries, because a replay begins."""
        self.complete = False
        """True if a piece that is not found does not exist; False during a replay."""
        self.last_name = _BEHIND_ALL
        """No name in the index comes behind this one; but most new ones do, as ids of chunks begin with a time."""
        self.lost = trio.Event()
        """Set when the index was found to be damaged."""
        self._memtable: dict[str, Location | None] = {}
        self._flushing: dict[str, Location | None] = {}
        self._deletions: list[Deletion] = []
        self._quarantined: dict[str, Quarantined] = {}
        """Quarantine records that are durable, but not yet in the index."""
        self._flushing_quarantined: dict[str, Quarantined] = {}
        self._marks: dict[int, Watermark] = {}
        self._waiting.unpark_all()

    def use(self, index: Index | None) -> None:
        self._index = index

    def close(self) -> None:
        self.complete = False
        index, self._index = self._index, None
        if index:
            index.close()
        self._waiting.unpark_all()

    async def mark_complete(self) -> None:
        """The replay is over: what is not found from now on does not exist."""
        self.last_name = await self.ask(Index.last_name)
        self.complete = True

    # Looking up, on the event loop

    def find(self, name: str) -> Location | None:
        """Return the piece's location, None if it is not here. Raise Busy if that is unknown now."""
        location = self.recent(name)
        if isinstance(location, Unknown):
            location = self._ask(Index.find, name)
            if location is None:
                self.check_complete()
        return location

    def find_many(self, names: Sequence[str]) -> dict[str, Location]:
        """Return the locations that are found; the others do not exist only if ``complete``."""
        found: dict[str, Location] = {}
        ask = names
        if recent := self.recent_many(names):
            found = {name: location for name, location in recent.items() if location is not None}
            ask = [name for name in names if name not in recent]
        if len(ask) == 1:
            location = self._ask(Index.find, ask[0])
            if location is not None:
                found[ask[0]] = location
        elif ask:
            found.update(self._ask(Index.find_many, ask))
        return found

    def recent(self, name: str) -> Location | Unknown | None:
        """Return a change that is not in the index yet: a location, None if deleted, else UNKNOWN."""
        location = self._memtable.get(name, UNKNOWN)
        return self._flushing.get(name, UNKNOWN) if location is UNKNOWN else location

    def recent_many(self, names: Sequence[str]) -> dict[str, Location | None]:
        """Return the changes of these names that are not in the index yet: a location, or None if deleted."""
        memtable, flushing = self._memtable, self._flushing
        if memtable.keys().isdisjoint(names) and flushing.keys().isdisjoint(names):
            return {}
        return {name: known for name in names if not isinstance(known := self.recent(name), Unknown)}

    async def page(self, after: str, limit: int) -> list[tuple[str, int]]:
        """Return (name, size) of the next pieces in name order; a piece that exists throughout is never left out."""
        self.check_complete()
        unsaved: dict[str, int] = {}
        try:
            await self.flush()
        except VolumeFailed:  # a disk that accepts no writes, but can be read
            self.check_complete()
            known = {**self._flushing, **self._memtable}
            unsaved = {name: location.size for name, location in known.items() if location is not None and name > after}
        page: list[tuple[str, int]] = []
        while len(page) < limit:
            rows = self._ask(Index.page, after, limit)
            page += [row for row in rows if self.recent(row[0]) is not None]
            if len(rows) < limit:
                break
            after = rows[-1][0]
        return heapq.nsmallest(limit, {**dict(page), **unsaved}.items()) if unsaved else page[:limit]

    def present(self, names: Sequence[str]) -> list[str]:
        """Return those of ``names`` that the index has, of names not in the memtable; in the thread that writes."""
        index = self._index
        if index is None:
            raise Busy(f"{self._path}: the index is being rebuilt")
        try:
            return index.present(names)
        except IndexCorrupt as error:
            raise Busy(f"{self._path}: {error}") from error

    def check_complete(self) -> None:
        """Raise Busy while a piece that is not found may exist."""
        if not self.complete:
            raise Busy(f"{self._path}: the index is being rebuilt")

    def _ask(self, question: Callable[[Index, *Ts], T], *arguments: *Ts) -> T:
        if self._index is None:
            raise Busy(f"{self._path}: the index is not open")
        try:
            return question(self._index, *arguments)
        except IndexCorrupt as error:
            raise self.mark_corrupt(error) from error

    def mark_corrupt(self, error: IndexCorrupt) -> Busy:
        """Stop using the damaged index, so that it is rebuilt from the segments."""
        if not self.lost.is_set():
            log.error("event=index_corrupt path=%s error=%r", self._path, str(error))
            self.complete = False
            self.lost.set()
        return Busy(f"{self._path}: the index is being rebuilt")

    # Changes

    def put(self, locations: Mapping[str, Location]) -> None:
        """Record durable pieces."""
        self._record(locations)

    def delete(self, name: str, tombstone: Location, victim: Location) -> None:
        """Record a durable tombstone."""
        self._record({name: None})
        self._quarantined.pop(name, None)
        self._deletions.append(Deletion(name, tombstone.segment, tombstone.sequence, victim.segment, victim.sequence))

    def hide(self, name: str, record: Location, since_ms: int) -> None:
        """Record a durable quarantine record: the piece is hidden since then, or with 0 visible again."""
        self._quarantined[name] = Quarantined(name, record.segment, record.sequence, since_ms)
        self._flusher.unpark()

    def hidden(self, names: Sequence[str]) -> set[str]:
        """Return which of these pieces are in quarantine. Raise Busy if that is unknown now."""
        found = self._ask(Index.hidden, names)
        for unsaved in (self._flushing_quarantined, self._quarantined):
            for record in (unsaved[name] for name in names if name in unsaved) if unsaved else ():
                if record.since_ms:
                    found[record.name] = record.sequence
                else:
                    found.pop(record.name, None)
        return {name for name, sequence in found.items() if self._precedes(name, sequence)}

    def _precedes(self, name: str, sequence: int) -> bool:
        """Return whether the piece is older than a quarantine record; a later put or delete makes the record void."""
        location = self.recent(name)
        return isinstance(location, Unknown) or (location is not None and location.sequence < sequence)

    def _record(self, entries: Mapping[str, Location | None]) -> None:
        """Note the entries; wake the flusher for the first ones, and when there are many."""
        was_empty = not self._memtable
        self._memtable.update(entries)
        if was_empty or len(self._memtable) >= FLUSH_ENTRIES:
            self._flusher.unpark()

    @property
    def backlog_soft(self) -> bool:
        """Return whether the index lags behind, so that callers should ``wait_for_room``."""
        return len(self._memtable) > CROWD

    async def wait_for_room(self) -> None:
        """Wait for the end of one flush, successful or not."""
        await self._waiting.park()

    @property
    def backlog_hard(self) -> bool:
        return len(self._memtable) > MEMTABLE_MAX

    async def flush(self) -> None:
        """Write the memtable into the index. After a failure it is kept, and written again later."""
        async with self._lock:
            await self._flush()

    async def change(self, change: Callable[[Index], T]) -> T:
        """Run a change of the index in a thread, after everything that is durable has reached it."""
        async with self._lock:
            await self._flush()
            return await self._in_thread(change)

    async def ask(self, question: Callable[[Index], T]) -> T:
        """Query the index in a thread, on the connection that changes it."""
        async with self._lock:
            return await self._in_thread(question)

    async def run(self) -> None:
        """Flush when there is much, or half a second after there was something; until cancelled."""
        while True:
            while not self._memtable and not self._quarantined:
                await self._flusher.park()
            with trio.move_on_after(FLUSH_SECONDS):
                while len(self._memtable) < FLUSH_ENTRIES:
                    await self._flusher.park()
            with trio.CancelScope(shield=True):
                try:
                    await self.flush()
                    continue
                except FlareError as error:
                    log.error("event=index_flush_failed path=%s error=%r", self._path, str(error))
            await trio.sleep(_RETRY_SECONDS)

    async def _in_thread(self, question: Callable[[Index], T]) -> T:
        if self._index is None:
            raise Busy(f"{self._path}: the index is not open")
        try:
            return await self._threads.run(question, self._index)
        except IndexCorrupt as error:
            raise self.mark_corrupt(error) from error

    async def _flush(self) -> None:
        fresh, facts = self._collect()
        marks = {**self._marks, **{mark.id: mark for mark in fresh}}
        if not (self._memtable or self._deletions or self._quarantined or any(mark.sealed for mark in marks.values())):
            return
        # Swap the memtable: changes made while the thread writes go into a new one, and look-ups consult both.
        self._marks = {}
        entries, self._memtable = self._memtable, {}
        self.last_name = max(self.last_name, max(entries, default=""))
        deletions, self._deletions = self._deletions, []
        quarantined, self._quarantined = self._quarantined, {}
        self._flushing_quarantined = quarantined
        self._flushing = entries

        def apply(index: Index) -> None:
            puts = [(name, location) for name, location in entries.items() if location is not None]
            index.apply(puts, deletions, marks.values(), facts, list(quarantined.values()))
            self._unsaved += len(entries)
            if self._unsaved >= _CHECKPOINT_ENTRIES or len(entries) < FLUSH_ENTRIES:
                self._unsaved = 0
                index.checkpoint()

        try:
            await self._in_thread(apply)
        except BaseException:  # keep everything for the next flush; a newer change of a name wins
            self._memtable = {**entries, **self._memtable}
            self._deletions = deletions + self._deletions
            self._quarantined = {**quarantined, **self._quarantined}
            self._marks = {**marks, **self._marks}
            raise
        finally:
            self._flushing, self._flushing_quarantined = {}, {}
            self._waiting.unpark_all()
