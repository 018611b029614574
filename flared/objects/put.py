"""Put: store a body as the newest version of an object.

The order is: pieces of every chunk, then (for more than one chunk) each chunk's record and its place in an open extent,
then the manifest, in one transaction with the release of what it replaces. A reader sees the whole new version or the
whole old one. A crash before the last transaction leaves pieces and an extent that no manifest names;
``upkeep.deletion`` collects them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import trio

from flared.background import first_of
from flared.catalog.buckets import find_bucket
from flared.catalog.chunks import ChunkRecord, add_reference, find_shared, read_chunk
from flared.catalog.extents import append_chunk, give_up, open_extent, seal
from flared.catalog.manifest import ExtentId
from flared.catalog.objects import read_object
from flared.chunks.chunk import Chunks, digest_of
from flared.chunks.chunker import OWN_SIZE, BodySource, Chunker, PlainChunk
from flared.chunks.codec import looks_compressible
from flared.chunks.scheme import parse_scheme
from flared.chunks.write import placed_pieces, write_chunk
from flared.data.pieces import LARGE_SIZE
from flared.errors import FlareError
from flared.meta.kv import Transaction
from flared.names import ChunkId, ObjectName
from flared.objects.commit import (
    Attach,
    ObjectHeaders,
    PutResult,
    Target,
    check_size,
    committing,
    make_etag,
    record_chunk,
    with_sums,
)
from flared.objects.conditions import UNCONDITIONAL, Conditions, check_write
from flared.objects.digests import NO_DIGESTS, BodyDigests, BodySums, Digests
from flared.objects.small_put import put_small
from flared.objects.store import Store, due_ms, now_ms

if TYPE_CHECKING:
    from flared.chunks.budget import Lease

SMALL_SIZE = OWN_SIZE
"""A body known to be no longer than this is read at once and is one chunk. It takes only what every client may hold, so
it never waits for memory that others hold."""

CHUNKS_IN_FLIGHT = 4
"""One fills, one is digested, one is sent, one is being synced."""

R = TypeVar("R")


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
    store.chunks.nodes.refuse_while_halted()
    bucket = await find_bucket(store.kv, name.bucket)
    if not when.empty:
        current = await store.kv.view(lambda snapshot: read_object(snapshot, name))
        check_write(when, current.etag if current else None)
    check_size(store, body.length or 0)
    target = Target(store, bucket, name, headers, when)
    passing = BodyDigests(digests)
    if body.length is not None and body.length <= min(SMALL_SIZE, bucket.chunk_size):
        return await _put_small(target, body, body.length, passing)
    return await _put_large(target, body, passing)


async def _put_small(target: Target, body: BodySource, length: int, passing: BodyDigests) -> PutResult:
    data = await body.read_all(length)
    return await (_put_packed(target, data, passing) if length else _put_empty(target, passing))


async def _put_empty(target: Target, passing: BodyDigests) -> PutResult:
    sums = passing.finish()
    etag = sums.etag or make_etag(hashlib.sha256(), 0)
    return await target.store.kv.transact(committing(with_sums(target, sums), 0, etag, lambda tx: None))


async def _put_packed(target: Target, plain: bytes, passing: BodyDigests) -> PutResult:
    digest, sums = await _sum_up(target, plain, passing)
    return await put_small(with_sums(target, sums), plain, digest, sums.etag)


async def _sum_up(target: Target, plain: bytes | memoryview, passing: BodyDigests) -> tuple[bytes, BodySums]:
    """Return the digest of a body of a single chunk, and what else is asked about it. Raises BadDigest."""
    threads = target.store.chunks.threads
    digest = await digest_of(threads, plain)
    if passing.wanted:
        await passing.update_in(threads, memoryview(plain), sha256=digest)
    return digest, passing.finish()


async def _put_one_chunk(target: Target, plain: memoryview, passing: BodyDigests) -> PutResult:
    """A body of a single chunk: its record and the manifest change in one transaction."""
    digest, sums = await _sum_up(target, plain, passing)
    etag = sums.etag or make_etag(hashlib.sha256(digest), 1)
    target = with_sums(target, sums)

    async def record(attach: Attach) -> tuple[PutResult, ChunkId]:
        result = await target.store.kv.transact(committing(target, len(plain), etag, attach))
        assert result.manifest.chunk is not None
        return result, result.manifest.chunk

    return await _store_chunk(target, plain, digest, record)


async def _put_large(target: Target, body: BodySource, passing: BodyDigests) -> PutResult:
    """A body of unknown length, or of more than one chunk."""
    writer = _ExtentWriter(target, body)
    first = await writer.chunker.next()
    if first is None:
        return await _put_empty(target, passing)
    if not first.last:
        return await writer.write(first, passing)
    try:
        check_size(target.store, len(first.view))
        if len(first.view) < LARGE_SIZE:
            return await _put_packed(target, bytes(first.view), passing)
        return await _put_one_chunk(target, first.view, passing)
    finally:
        first.release()


class _Gone(Exception):  # a signal inside this file, never an error
    """The chunk to be shared was condemned meanwhile, or lost pieces."""


async def _store_chunk(
    target: Target,
    plain: bytes | memoryview,
    digest: bytes,
    record: Callable[[Attach], Awaitable[tuple[R, ChunkId]]],
) -> R:
    """Find the chunk or write it, and ``record`` it in a transaction of the caller's."""
    store, bucket = target.store, target.bucket
    chunks = store.chunks
    shared = len(plain) >= LARGE_SIZE
    scheme = parse_scheme(bucket.scheme).for_size(len(plain))
    known = await find_shared(store.kv, digest, scheme.text) if shared else None
    if known is not None and _is_sound(chunks, known):
        try:
            return (await record(partial(_share, known)))[0]
        except _Gone:
            known = None
    chunk = await write_chunk(chunks, plain, digest, scheme=scheme, compress=bucket.compress)
    try:
        create = partial(record_chunk, chunk, shared, known.id if known else None, due_ms(store))
        result, used = await record(create)
    except BaseException:
        chunks.in_flight.abandon(chunk.id, placed_pieces(chunk.nodes), trio.current_time())
        raise
    # A loser's pieces are condemned in the winner's favour by the same transaction.
    chunks.in_flight.release(chunk.id)
    if used == chunk.id and chunk.missing:
        store.degraded()
    return result


