"""Put: store a body as the newest version of an object.

The order is: pieces of every chunk, then (for more than one chunk) each chunk's record and its place in an open extent,
then the manifest, in one transaction with the release of what it replaces. A reader sees the whole new version or the
whole old one. A crash before the last transaction leaves pieces and an extent that no manifest names;
``upkeep.deletion`` collects them.
"""

from __future__ import annotations

import hashlib
from functools import partial
from typing import TYPE_CHECKING

from flared.catalog.buckets import find_bucket
from flared.catalog.extents import seal
from flared.catalog.objects import read_object
from flared.catalog.once import check_once
from flared.chunks.chunker import OWN_SIZE, BodySource
from flared.data.pieces import LARGE_SIZE
from flared.objects.commit import (
    Attach,
    ObjectHeaders,
    PutResult,
    Target,
    check_size,
    committing,
    make_etag,
    with_sums,
)
from flared.objects.conditions import UNCONDITIONAL, Conditions, check_write
from flared.objects.digests import NO_DIGESTS, BodyDigests, Digests, sum_up
from flared.objects.extent_writer import ExtentWriter, Written
from flared.objects.small_put import put_small
from flared.objects.store_chunk import store_chunk

if TYPE_CHECKING:
    from collections.abc import Callable

    from flared.catalog.once import Once
    from flared.meta.kv import Transaction
    from flared.names import ChunkId, ObjectName
    from flared.objects.store import Store

SMALL_SIZE = OWN_SIZE
"""A body known to be no longer than this is read at once and is one chunk. It takes only what every client may hold, so
it never waits for memory that others hold."""


async def put_object(
    store: Store,
    name: ObjectName,
    body: BodySource,
    *,
    headers: ObjectHeaders,
    when: Conditions = UNCONDITIONAL,
    digests: Digests = NO_DIGESTS,
    once: Once | None = None,
) -> PutResult:
    """Store ``body`` as the newest version of ``name``.

    Returns when every byte and the manifest are on stable storage. Raises NoSuchBucket, PreconditionFailed (also at
    the last moment), BadDigest, TooLarge, what the body raises, and Unavailable when a quorum is not there; then, and
    when cancelled before the commit, nothing visible has changed. ``once`` of a signed put is recorded by the commit;
    Replayed if it was before.
    """
    store.chunks.nodes.refuse_while_halted()
    if once is not None:
        await check_once(store.kv, once)  # refuse before taking a single byte; the commit decides
    bucket = await find_bucket(store.kv, name.bucket)
    if not when.empty:
        current = await store.kv.view(lambda snapshot: read_object(snapshot, name))
        check_write(when, current.etag if current else None)
    check_size(store, body.length or 0)
    target = Target(store, bucket, name, headers, when, once)
    passing = BodyDigests(digests)
    if body.length is not None and body.length <= min(SMALL_SIZE, bucket.chunk_size):
        return await _put_small(target, body, body.length, passing)
    return await _put_large(target, body, passing)


async def _put_small(target: Target, body: BodySource, length: int, passing: BodyDigests) -> PutResult:
    data = await body.read_all(length)
    return await (_put_packed(target, data, passing) if length else _put_empty(target, passing))


async def _put_empty(target: Target, passing: BodyDigests) -> PutResult:
    sums = passing.finish(hashlib.sha256().digest())
    etag = sums.etag or make_etag(hashlib.sha256(), 0)
    return await target.store.kv.transact(committing(with_sums(target, sums), 0, etag, lambda tx: None))


async def _put_packed(target: Target, plain: bytes, passing: BodyDigests) -> PutResult:
    digest, sums = await sum_up(target.store.chunks.threads, memoryview(plain), passing)
    return await put_small(with_sums(target, sums), plain, digest, sums.etag)


async def _put_one_chunk(target: Target, plain: memoryview, passing: BodyDigests) -> PutResult:
    """A body of a single chunk: its record and the manifest change in one transaction."""
    digest, sums = await sum_up(target.store.chunks.threads, plain, passing)
    etag = sums.etag or make_etag(hashlib.sha256(digest), 1)
    target = with_sums(target, sums)

    async def record(attach: Attach) -> tuple[PutResult, ChunkId]:
        result = await target.store.kv.transact(committing(target, len(plain), etag, attach))
        assert result.manifest.chunk is not None
        return result, result.manifest.chunk

    return await store_chunk(target.store, target.bucket, plain, digest, record)


async def _put_large(target: Target, body: BodySource, passing: BodyDigests) -> PutResult:
    """A body of unknown length, or of more than one chunk."""
    writer = ExtentWriter(target.store, target.bucket, body, partial(check_size, target.store))
    first = await writer.chunker.next()
    if first is None:
        return await _put_empty(target, passing)
    if not first.last:
        return await writer.write(first, passing, partial(_committing_extent, target))
    try:
        check_size(target.store, len(first.view))
        if len(first.view) < LARGE_SIZE:
            return await _put_packed(target, bytes(first.view), passing)
        return await _put_one_chunk(target, first.view, passing)
    finally:
        first.release()


def _committing_extent(target: Target, written: Written) -> Callable[[Transaction], PutResult]:
    seal_it = partial(seal, extent=written.extent)
    return committing(with_sums(target, written.sums), written.size, written.etag, seal_it)
