"""Get: open an object and hand out its verified bytes, in order, while the next chunk is on its way.

The plan of a read is made from the manifest and the chunk records; every byte comes from ``chunks.stream`` and
``chunks.small_read``. Memory: one unit a reader, taken away from one who is slow while others want it; then, and where
all units are lent, a slice. An object up to OWN_SIZE takes only that, so it never waits for memory.
"""

from __future__ import annotations

import math
from collections import deque
from contextlib import AbstractAsyncContextManager, suppress
from typing import TYPE_CHECKING, NamedTuple, Protocol

import trio

from flared.catalog import objects as catalog
from flared.catalog.chunks import ChunkRecord, find_many
from flared.catalog.extents import PAGE_CHUNKS, read_page
from flared.chunks.small_read import read_small
from flared.chunks.stream import open_stream
from flared.chunks.units import UNIT_SIZE
from flared.errors import FlareError, ManifestCorrupt
from flared.objects.conditions import ALWAYS, ReadConditions, check_read
from flared.objects.extent_walk import BYTES, ExtentWalk
from flared.objects.parts import locate_part
from flared.objects.ranges import PartRequest, RangeRequest, resolve

if TYPE_CHECKING:
    from types import TracebackType

    from flared.catalog.manifest import Manifest
    from flared.chunks.units import ChunkStream
    from flared.names import ChunkId, ObjectName
    from flared.objects.store import Store

OWN_SIZE = 32 * 1024
"""The memory that a client may hold for any time: with a thousand that hardly read, 32 MiB. A slice of a
stream is as long."""

PACE_SECONDS = 0.25
"""A client that takes longer over a unit is slow: 4 MiB/s. It keeps its unit while no other client wants it."""


class Reading(Protocol):
    """An open object. ``start`` and ``length`` are the range to be sent; ``whole`` says that it is everything."""

    manifest: Manifest
    start: int
    length: int
    whole: bool
    patience_seconds: float
    """How long the client may take over what ``next`` gave out before ``put_back`` is to be asked."""

    async def next(self) -> bytes | memoryview | None:
        """The next verified bytes, to be used before the next call; None at the end.

        Raises ChunkLost or Unavailable when no good piece can be had for the rest.
        """

    async def put_back(self, count: int) -> bool:
        """The client has not taken the last ``count`` bytes in time. True: they are gone, and ``next`` gives them out
        again. False: no other client wants their memory, so they may go on being sent."""


def open_object(
    store: Store,
    name: ObjectName,
    *,
    when: ReadConditions = ALWAYS,
    range: RangeRequest | PartRequest | None = None,  # noqa: A002  # the field's word
    version: int | None = None,
) -> AbstractAsyncContextManager[Reading]:
    """Open the newest version of ``name``, or that of a number, for reading; it stays readable inside the block, even
    if it is replaced or deleted.

    Entering raises PreconditionFailed, NotModified, BadRange, BadPart, and what ``catalog.objects.find_object`` raises.
    """
    return _Opening(store, name, when, range, version)


class _Opening(AbstractAsyncContextManager[Reading]):
    """The context of ``open_object``. A class, because a generator would take half the time of a small get."""

    __slots__ = ("_large", "_name", "_names", "_range", "_store", "_version", "_when")

    def __init__(
        self,
        store: Store,
        name: ObjectName,
        when: ReadConditions,
        wanted: RangeRequest | PartRequest | None,
        version: int | None,
    ) -> None:
        self._store = store
        self._name = name
        self._when = when
        self._range = wanted
        self._version = version
        self._names: list[str] = []
        self._large: _Large | None = None

    async def __aenter__(self) -> Reading:
        store = self._store
        manifest, record = await catalog.find_object_and_chunk(store.kv, self._name, self._version)
        check_read(self._when, manifest.etag, manifest.modified)
        if manifest.chunk is not None and record is None:
            raise ManifestCorrupt(f"the record of chunk {manifest.chunk} is lost")
        start, length, wanted = 0, manifest.size, self._range
        if isinstance(wanted, RangeRequest) and wanted.applies(manifest.etag, manifest.modified):
            start, length = resolve(wanted, manifest.size)
        # From the look-up to here nothing was awaited that could have let the sweep in between.
        self._names = [extent.id for extent in manifest.extents] or ([manifest.chunk] if manifest.chunk else [])
        store.chunks.in_flight.pin(self._names)
        try:
            if isinstance(wanted, PartRequest):
                start, length = await locate_part(store.kv, manifest, wanted.number)
            if record is not None and record.size <= OWN_SIZE:
                return _Small(manifest, start, length, await read_small(store.chunks, record))
            self._large = _Large(store, manifest, record, start, length)
            return self._large
        except BaseException:
            store.chunks.in_flight.unpin(self._names)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._large is not None:
                # No task beside this one reads into what is given back here, so nothing is written to it any more.
                with trio.CancelScope(shield=True):  # closing sends nothing; it only gives back what is held
                    await self._large.close()
        finally:
            self._store.chunks.in_flight.unpin(self._names)


class _Small:
    """An object whose bytes are all in hand."""

    __slots__ = ("_rest", "length", "manifest", "patience_seconds", "start", "whole")

    def __init__(self, manifest: Manifest, start: int, length: int, plain: bytes | memoryview) -> None:
        self.manifest = manifest
        self.start = start
        self.length = length
        self.whole = length == manifest.size
        self.patience_seconds = math.inf
        self._rest: bytes | memoryview | None = plain if self.whole else plain[start : start + length]

    async def next(self) -> bytes | memoryview | None:
        rest, self._rest = self._rest, None
        return rest or None

    async def put_back(self, count: int) -> bool:
        return False


