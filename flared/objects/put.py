"""Put: store a body as the newest version of an object.

The order is: pieces of every chunk, then (for more than one chunk) each chunk's record and its place in an open extent,
then the manifest, in one transaction with the release of what it replaces. A reader sees the whole new version or the
whole old one. A crash before the last transaction leaves pieces and an extent that no manifest names; ``upkeep.sweep``
and ``upkeep.reconcile`` collect them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import trio

from flared.background import first_of
from flared.catalog.buckets import Bucket, find_bucket
from flared.catalog.chunks import ChunkRecord, add_reference, create_chunk, create_shared_chunk, find_shared, read_chunk
from flared.catalog.extents import append_chunk, give_up, open_extent, seal
from flared.catalog.manifest import ExtentId, ExtentRef, Manifest
from flared.catalog.objects import put_version, read_object
from flared.chunks.chunk import Chunk, Chunks, digest_of
from flared.chunks.codec import looks_compressible
from flared.chunks.cutter import STAGE_SIZE, BodySource, Cut, Cutter
from flared.chunks.scheme import parse_scheme
from flared.chunks.write import placed_pieces, write_chunk
from flared.data.pieces import LARGE_SIZE
from flared.errors import FlareError, TooLarge
from flared.meta.kv import Transaction
from flared.names import ChunkId, ObjectName
from flared.objects.conditions import UNCONDITIONAL, Conditions, check_write
from flared.objects.digests import NO_DIGESTS, BodyDigests, Digests
from flared.objects.store import Store, due_ms, now_ms

if TYPE_CHECKING:
    from flared.chunks.budget import Lease

SMALL_SIZE = STAGE_SIZE
"""A body known to be no longer than this is read at once and is one chunk."""

CHUNKS_IN_FLIGHT = 4
"""One fills, one is digested, one is sent, one is being synced."""

Attach = Callable[[Transaction], ChunkId]
"""References a stored chunk inside a transaction, and says which one: the winner's, if another creator was faster."""

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class ObjectHeaders:
    """What a user says of an object beside its bytes."""

    content_type: str = "application/octet-stream"
    user: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PutResult:
    manifest: Manifest
    created: bool
    """False: it replaced an older version."""


@dataclass(frozen=True, slots=True)
class _Target:
    """Where a body goes and under which conditions."""

    store: Store
    bucket: Bucket
    name: ObjectName
    headers: ObjectHeaders
    when: Conditions


async def put_object(
    store: Store,
    name: ObjectName,
    body: BodySource,
    *,
    headers: ObjectHeaders,
    when: Conditions = UNCONDITIONAL,
    digests: Digests = NO_DIGESTS,
) -> PutResult:
    """Store ``body`` as the newest version of ``name``.

    Returns when every byte and the manifest are on stable storage. Raises NoSuchBucket, PreconditionFailed (also at
    the last moment), BadDigest, TooLarge, what the body raises, and Unavailable when a quorum is not there; then, and
    when cancelled before the commit, nothing visible has changed.
    """
    bucket = await find_bucket(store.kv, name.bucket)
    if not when.empty:
        current = await store.kv.view(lambda look: read_object(look, name))
        check_write(when, current.etag if current else None)
    _check_size(store, body.length or 0)
    target = _Target(store, bucket, name, headers, when)
    passing = BodyDigests(digests)
    if body.length is not None and body.length <= min(SMALL_SIZE, bucket.chunk_size):
        return await _put_small(target, body, body.length, passing)
    return await _put_large(target, body, passing)


async def _put_small(target: _Target, body: BodySource, length: int, passing: BodyDigests) -> PutResult:
    stages = target.store.chunks.stages
    if not stages.reserve_nowait(length):
        # Many small bodies are on their way, perhaps slowly: as part of a lease, which a slow one is made to give up.
        return await _put_large(target, body, passing)
    try:
        data = await body.read_all(length)
        if passing.wanted:
            passing.update(data)
            passing.check()
        if not length:
            return await _put_empty(target)
        return await (_put_one_chunk(target, data) if length >= LARGE_SIZE else _put_unshared(target, data))
    finally:
        stages.give_back(length)


async def _put_unshared(target: _Target, plain: bytes) -> PutResult:
    """A body too small to be shared: one chunk of a fresh generation, nothing to look up. The way of most puts, hence
    without the detours of ``_store_chunk``."""
    store, bucket, chunks = target.store, target.bucket, target.store.chunks
    digest = await digest_of(chunks.threads, plain)
    chunk = await write_chunk(chunks, plain, digest, scheme=parse_scheme(bucket.scheme), compress=bucket.compress)
    try:
        attach = partial(_create, chunk, False, None, 0)
        result = await store.kv.transact(_committing(target, len(plain), _etag(hashlib.sha256(digest), 1), attach))
    except BaseException:
        chunks.in_flight.abandon_write(chunk.id, placed_pieces(chunk.nodes), trio.current_time())
        raise
    chunks.in_flight.settle_write(chunk.id)
    if chunk.missing:
        store.degraded()
    return result