def _share(known: ChunkRecord, tx: Transaction) -> ChunkId:
    now = read_chunk(tx, known.id)
    if now is None or (now.nodes, now.missing) != (known.nodes, known.missing) or not add_reference(tx, known.id):
        raise _Gone
    return known.id


def _is_sound(chunks: Chunks, known: ChunkRecord) -> bool:
    """Return whether pieces up to the write quorum lie on nodes that answer, none of them known to be damaged, and none
    may have been on a volume that has failed."""
    sound = [
        number
        for number, node in enumerate(known.nodes)
        if number not in known.missing
        and chunks.nodes.has_all_recorded(node)
        and not chunks.damage.holds(known.id, number)
    ]
    return len(sound) >= parse_scheme(known.scheme).quorum


class _Step(NamedTuple):
    """How far one chunk of a body is. The next one follows in both, each for itself."""

    appended: trio.Event
    digested: trio.Event


class _ExtentWriter:
    """Stores the chunks of one body, a few at a time, and appends them to an open extent in their order."""

    def __init__(self, target: Target, body: BodySource) -> None:
        self._target = target
        self._store = target.store
        self._scheme = parse_scheme(target.bucket.scheme)
        chunks = target.store.chunks
        self.chunker = Chunker(
            body,
            target.bucket.chunk_size,
            budget=chunks.budget,
            stages=chunks.stages,
            spills=chunks.spills,
            obtain=self._obtain,
        )
        self._extent = ExtentId(f"{target.store.random_bits(128):032x}")
        self._etag = hashlib.sha256()
        self._running = 0
        self._finished = trio.Event()
        self._size = 0
        self._count = 0

    async def write(self, cut: PlainChunk | None, passing: BodyDigests) -> PutResult:
        """Store ``cut`` and all that follow it, and commit the manifest."""
        store, extent = self._store, self._extent
        in_flight = store.chunks.in_flight
        in_flight.pin([extent])  # the sweep gives up no extent that is being written
        try:
            expires = now_ms(store) + int(store.upload_ttl_seconds * 1000)
            chunk_size = self._target.bucket.chunk_size
            await store.kv.transact(lambda tx: open_extent(tx, extent, chunk_size, expires))
            try:
                await self._store_all(cut, passing)
                sums = passing.finish()
                etag = sums.etag or make_etag(self._etag, self._count)
                decide = committing(with_sums(self._target, sums), self._size, etag, lambda tx: seal(tx, extent))
                return await store.kv.transact(decide)
            except BaseException:
                await _give_up(store, extent)
                raise
        finally:
            in_flight.unpin([extent])

    async def _store_all(self, cut: PlainChunk | None, passing: BodyDigests) -> None:
        before = _Step(trio.Event(), trio.Event())
        before.appended.set()
        before.digested.set()
        try:
            async with trio.open_nursery() as nursery:
                while cut is not None:
                    self._size += len(cut.view)
                    self._count += 1
                    check_size(self._store, self._size)
                    step = _Step(trio.Event(), trio.Event())
                    self._running += 1
                    nursery.start_soon(self._store_one, cut, before, step, passing)
                    before, cut = step, None
                    while self._running >= CHUNKS_IN_FLIGHT:
                        await self._one_finished()
                    cut = await self.chunker.next()
        except BaseExceptionGroup as group:
            raise first_of(group) from None
        finally:
            if cut is not None:
                cut.release()

    async def _store_one(self, cut: PlainChunk, before: _Step, step: _Step, passing: BodyDigests) -> None:
        try:
            # The buffer is given back only when neither of the two uses it any more.
            async with trio.open_nursery() as nursery:
                if passing.wanted:
                    nursery.start_soon(self._pass, cut.view, before.digested, step.digested, passing)
                await self._append_one(cut, before.appended)
                step.appended.set()
        finally:
            cut.release()
            self._running -= 1
            self._finished.set()

    async def _pass(self, view: memoryview, before: trio.Event, digested: trio.Event, passing: BodyDigests) -> None:
        await before.wait()
        await passing.update_in(self._store.chunks.threads, view)
        digested.set()

    async def _append_one(self, cut: PlainChunk, before: trio.Event) -> None:
        store, extent, size = self._store, self._extent, len(cut.view)
        if not looks_compressible(cut.view):
            cut.shrink(self._scheme.extra_size(size))
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

    async def _one_finished(self) -> None:
        self._finished = trio.Event()
        await self._finished.wait()

    async def _obtain(self, size: int) -> Lease:
        """A first lease is waited for; a further one is only tried: else a chunk of this upload must end first."""
        budget = self._store.chunks.budget
        beside = self._scheme.extra_size(size) + (size if self._target.bucket.compress else 0)
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