class Slice(NamedTuple):
    """The part of one chunk that a read wants."""

    chunk: ChunkRecord
    start: int
    length: int


class _Large:
    """A read of chunks, one after the other, the next one asked for while this one is sent."""

    def __init__(self, store: Store, manifest: Manifest, record: ChunkRecord | None, start: int, length: int) -> None:
        self.manifest = manifest
        self.start = start
        self.length = length
        self.whole = length == manifest.size
        self.patience_seconds = PACE_SECONDS
        self._chunks = store.chunks
        self._plan = _Plan(store, manifest, record, start, length)
        self._current: ChunkStream | None = None
        self._upcoming: ChunkStream | None = None
        self._prefetching = False
        self._slow = False
        self._slow_since = 0.0
        self._slow_moved = 0

    async def next(self) -> bytes | memoryview | None:
        if self._slow:
            self._look_at_pace()
        while True:
            if self._current is None and not await self._advance():
                return None
            assert self._current is not None
            view = await self._current.next(slow=self._slow)
            if view is None:
                await self._drop_current()
                continue
            if self._slow:
                self._slow_moved += len(view)
            elif self._upcoming is None and not self._prefetching:
                await self._look_ahead()
            self.patience_seconds = math.inf if self._slow else PACE_SECONDS
            return view

    async def put_back(self, count: int) -> bool:
        assert self._current is not None, "what was given out last is of the current chunk"
        if not await self._current.put_back(count):
            return False
        await self._drop_upcoming()
        self._slow, self._slow_since, self._slow_moved = True, trio.current_time(), 0
        return True

    async def close(self) -> None:
        await self._drop_current()
        await self._drop_upcoming()

    def _look_at_pace(self) -> None:
        """A slow client that took a unit's worth of slices at a fair pace is not slow any more."""
        now = trio.current_time()
        if self._slow_moved >= UNIT_SIZE:
            self._slow = now - self._slow_since > PACE_SECONDS
            self._slow_since, self._slow_moved = now, 0

    async def _advance(self) -> bool:
        """Make the next chunk the current one; False at the end."""
        if self._upcoming is not None:
            self._current, self._upcoming = self._upcoming, None
            self._end_prefetch()
            return True
        wanted = await self._plan.next()
        self._current = open_stream(self._chunks, *wanted) if wanted else None
        return wanted is not None

    async def _look_ahead(self) -> None:
        """Ask for the next chunk while this one is sent, if that takes nothing which others wait for."""
        try:
            self._chunks.prefetches.acquire_nowait()
        except trio.WouldBlock:
            return
        self._prefetching = True
        wanted = await self._plan.next()
        if wanted is None:
            return  # the permit is given back at the end, and keeps this from being asked again
        self._upcoming = open_stream(self._chunks, *wanted)
        with suppress(FlareError):  # it is met again, and raised, when the chunk's turn comes
            await self._upcoming.prepare()

    def _end_prefetch(self) -> None:
        if self._prefetching:
            self._prefetching = False
            self._chunks.prefetches.release()

    async def _drop_current(self) -> None:
        current, self._current = self._current, None
        if current is not None:
            await current.close()

    async def _drop_upcoming(self) -> None:
        """Give back what was asked for ahead. The stream stays, if there is one: its chunk comes next."""
        self._end_prefetch()
        if self._upcoming is not None:
            await self._upcoming.close()


class _Plan:
    """The slices of a read, in order; extent pages and chunk records are looked up as they are reached."""

    def __init__(self, store: Store, manifest: Manifest, record: ChunkRecord | None, start: int, length: int) -> None:
        self._store = store
        self._slices: deque[Slice] = deque()
        self._end = start + length
        self._position = start
        self._extents = ExtentWalk(store.kv, manifest.extents, BYTES)
        if record is not None and length:
            self._slices.append(Slice(record, start, length))
            self._position = self._end

    async def next(self) -> Slice | None:
        if not self._slices and self._position < self._end:
            await self._look_up_page()
        return self._slices.popleft() if self._slices else None

    async def _look_up_page(self) -> None:
        extent, start = await self._extents.find(self._position)
        index = (self._position - start) // extent.chunk_size
        page, first = divmod(index, PAGE_CHUNKS)
        members = (await read_page(self._store.kv, extent.id, page))[first:]
        position = start + index * extent.chunk_size
        wanted: list[tuple[ChunkId, int, int, int]] = []
        for chunk, size in members:
            if position >= self._end:
                break
            begin = max(self._position, position)
            wanted.append((chunk, size, begin - position, min(position + size, self._end) - begin))
            position += size
        if not wanted:
            raise ManifestCorrupt(f"extent {extent.id} has no chunk {index}")
        records = await find_many(self._store.kv, [item[0] for item in wanted])
        for (chunk, size, begin, length), record in zip(wanted, records, strict=True):
            if record is None or record.size != size:
                raise ManifestCorrupt(f"chunk {chunk} of extent {extent.id} has no record")
            self._slices.append(Slice(record, begin, length))
        self._position = min(position, self._end)


async def find_object(
    store: Store, name: ObjectName, when: ReadConditions = ALWAYS, *, version: int | None = None
) -> Manifest:
    """The manifest of the newest version, or that of a number, if ``when`` holds."""
    manifest = await catalog.find_object(store.kv, name, version)
    check_read(when, manifest.etag, manifest.modified)
    return manifest