async def _put_empty(target: _Target) -> PutResult:
    decide = _committing(target, 0, _etag(hashlib.sha256(), 0), lambda tx: None)
    return await target.store.kv.transact(decide)


async def _put_one_chunk(target: _Target, plain: bytes | memoryview) -> PutResult:
    """A body of a single chunk: its record and the manifest change in one transaction."""
    digest = await digest_of(target.store.chunks.threads, plain)
    etag = _etag(hashlib.sha256(digest), 1)

    async def record(attach: Attach) -> tuple[PutResult, ChunkId]:
        result = await target.store.kv.transact(_committing(target, len(plain), etag, attach))
        assert result.manifest.chunk is not None
        return result, result.manifest.chunk

    return await _store_chunk(target, plain, digest, record)


async def _put_large(target: _Target, body: BodySource, passing: BodyDigests) -> PutResult:
    """A body of unknown length, or of more than one chunk."""
    writer = _ExtentWriter(target, body)
    first = await writer.cutter.next()
    if first is None:
        passing.check()
        return await _put_empty(target)
    if not first.last:
        return await writer.write(first, passing)
    try:
        _check_size(target.store, len(first.view))
        if passing.wanted:
            await target.store.chunks.threads.run(passing.update, first.view)
        passing.check()
        return await _put_one_chunk(target, first.view)
    finally:
        first.release()


class _Gone(Exception):  # a signal inside this file, never an error
    """The chunk to be shared was condemned meanwhile, or lost pieces."""


async def _store_chunk(
    target: _Target,
    plain: bytes | memoryview,
    digest: bytes,
    record: Callable[[Attach], Awaitable[tuple[R, ChunkId]]],
) -> R:
    """Find the chunk or write it, and ``record`` it in a transaction of the caller's."""
    store, bucket = target.store, target.bucket
    chunks = store.chunks
    shared = len(plain) >= LARGE_SIZE
    known = await find_shared(store.kv, digest, bucket.scheme) if shared else None
    if known is not None and _is_sound(chunks, known):
        try:
            return (await record(partial(_share, known)))[0]
        except _Gone:
            known = None
    scheme = parse_scheme(bucket.scheme)
    chunk = await write_chunk(chunks, plain, digest, scheme=scheme, compress=bucket.compress)
    try:
        create = partial(_create, chunk, shared, known.id if known else None, due_ms(store))
        result, used = await record(create)
    except BaseException:
        chunks.in_flight.abandon_write(chunk.id, placed_pieces(chunk.nodes), trio.current_time())
        raise
    # A loser's pieces are condemned in the winner's favour by the same transaction.
    chunks.in_flight.settle_write(chunk.id)
    if used == chunk.id and chunk.missing:
        store.degraded()
    return result


def _share(known: ChunkRecord, tx: Transaction) -> ChunkId:
    now = read_chunk(tx, known.id)
    if now is None or (now.nodes, now.missing) != (known.nodes, known.missing) or not add_reference(tx, known.id):
        raise _Gone
    return known.id


def _create(chunk: Chunk, shared: bool, unfit: ChunkId | None, due_ms: int, tx: Transaction) -> ChunkId:
    record = ChunkRecord(chunk.id, chunk.size, chunk.stored, chunk.codec, chunk.scheme, 1, chunk.nodes, chunk.missing)
    if shared:
        return create_shared_chunk(tx, record, due_ms, unfit=unfit).id
    create_chunk(tx, record)
    return chunk.id


def _is_sound(chunks: Chunks, known: ChunkRecord) -> bool:
    """Whether pieces up to the write quorum lie on nodes that answer, none of those is known to be damaged, and none
    may have been on a volume that has failed."""
    sound = [
        number
        for number, node in enumerate(known.nodes)
        if number not in known.missing and chunks.nodes.is_certain(node) and not chunks.damage.holds(known.id, number)
    ]
    return len(sound) >= parse_scheme(known.scheme).quorum


