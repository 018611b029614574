"""Objects: the newest version of each, put and deleted in one transaction with what it replaces; listings."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from flared.catalog import chunks, extents
from flared.catalog.buckets import read_bucket, writable_bucket
from flared.catalog.chunks import ChunkRecord, read_chunk
from flared.catalog.lister import Lister
from flared.catalog.manifest import Manifest, decode, encode, unreadable
from flared.catalog.totals import NOTHING, Counted
from flared.errors import NoSuchBucket, NoSuchObject, RowCorrupt
from flared.meta import keys
from flared.meta.kv import DAMAGED
from flared.names import BucketName, ObjectKey, ObjectName

if TYPE_CHECKING:
    from flared.meta.kv import KV, Snapshot, Transaction

Conditions = Callable[[Manifest | None], None]
"""Gets the newest version, or None, and raises PreconditionFailed if it is not what the request wants."""

MANIFESTS_PER_TURN = 64
"""Decoding so many takes a fifth of a millisecond; then others get the event loop."""


# Changes


def put_version(
    tx: Transaction, manifest: Manifest, conditions: Conditions, now_ms: int, due_ms: int
) -> tuple[Manifest, Manifest | None]:
    """Make ``manifest`` the newest version of its object: (as written, what it replaced).

    Its chunk or extents were counted by the caller in this transaction; those of the replaced version are released
    into garbage due at ``due_ms``. Raises NoSuchBucket, Busy (the bucket is being removed), and what ``conditions``
    raises; then nothing is written.
    """
    name = manifest.name
    writable_bucket(tx, name.bucket, now_ms)
    key = keys.object_(*name)
    replaced = _read_replaced(tx, key, name)
    conditions(replaced)
    version = now_ms if replaced is None else max(now_ms, replaced.version + 1)
    tx.put(key, encode(manifest, version))
    if replaced is not None:
        release(tx, replaced, due_ms)
    tx.note(Counted(key, NOTHING if replaced is None else replaced.size, manifest.size))
    return manifest.with_version(version), replaced


def delete_version(tx: Transaction, name: ObjectName, conditions: Conditions, due_ms: int) -> Manifest | None:
    """Delete the object and release what it names. Return the deleted version, or None if there was none.

    Raises NoSuchBucket, and what ``conditions`` raises.
    """
    key = keys.object_(*name)
    manifest = _read_replaced(tx, key, name)
    if manifest is None and read_bucket(tx, name.bucket) is None:
        raise NoSuchBucket(f"there is no bucket {name.bucket}")
    conditions(manifest)
    if manifest is None:
        return None
    tx.reclaim()
    tx.delete(key)
    release(tx, manifest, due_ms)
    tx.note(Counted(key, manifest.size, NOTHING))
    return manifest


def add_references(tx: Transaction, manifest: Manifest) -> bool:
    """Count what ``manifest`` names once more, for a copy. False if any of it is gone: then abandon the transaction."""
    if manifest.chunk is not None and not chunks.add_reference(tx, manifest.chunk):
        return False
    return all(extents.add_reference(tx, extent.id) for extent in manifest.extents)


def release(tx: Transaction, manifest: Manifest, due_ms: int) -> None:
    """Give back the references of a version that was deleted or replaced.

    A damaged row of a chunk or an extent stays, and so do its pieces: an object can be deleted nevertheless.
    """
    if manifest.packed is not None:
        chunks.release_packed(tx, manifest.packed, due_ms)
    elif manifest.chunk is not None:
        with suppress(RowCorrupt):
            chunks.release_reference(tx, manifest.chunk, due_ms)
    for extent in manifest.extents:
        with suppress(RowCorrupt):
            extents.release_reference(tx, extent.id, due_ms)


def _read_replaced(tx: Transaction, key: bytes, name: ObjectName) -> Manifest | None:
    """The version that a put or a delete takes away. A damaged one may go; what it named is not known, and stays."""
    try:
        value = tx.get(key)
        return None if value is None else decode(name, value)
    except RowCorrupt:
        return unreadable(name)


# Readers


async def find_object(kv: KV, name: ObjectName) -> Manifest:
    """Raises NoSuchBucket or NoSuchObject."""
    return find_object_nowait(kv, name)


def find_object_nowait(kv: KV, name: ObjectName) -> Manifest:
    """The same in a turn."""
    manifest = find_current(kv, name)
    if manifest is None:
        raise missing_error(kv, name)
    return manifest


def find_current(kv: KV, name: ObjectName) -> Manifest | None:
    """The newest version, if there is one, in a turn."""
    entry = kv.get_nowait(keys.object_(*name))
    return None if entry is None else decode(name, entry.value)


async def find_object_and_chunk(kv: KV, name: ObjectName) -> tuple[Manifest, ChunkRecord | None]:
    """The manifest and the record of its only chunk, both of one moment. Raises NoSuchBucket or NoSuchObject.

    None for an empty object, for one with extents, and for a chunk whose record is lost.
    """
    found = await kv.view(lambda snapshot: _read_object_and_chunk(snapshot, name))
    if found is None:
        raise missing_error(kv, name)
    return found


def read_object(snapshot: Snapshot, name: ObjectName) -> Manifest | None:
    value = snapshot.get(keys.object_(*name))
    return None if value is None else decode(name, value)


def _read_object_and_chunk(snapshot: Snapshot, name: ObjectName) -> tuple[Manifest, ChunkRecord | None] | None:
    value = snapshot.get(keys.object_(*name))
    if value is None:
        return None
    manifest = decode(name, value)
    if manifest.packed is not None or manifest.chunk is None:
        return manifest, manifest.packed
    return manifest, read_chunk(snapshot, manifest.chunk)


def missing_error(kv: KV, name: ObjectName) -> NoSuchBucket | NoSuchObject:
    """Return the error for an object that does not exist: NoSuchBucket if its bucket does not exist either."""
    if kv.get_nowait(keys.bucket(name.bucket)) is None:
        return NoSuchBucket(f"there is no bucket {name.bucket}")
    return NoSuchObject(f"there is no object {name.key!r} in the bucket {name.bucket}")


# Listing


@dataclass(frozen=True, slots=True)
class Listing:
    """One page, of one moment. Objects and prefixes are each in the order of their UTF-8 bytes."""

    objects: tuple[Manifest, ...]
    """A damaged row is listed, as ``manifest.unreadable``: a name may not vanish without a word."""
    prefixes: tuple[str, ...]
    """Keys up to and with the first delimiter after the prefix asked for, each standing for all keys under it."""
    next: str | None
    """The last key or prefix of the page, to go on ``after``; None if there is no more."""


async def list_page(
    kv: KV, bucket: BucketName, *, prefix: str = "", delimiter: str = "", after: str = "", limit: int = 1000
) -> Listing:
    """The first ``limit`` keys and prefixes that come after ``after``. Raises NoSuchBucket.

    Costs the same whatever the bucket holds: it seeks past everything under a common prefix.
    """
    if await kv.get(keys.bucket(bucket)) is None:
        raise NoSuchBucket(f"there is no bucket {bucket}")
    lister = Lister(keys.object_(bucket, ""), prefix.encode(), delimiter.encode(), after.encode(), limit)
    if limit > 0:
        await kv.walk(lister.start, lister.end, lister.page, lister.visit)
    return Listing(
        await _decode_objects(bucket, lister.rows),
        tuple(prefix.decode(errors="backslashreplace") for prefix in lister.prefixes),
        lister.last.decode(errors="backslashreplace") if lister.more else None,
    )


async def _decode_objects(bucket: BucketName, rows: list[tuple[bytes, bytes]]) -> tuple[Manifest, ...]:
    manifests = []
    for number, (key, value) in enumerate(rows):
        if number % MANIFESTS_PER_TURN == MANIFESTS_PER_TURN - 1:
            await trio.lowlevel.checkpoint()
        name = ObjectName(bucket, ObjectKey(key.decode(errors="backslashreplace")))
        manifests.append(unreadable(name) if value == DAMAGED else decode(name, value))
    return tuple(manifests)
