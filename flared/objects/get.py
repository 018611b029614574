"""Get: open an object and hand out its verified bytes, in order, while the next chunk is on its way.

The plan of a read is made from the manifest and the chunk records; every byte comes from ``chunks.read``.
Memory: one unit buffer a reader, or a slice where all units are lent; and the stored and plain bytes of at most two
chunks that are coded, leased.
"""

from __future__ import annotations

from collections import deque
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple, Protocol

import trio

from flared.catalog import objects as catalog
from flared.catalog.chunks import ChunkRecord, find_many
from flared.catalog.extents import PAGE_CHUNKS, read_page
from flared.chunks.read import PlainStream, read_whole
from flared.chunks.small_read import read_small
from flared.data.pieces import BLOCK_SIZE, CODEC_PLAIN, LARGE_SIZE
from flared.errors import FlareError, ManifestCorrupt
from flared.objects.conditions import ALWAYS, ReadConditions, check_read
from flared.objects.ranges import RangeRequest, resolve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

    from flared.catalog.manifest import Manifest
    from flared.chunks.budget import Lease, MemoryBudget
    from flared.chunks.chunk import Chunks
    from flared.names import ChunkId, ObjectName
    from flared.objects.store import Store

UNIT_SIZE = 1024 * 1024
"""Bytes that move at once: larger units save system calls, smaller ones let 64 readers share the budget."""
UNIT_SIZE_MIN = BLOCK_SIZE
SLICE_SIZE = 32 * 1024
"""What a reader without a unit holds: with a thousand clients that hardly read, 32 MiB."""


class Reading(Protocol):
    """An open object. ``start`` and ``length`` are the range to be sent; ``whole`` says that it is everything."""

    manifest: Manifest
    start: int
    length: int
    whole: bool

    async def next(self) -> bytes | memoryview | None:
        """The next verified bytes, to be used before the next call; None at the end.

        Raises ChunkLost or Unavailable when no good piece can be had for the rest.
        """


def open_object(
    store: Store,
    name: ObjectName,
    *,
    when: ReadConditions = ALWAYS,
    range: RangeRequest | None = None,  # noqa: A002  # the field's word
) -> AbstractAsyncContextManager[Reading]:
    """Open the newest version of ``name`` for reading; it stays readable inside the block, whatever replaces it.

    Entering raises NoSuchBucket, NoSuchObject, PreconditionFailed, NotModified, BadRange.
    """
    return _Opening(store, name, when, range)


class _Opening(AbstractAsyncContextManager[Reading]):
    """What ``open_object`` enters and leaves. A class, because half of all small gets would be a generator's."""

    __slots__ = ("_amount", "_large", "_name", "_names", "_purse", "_range", "_store", "_when")

    def __init__(self, store: Store, name: ObjectName, when: ReadConditions, wanted: RangeRequest | None) -> None:
        self._store = store
        self._name = name
        self._when = when
        self._range = wanted
        self._amount = 0
        self._purse = store.chunks.units
        self._names: list[str] = []
        self._large: AbstractAsyncContextManager[Reading] | None = None

    async def __aenter__(self) -> Reading:
        store = self._store
        manifest, record = await catalog.find_object_and_chunk(store.kv, self._name)
        check_read(self._when, manifest.etag, manifest.modified)
        if manifest.chunk is not None and record is None:
            raise ManifestCorrupt(f"the record of chunk {manifest.chunk} is lost")
        start, length = 0, manifest.size
        if self._range is not None and self._range.applies(manifest.etag, manifest.modified):
            start, length = resolve(self._range, manifest.size)
        # From the look-up to here nothing was awaited that could have let the sweep in between.
        self._names = [extent.id for extent in manifest.extents] or ([manifest.chunk] if manifest.chunk else [])
        store.chunks.in_flight.begin_read(self._names)
        try:
            if record is not None and record.stored < LARGE_SIZE:
                return _Small(manifest, start, length, await self._read(record))
            self._large = _open_large(store, manifest, record, start, length)
            return await self._large.__aenter__()
        except BaseException:
            self._release()
            raise

    async def _read(self, record: ChunkRecord) -> bytes | memoryview:
        chunks = self._store.chunks
        amount = record.stored + record.size
        self._purse = chunks.units
        if not chunks.units.reserve_nowait(amount):
            self._purse = chunks.budget
            amount = await chunks.budget.reserve(amount)
        self._amount = amount
        return await read_small(chunks, record)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        try:
            return await self._large.__aexit__(kind, error, trace) if self._large is not None else None
        finally:
            self._release()

    def _release(self) -> None:
        chunks = self._store.chunks
        chunks.in_flight.end_read(self._names)
        if self._amount:
            self._purse.give_back(self._amount)


