"""Upload part: store a body, or a range of an object, as a part of an upload.

The order is that of a put: pieces, then (for more than one chunk) each chunk's record and its place in an open extent;
then, in one transaction, the extent's end, the part, and the release of the part that it replaces. In that transaction
the upload must still be there. A crash before it, or a completion that comes first, leaves an open extent, or pieces,
to the sweep.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from flared.catalog.buckets import find_bucket
from flared.catalog.extents import create_extent, seal
from flared.catalog.manifest import ExtentId, ExtentRef
from flared.catalog.uploads import PART_NUMBER_MAX, Part, Upload, UploadId, find_upload, put_part
from flared.errors import BadPart, BadRange, BadRequest, TooLarge
from flared.meta.kv import Transaction
from flared.names import ChunkId
from flared.objects.conditions import ALWAYS, ReadConditions
from flared.objects.copy import check_source
from flared.objects.digests import NO_DIGESTS, BodyDigests, BodySums, Digests, Tag, sum_up
from flared.objects.extent_writer import ExtentWriter, Written
from flared.objects.ranges import RangeRequest
from flared.objects.reading_source import open_source
from flared.objects.store import Store, due_ms, now_ms
from flared.objects.store_chunk import store_chunk

if TYPE_CHECKING:
    from flared.catalog.buckets import Bucket
    from flared.chunks.chunker import BodySource, PlainChunk
    from flared.names import ObjectName
    from flared.objects.commit import Attach

PART_SIZE_MAX = 5 * 1024**3


class PartResult(NamedTuple):
    part: Part
    checksums: dict[str, str]
    """All that were asked for, base64 by algorithm."""


@dataclass(frozen=True, slots=True)
class _Target:
    """Where a part goes."""

    store: Store
    bucket: Bucket
    upload: Upload
    number: int


async def upload_part(
    store: Store,
    name: ObjectName,
    upload: UploadId,
    number: int,
    body: BodySource,
    *,
    digests: Digests = NO_DIGESTS,
) -> PartResult:
    """Store ``body`` as part ``number`` of the upload; a part with this number is replaced.

    Returns when every byte and the part are on stable storage. Raises NoSuchBucket, NoSuchUpload (also at the last
    moment), BadPart, BadDigest, TooLarge, what the body raises, and Unavailable when a quorum is not there; then, and
    when cancelled before the commit, the upload is as it was.
    """
    store.chunks.nodes.refuse_while_halted()
    if not 1 <= number <= PART_NUMBER_MAX:
        raise BadPart(f"a part has a number from 1 to {PART_NUMBER_MAX}, not {number}")
    _check_size(body.length or 0)
    begun = await find_upload(store.kv, name, upload)
    target = _Target(store, await find_bucket(store.kv, name.bucket), begun, number)
    passing = BodyDigests(_asked(digests, begun.algorithm))
    # A body of one chunk or none becomes a part in one transaction.
    writer = ExtentWriter(store, target.bucket, body, _check_size)
    first = await writer.chunker.next()
    if first is None:
        sums = passing.finish()
        empty = partial(create_extent, extent=_draw(store), chunk_size=target.bucket.chunk_size, entries=())
        return await store.kv.transact(_putting(target, sums, empty))
    if first.last:
        return await _put_one_chunk(target, first, passing)
    return await writer.write(first, passing, partial(_committing, target))


async def copy_part(
    store: Store,
    source: ObjectName,
    name: ObjectName,
    upload: UploadId,
    number: int,
    *,
    within: tuple[int, int] | None = None,
    only: ReadConditions = ALWAYS,
    version: int | None = None,
) -> PartResult:
    """Store the newest version of ``source``, or that of a number, or a range of it, as a part.

    It is read, because a part has the MD5 of its bytes; whole chunks of the same bytes are not written again but
    referenced, where both buckets keep theirs alike. ``within`` are the first and the last byte to copy, both of them
    in the source, else BadRange is raised; ``only`` is about the source. Raises what ``get.open_object`` and
    ``upload_part`` raise, and PreconditionFailed.
    """
    await find_upload(store.kv, name, upload)  # before anything of the source is read
    wanted = None if within is None else RangeRequest(*within)
    async with open_source(store, source, range=wanted, version=version) as body:
        manifest = body.reading.manifest
        check_source(manifest, only)
        if within is not None and within[1] >= manifest.size:
            raise BadRange(f"the range ends at {within[1]}, the source has {manifest.size} bytes", size=manifest.size)
        return await upload_part(store, name, upload, number, body)


async def _put_one_chunk(target: _Target, cut: PlainChunk, passing: BodyDigests) -> PartResult:
    store, bucket, size = target.store, target.bucket, len(cut.view)
    try:
        _check_size(size)
        digest, sums = await sum_up(store.chunks.threads, cut.view, passing)
        extent = _draw(store)

        async def record(attach: Attach) -> tuple[PartResult, ChunkId]:
            used: list[ChunkId] = []

            def create(tx: Transaction) -> ExtentRef:
                used[:] = [attach(tx)]
                return create_extent(tx, extent, bucket.chunk_size, [(used[0], size)])

            result = await store.kv.transact(_putting(target, sums, create))
            return result, used[0]

        return await store_chunk(store, bucket, cut.view, digest, record)
    finally:
        cut.release()


def _committing(target: _Target, written: Written) -> Callable[[Transaction], PartResult]:
    return _putting(target, written.sums, partial(seal, extent=written.extent))


def _putting(
    target: _Target, sums: BodySums, attach: Callable[[Transaction], ExtentRef]
) -> Callable[[Transaction], PartResult]:
    """The decision that puts the part, together with the extent that it owns."""
    store, upload = target.store, target.upload
    now, due = now_ms(store), due_ms(store)

    def decide(tx: Transaction) -> PartResult:
        store.chunks.nodes.refuse_while_halted()
        part = Part(target.number, attach(tx), sums.etag, now, sums.checksums.get(upload.algorithm, ""))
        put_part(tx, upload.name, upload.id, part, now, due)
        return PartResult(part, sums.checksums)

    return decide


def _draw(store: Store) -> ExtentId:
    return ExtentId(f"{store.random_bits(128):032x}")


def _asked(digests: Digests, algorithm: str) -> Digests:
    promised = {*(digests.checksums or ()), *digests.wanted}
    if algorithm and promised - {algorithm}:
        raise BadRequest(f"the checksums of this upload are {algorithm}, not {', '.join(sorted(promised))}")
    wanted = (*digests.wanted, algorithm) if algorithm else digests.wanted
    return replace(digests, etag=Tag.MD5, wanted=wanted)


def _check_size(size: int) -> None:
    if size > PART_SIZE_MAX:
        raise TooLarge(f"the part has more than the {PART_SIZE_MAX} bytes that are allowed")
