"""Listing: the objects of a bucket, and the chunks of an object, a page at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flared.catalog.chunks import ChunkRecord, find_many
from flared.catalog.extents import PAGE_CHUNKS, read_page
from flared.catalog.objects import Listing, find_object, list_page
from flared.catalog.version_listing import VersionListing, list_version_page
from flared.catalog.versions import NULL, read_version
from flared.errors import ManifestCorrupt
from flared.names import ObjectKey, ObjectName
from flared.objects.extent_walk import CHUNKS, ExtentWalk

if TYPE_CHECKING:
    from flared.catalog.manifest import Manifest
    from flared.names import BucketName, ChunkId
    from flared.objects.store import Store

LIMIT_MAX = 10_000


async def list_objects(
    store: Store, bucket: BucketName, *, prefix: str = "", delimiter: str = "", after: str = "", limit: int = 1000
) -> Listing:
    """Return one page, in UTF-8 byte order, of one moment, at the same cost for any bucket. Raise NoSuchBucket."""
    return await list_page(
        store.kv, bucket, prefix=prefix, delimiter=delimiter, after=after, limit=min(limit, LIMIT_MAX)
    )


async def list_versions(
    store: Store,
    bucket: BucketName,
    *,
    prefix: str = "",
    delimiter: str = "",
    after: str = "",
    after_version: int | None = None,
    limit: int = 1000,
) -> VersionListing:
    """Return one page of all versions and delete markers, of one moment: by keys, of each the newest first.

    It goes on behind all versions of the key ``after``, or behind the one of that number. Raises NoSuchBucket.
    """
    if after_version == NULL:
        name = ObjectName(bucket, ObjectKey(after))
        found = await store.kv.view(lambda snapshot: read_version(snapshot, name, NULL))
        after_version = None if found is None else found[1].version
    return await list_version_page(
        store.kv, bucket, prefix, delimiter, after, after_version, min(max(limit, 0), LIMIT_MAX)
    )


@dataclass(frozen=True, slots=True)
class ChunkPage:
    manifest: Manifest
    first: int
    """Number of the first chunk on this page."""
    chunks: tuple[ChunkRecord, ...]
    next: int | None
    """Number of the first chunk that is not on this page any more; None if there is none."""


async def list_chunks(
    store: Store, name: ObjectName, *, first: int = 0, limit: int = 1000, version: int | None = None
) -> ChunkPage:
    """The chunks of the newest version, or that of a number, from number ``first`` on, where their pieces are and
    which are missing.

    Raises what ``catalog.objects.find_object`` raises.
    """
    manifest = await find_object(store.kv, name, version)
    total = 1 if manifest.chunk else sum(extent.chunks for extent in manifest.extents)
    end = min(total, first + max(1, min(limit, LIMIT_MAX)))
    ids = await _chunk_ids(store, manifest, first, end)
    records = []
    for chunk, record in zip(ids, await find_many(store.kv, ids), strict=True):
        if record is None:
            raise ManifestCorrupt(f"the record of chunk {chunk} is lost")
        records.append(record)
    return ChunkPage(manifest, first, tuple(records), end if end < total else None)


async def _chunk_ids(store: Store, manifest: Manifest, first: int, end: int) -> list[ChunkId]:
    if manifest.chunk is not None:
        return [manifest.chunk][first:end]
    ids: list[ChunkId] = []
    extents = ExtentWalk(store.kv, manifest.extents, CHUNKS)
    while first + len(ids) < end:
        number = first + len(ids)
        extent, start = await extents.find(number)
        page, place = divmod(number - start, PAGE_CHUNKS)
        members = (await read_page(store.kv, extent.id, page))[place : place + end - number]
        if not members:
            raise ManifestCorrupt(f"the extent {extent.id} has no chunk {number - start}")
        ids += [chunk for chunk, _ in members]
    return ids