class _Small:
    """An object whose bytes are all in hand."""

    __slots__ = ("_rest", "length", "manifest", "start", "whole")

    def __init__(self, manifest: Manifest, start: int, length: int, plain: bytes | memoryview) -> None:
        self.manifest = manifest
        self.start = start
        self.length = length
        self.whole = length == manifest.size
        self._rest: bytes | memoryview | None = plain if self.whole else plain[start : start + length]

    async def next(self) -> bytes | memoryview | None:
        rest, self._rest = self._rest, None
        return rest or None


class Slice(NamedTuple):
    """What a read wants of one chunk."""

    chunk: ChunkRecord
    start: int
    length: int


@asynccontextmanager
async def _open_large(
    store: Store, manifest: Manifest, record: ChunkRecord | None, start: int, length: int
) -> AsyncIterator[Reading]:
    async with trio.open_nursery() as nursery:
        reading = _Large(store, manifest, _Plan(store, manifest, record, start, length), nursery, start, length)
        try:
            yield reading
        finally:
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):  # closing sends nothing; it only gives back what is held
                await reading.close()


class _Large:
    def __init__(
        self, store: Store, manifest: Manifest, plan: _Plan, nursery: trio.Nursery, start: int, length: int
    ) -> None:
        self.manifest = manifest
        self.start = start
        self.length = length
        self.whole = length == manifest.size
        self._chunks = store.chunks
        self._plan = plan
        self._nursery = nursery
        self._current: _AnyStream | None = None
        self._upcoming: _AnyStream | None = None
        self._prefetching = False
        self._unit: Lease | None = None

    async def next(self) -> bytes | memoryview | None:
        while True:
            if self._current is None and not await self._advance():
                return None
            assert self._current is not None
            view = await self._next_of(self._current)
            if view is None:
                await self._drop_current()
                continue
            if self._upcoming is None and not self._prefetching:
                await self._look_ahead()
            return view

    async def close(self) -> None:
        await self._drop_current()
        self._end_prefetch()
        if self._upcoming is not None:
            await self._upcoming.close()
        self._drop_unit()

    async def _advance(self) -> bool:
        """Make the next chunk the current one; False at the end."""
        if self._upcoming is not None:
            self._current, self._upcoming = self._upcoming, None
            self._end_prefetch()
            return True
        wanted = await self._plan.next()
        self._current = self._make_stream(wanted) if wanted else None
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
        self._upcoming = self._make_stream(wanted)
        with suppress(FlareError):  # it is met again, and raised, when the chunk's turn comes
            await self._upcoming.prepare()

    def _end_prefetch(self) -> None:
        if self._prefetching:
            self._prefetching = False
            self._chunks.prefetches.release()

    def _make_stream(self, wanted: Slice) -> _AnyStream:
        chunk = wanted.chunk
        if chunk.codec == CODEC_PLAIN and chunk.stored >= LARGE_SIZE:
            return PlainStream(self._chunks, chunk, wanted.start, wanted.length)
        return _WholeStream(self._chunks, wanted, self._nursery)

    async def _drop_current(self) -> None:
        current, self._current = self._current, None
        if current is not None:
            await current.close()

    async def _next_of(self, stream: _AnyStream) -> bytes | memoryview | None:
        if not isinstance(stream, PlainStream):
            self._drop_unit()  # none is held while a whole chunk's lease is waited for
            return await stream.next()
        if self._unit is None:
            self._unit = _lease_unit(self._chunks.units)
        if self._unit is not None:
            return await stream.next(self._unit.view)
        # All units are lent, perhaps to clients that hardly read: then by small slices, which wait for nobody's client.
        with await self._chunks.blocks.lease(BLOCK_SIZE) as block:
            return await stream.next_slice(block.view, SLICE_SIZE)

    def _drop_unit(self) -> None:
        if self._unit is not None:
            self._unit.release()
            self._unit = None


