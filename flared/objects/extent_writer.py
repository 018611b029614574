"""Extent writer: the chunks of one body, a few at a time, appended to an open extent in their order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import trio

from flared.background import first_of
from flared.catalog.extents import append_chunk, give_up, open_extent
from flared.catalog.manifest import ExtentId
from flared.chunks.chunk import digest_of
from flared.chunks.chunker import Chunker
from flared.chunks.codec import looks_compressible
from flared.chunks.scheme import parse_scheme
from flared.errors import FlareError
from flared.meta.kv import Transaction
from flared.objects.commit import make_etag
from flared.objects.store import Store, now_ms
from flared.objects.store_chunk import store_chunk

if TYPE_CHECKING:
    from flared.catalog.buckets import Bucket
    from flared.chunks.budget import Lease
    from flared.chunks.chunker import BodySource, PlainChunk
    from flared.names import ChunkId
    from flared.objects.commit import Attach
    from flared.objects.digests import BodyDigests, BodySums

CHUNKS_IN_FLIGHT = 4
"""One fills, one is digested, one is sent, one is being synced."""

R = TypeVar("R")


class Written(NamedTuple):
    """A body whose chunks are all in an extent, which is still open."""

    extent: ExtentId
    size: int
    etag: str
    sums: BodySums


Commit = Callable[[Written], Callable[[Transaction], R]]
"""From what was written to the decision that seals the extent, and names it."""


class _Step(NamedTuple):
    """How far one chunk of a body is. The next one follows in both, each for itself."""

    appended: trio.Event
    digested: trio.Event


class ExtentWriter:
    """Stores the chunks of one body, a few at a time, and appends them to an open extent in their order."""

    def __init__(self, store: Store, bucket: Bucket, body: BodySource, check_size: Callable[[int], None]) -> None:
        """``check_size`` raises TooLarge for a body of more bytes than there may be."""
        self._store = store
        self._bucket = bucket
        self._check_size = check_size
        self._scheme = parse_scheme(bucket.scheme)
        chunks = store.chunks
        self.chunker = Chunker(
            body,
            bucket.chunk_size,
            budget=chunks.budget,
            stages=chunks.stages,
            spills=chunks.spills,
            obtain=self._obtain,
        )
        self._extent = ExtentId(f"{store.random_bits(128):032x}")
        self._etag = hashlib.sha256()
        self._running = 0
        self._finished = trio.Event()
        self._size = 0
        self._count = 0

    async def write(self, cut: PlainChunk | None, passing: BodyDigests, commit: Commit[R]) -> R:
        """Store ``cut`` and all that follow it, and run what ``commit`` decides: it seals and names the extent.

        Raises what the body raises, TooLarge, BadDigest, and Unavailable when a quorum is not there; then, and when
        cancelled, the extent is given up.
        """
        store, extent = self._store, self._extent
        in_flight = store.chunks.in_flight
        in_flight.pin([extent])  # the sweep gives up no extent that is being written
        try:
            expires = now_ms(store) + int(store.upload_ttl_seconds * 1000)
            chunk_size = self._bucket.chunk_size
            await store.kv.transact(lambda tx: open_extent(tx, extent, chunk_size, expires))
            try:
                await self._store_all(cut, passing)
                sums = passing.finish(self._etag.digest())
                etag = sums.etag or make_etag(self._etag, self._count)
                return await store.kv.transact(commit(Written(extent, self._size, etag, sums)))
            except BaseException:
                await give_up_soon(store, extent)
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
                    self._check_size(self._size)
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

        await store_chunk(store, self._bucket, cut.view, digest, record)
        self._etag.update(digest)

    async def _one_finished(self) -> None:
        self._finished = trio.Event()
        await self._finished.wait()

    async def _obtain(self, size: int) -> Lease:
        """A first lease is waited for; a further one is only tried: else a chunk of this upload must end first."""
        budget = self._store.chunks.budget
        beside = self._scheme.extra_size(size) + (size if self._bucket.compress else 0)
        while self._running:
            lease = budget.lease_nowait(size, beside=beside)
            if lease is not None:
                return lease
            await self._one_finished()
        return await budget.lease(size, beside=beside)


async def give_up_soon(store: Store, extent: ExtentId) -> None:
    """Have the sweep release the extent's chunks; if even that fails, they are released when the extent expires."""
    with trio.move_on_after(5) as scope, suppress(FlareError):
        scope.shield = True
        due = now_ms(store)
        await store.kv.transact(lambda tx: give_up(tx, extent, due))