class _ExtentWriter:
    """Stores the chunks of one body, a few at a time, and appends them to an open extent in their order."""

    def __init__(self, target: _Target, body: BodySource) -> None:
        self._target = target
        self._store = target.store
        chunks = target.store.chunks
        self.cutter = Cutter(
            body,
            target.bucket.chunk_size,
            budget=chunks.budget,
            stages=chunks.stages,
            threads=chunks.threads,
            obtain=self._obtain,
            spill_directory=chunks.spill_directory,
        )
        self._extent = ExtentId(f"{target.store.random_bits(128):032x}")
        self._etag = hashlib.sha256()
        self._running = 0
        self._finished = trio.Event()
        self._size = 0
        self._count = 0

    async def write(self, cut: Cut | None, passing: BodyDigests) -> PutResult:
        """Store ``cut`` and all that follow it, and commit the manifest."""
        store, extent = self._store, self._extent
        in_flight = store.chunks.in_flight
        in_flight.begin_read([extent])  # the sweep gives up no extent that is being written
        try:
            expires = now_ms(store) + int(store.upload_ttl_seconds * 1000)
            chunk_size = self._target.bucket.chunk_size
            await store.kv.transact(lambda tx: open_extent(tx, extent, chunk_size, expires))
            try:
                await self._store_all(cut, passing)
                passing.check()
                etag = _etag(self._etag, self._count)
                decide = _committing(self._target, self._size, etag, lambda tx: seal(tx, extent))
                return await store.kv.transact(decide)
            except BaseException:
                await _give_up(store, extent)
                raise
        finally:
            in_flight.end_read([extent])

    async def _store_all(self, cut: Cut | None, passing: BodyDigests) -> None:
        before = trio.Event()
        before.set()
        try:
            async with trio.open_nursery() as nursery:
                while cut is not None:
                    self._size += len(cut.view)
                    self._count += 1
                    _check_size(self._store, self._size)
                    if passing.wanted:
                        await self._store.chunks.threads.run(passing.update, cut.view)
                    appended = trio.Event()
                    self._running += 1
                    nursery.start_soon(self._store_one, cut, before, appended)
                    before, cut = appended, None
                    while self._running >= CHUNKS_IN_FLIGHT:
                        await self._one_finished()
                    cut = await self.cutter.next()
        except BaseExceptionGroup as group:
            raise first_of(group) from None
        finally:
            if cut is not None:
                cut.release()

    async def _store_one(self, cut: Cut, before: trio.Event, appended: trio.Event) -> None:
        store, extent, size = self._store, self._extent, len(cut.view)
        try:
            if not looks_compressible(cut.view):
                cut.shrink(0)
            digest = await digest_of(store.chunks.threads, cut.view)

            async def record(attach: Attach) -> tuple[None, ChunkId]:
                await before.wait()

                def append(tx: Transaction) -> ChunkId:
                    chunk = attach(tx)
                    append_chunk(tx, extent, chunk, size)
                    return chunk

                return None, await store.kv.transact(append)

            await _store_chunk(self._target, cut.view, digest, record)
            self._etag.update(digest)
            appended.set()
        finally:
            cut.release()
            self._running -= 1
            self._finished.set()

    async def _one_finished(self) -> None:
        self._finished = trio.Event()
        await self._finished.wait()

    async def _obtain(self, size: int) -> Lease:
        """A first lease is waited for; a further one is only tried: else a chunk of this upload must end first."""
        budget = self._store.chunks.budget
        beside = size if self._target.bucket.compress else 0
        while self._running:
            lease = budget.lease_nowait(size, beside=beside)
            if lease is not None:
                return lease
            await self._one_finished()
        return await budget.lease(size, beside=beside)


async def _give_up(store: Store, extent: ExtentId) -> None:
    """Have the sweep release the extent's chunks; if even that fails, they are released when the extent expires."""
    with trio.move_on_after(5) as scope, suppress(FlareError):
        scope.shield = True
        due = now_ms(store)
        await store.kv.transact(lambda tx: give_up(tx, extent, due))


def _committing(
    target: _Target, size: int, etag: str, attach: Callable[[Transaction], ChunkId | ExtentRef | None]
) -> Callable[[Transaction], PutResult]:
    """The decision that writes the manifest, together with what it references, if the conditions still hold."""
    store, headers, when = target.store, target.headers, target.when
    now = store.now()
    moment = int(now * 1000)
    due = moment + int(store.garbage_grace_seconds * 1000)

    def check(current: Manifest | None) -> None:
        if not when.empty:
            check_write(when, current.etag if current else None)

    def decide(tx: Transaction) -> PutResult:
        held = attach(tx)
        assert not isinstance(held, ExtentRef) or held.size == size, "the extent is not the body that was counted"
        extents = (held,) if isinstance(held, ExtentRef) else ()
        chunk = None if isinstance(held, ExtentRef) else held
        draft = Manifest(target.name, 0, size, etag, now, headers.content_type, headers.user, chunk, extents)
        manifest, replaced = put_version(tx, draft, check, moment, due)
        return PutResult(manifest, replaced is None)

    return decide


def _etag(digests: hashlib._Hash, count: int) -> str:
    """The first half of the SHA-256 over the chunks' digests, and how many there are. The dash keeps S3 tools from
    reading it as an MD5."""
    return f"{digests.hexdigest()[:32]}-{count}"


def _check_size(store: Store, size: int) -> None:
    if size > store.limits.object_size_max:
        raise TooLarge(f"the object has more than the {store.limits.object_size_max} bytes that are allowed")