def _lease_unit(units: MemoryBudget) -> Lease | None:
    """A large unit while half of them are free, then small ones, then none."""
    statistics = units.statistics()
    large = units.lease_nowait(UNIT_SIZE) if 2 * statistics.leased < statistics.total else None
    return large or units.lease_nowait(UNIT_SIZE_MIN)


class _WholeStream:
    """A chunk that must be gathered before its first byte is known: small, or coded."""

    def __init__(self, chunks: Chunks, wanted: Slice, nursery: trio.Nursery) -> None:
        self._chunks = chunks
        self._wanted = wanted
        self._nursery = nursery
        self._lease: Lease | None = None
        self._ready: trio.Event | None = None
        self._error: FlareError | None = None
        self._plain: bytes | memoryview = b""
        self._at = wanted.start

    async def prepare(self) -> None:
        """Begin to gather, if the budget has room now."""
        lease = self._chunks.units.lease_nowait(self._wanted.chunk.stored, beside=self._wanted.chunk.size)
        if lease is not None:
            self._lease, self._ready = lease, trio.Event()
            self._nursery.start_soon(self._gather)

    async def _gather(self) -> None:
        assert self._lease is not None
        assert self._ready is not None
        try:
            self._plain = await read_whole(self._chunks, self._wanted.chunk, self._lease.view)
        except FlareError as error:
            self._error = error
        self._ready.set()

    async def next(self) -> bytes | memoryview | None:
        if self._ready is not None:
            await self._ready.wait()
            if self._error is not None:
                raise self._error
        elif self._lease is None:
            chunk = self._wanted.chunk
            lease = await self._chunks.units.lease(chunk.stored, beside=chunk.size)
            try:
                self._plain = await read_whole(self._chunks, chunk, lease.view)
            except BaseException:
                lease.release()
                raise
            self._lease = lease
        end = self._wanted.start + self._wanted.length
        if self._at >= end:
            return None
        size = min(UNIT_SIZE, end - self._at)
        view = memoryview(self._plain)[self._at : self._at + size]
        self._at += size
        return view

    async def close(self) -> None:
        self._plain = b""
        if self._lease is not None:
            self._lease.release()
            self._lease = None


_AnyStream = PlainStream | _WholeStream


class _Plan:
    """The slices of a read, in order; extent pages and chunk records are looked up as they are reached."""

    def __init__(self, store: Store, manifest: Manifest, record: ChunkRecord | None, start: int, length: int) -> None:
        self._store = store
        self._manifest = manifest
        self._slices: deque[Slice] = deque()
        self._end = start + length
        self._position = start
        self._extent = 0
        self._extent_start = 0
        if record is not None and length:
            self._slices.append(Slice(record, start, length))
            self._position = self._end

    async def next(self) -> Slice | None:
        if not self._slices and self._position < self._end:
            await self._look_up_page()
        return self._slices.popleft() if self._slices else None

    async def _look_up_page(self) -> None:
        extents = self._manifest.extents
        while self._extent_start + extents[self._extent].size <= self._position:
            self._extent_start += extents[self._extent].size
            self._extent += 1
        extent = extents[self._extent]
        index = (self._position - self._extent_start) // extent.chunk_size
        page, first = divmod(index, PAGE_CHUNKS)
        members = (await read_page(self._store.kv, extent.id, page))[first:]
        position = self._extent_start + index * extent.chunk_size
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


async def find_object(store: Store, name: ObjectName, when: ReadConditions = ALWAYS) -> Manifest:
    """The manifest of the newest version, if ``when`` holds."""
    manifest = await catalog.find_object(store.kv, name)
    check_read(when, manifest.etag, manifest.modified)
    return manifest
