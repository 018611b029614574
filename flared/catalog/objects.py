"""Objects: versions put and deleted, each in one transaction with what it replaces; the newest ones read and listed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import trio

from flared.catalog import chunks, extents, versions
from flared.catalog.buckets import Bucket, Versioning, find_bucket_nowait, read_bucket, writable_bucket
from flared.catalog.chunks import ChunkRecord, read_chunk
from flared.catalog.details import EMPTY, Details, some
from flared.catalog.lister import Lister
from flared.catalog.locks import with_default
from flared.catalog.manifest import Manifest, decode, encode, redescribed, unreadable
from flared.catalog.totals import NOTHING, Counted
from flared.catalog.versions import Next
from flared.errors import IsDeleteMarker, NoSuchBucket, NoSuchObject, NoSuchVersion, RowCorrupt
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
    tx: Transaction, manifest: Manifest, conditions: Conditions | None, now_ms: int, due_ms: int
) -> tuple[Manifest, Manifest | None]:
    """Make ``manifest`` the newest version of its object: (as written, what it replaced).

    Its chunk or extents were counted by the caller in this transaction; those of the replaced version are released
    into garbage due at ``due_ms``, unless the bucket keeps versions. Raises NoSuchBucket, Busy (the bucket is being
    removed), and what ``conditions`` raises; then nothing is written.
    """
    name = manifest.name
    bucket = writable_bucket(tx, name.bucket, now_ms)
    key = keys.object_(*name)
    replaced = _read_replaced(tx, key, name)
    if conditions is not None:
        conditions(replaced)
    size_before = NOTHING if replaced is None else replaced.size
    if bucket.versioning:
        newest = _set_aside(tx, bucket, manifest.name, replaced, due_ms)
        enabled = bucket.versioning is Versioning.ENABLED
        details = with_default(tx, bucket, (manifest.details or EMPTY)._replace(versioned=enabled), now_ms)
        manifest = manifest._replace(details=some(details))
        version = now_ms if newest is None else max(now_ms, newest.version + 1)
    else:
        version = now_ms if replaced is None else max(now_ms, replaced.version + 1)
        if replaced is not None:
            release(tx, replaced, due_ms)
    tx.put(key, encode(manifest, version))
    tx.note(Counted(key, size_before, manifest.size))
    return manifest.with_version(version), replaced


class Deletion(NamedTuple):
    """What a delete has done."""

    deleted: Manifest | None
    """The version that can be read no more; None: there was none."""
    marker: Manifest | None = None
    """The delete marker that was put in its place."""


def delete_object(tx: Transaction, name: ObjectName, conditions: Conditions, now_ms: int, due_ms: int) -> Deletion:
    """Delete the object and release what it names; where the bucket has versioning, put a delete marker instead.

    Raises NoSuchBucket, Busy (a marker is needed and the bucket is being removed), and what ``conditions`` raises.
    """
    key = keys.object_(*name)
    manifest = _read_replaced(tx, key, name)
    bucket = read_bucket(tx, name.bucket)
    if bucket is None:
        raise NoSuchBucket(f"there is no bucket {name.bucket}")
    conditions(manifest)
    if bucket.versioning:
        return _mark_deleted(tx, writable_bucket(tx, name.bucket, now_ms), name, manifest, now_ms, due_ms)
    if manifest is None:
        return Deletion(None)
    tx.reclaim()
    tx.delete(key)
    release(tx, manifest, due_ms)
    tx.note(Counted(key, manifest.size, NOTHING))
    return Deletion(manifest)


def _mark_deleted(
    tx: Transaction, bucket: Bucket, name: ObjectName, manifest: Manifest | None, now_ms: int, due_ms: int
) -> Deletion:
    newest = _set_aside(tx, bucket, name, manifest, due_ms)
    if manifest is not None:
        versions.remove_newest(tx, manifest)
    version = now_ms if newest is None else max(now_ms, newest.version + 1)
    enabled = bucket.versioning is Versioning.ENABLED
    return Deletion(manifest, versions.put_delete_marker(tx, name, version, now_ms / 1000, versioned=enabled))


def _set_aside(
    tx: Transaction, bucket: Bucket, name: ObjectName, current: Manifest | None, due_ms: int
) -> Manifest | None:
    """Make room for a newer version, and return the newest one so far. With versioning enabled it is kept; suspended,
    what is put next has no id, and replaces the one version that has none, wherever it is. The caller overwrites or
    deletes the row in ``object/``."""
    newest = current if current is not None else _read_marker(tx, name)
    suspended = bucket.versioning is Versioning.SUSPENDED
    if newest is not None and newest.is_readable:
        if suspended and newest.is_null:
            if newest.deletes:
                versions.remove_newest(tx, newest)
            else:
                release(tx, newest, due_ms)
            return newest
        versions.demote(tx, newest)
    if suspended:
        replaced = versions.take_null(tx, name)
        if replaced is not None:
            release(tx, replaced, due_ms)
    return newest


def _read_marker(tx: Transaction, name: ObjectName) -> Manifest | None:
    """The delete marker that is the newest version. A damaged one goes: nothing but a name is lost with it."""
    try:
        return versions.read_delete_marker(tx, name)
    except RowCorrupt:
        tx.delete(keys.delete_marker(*name))
        return None


def delete_version(
    tx: Transaction, name: ObjectName, number: int, found: Next, permit: Callable[[Manifest], None], due_ms: int
) -> Deletion:
    """Delete one version for good, or the delete marker that it is, and release what it names.

    If it is the newest one, the next becomes the newest, as ``versions.find_next`` has found it. Raises NoSuchBucket,
    ``versions.Changed`` (find it again), and what ``permit`` raises; then nothing is written.
    """
    if read_bucket(tx, name.bucket) is None:
        raise NoSuchBucket(f"there is no bucket {name.bucket}")
    damaged = versions.find_damaged(tx, name, number) if number > 0 else None
    if damaged is not None:
        versions.remove_damaged(tx, name, damaged, number)
        return Deletion(unreadable(name).with_version(number))
    known = versions.read_version(tx, name, number)
    if known is None:
        return Deletion(None)
    key, manifest = known
    permit(manifest)
    tx.reclaim()
    newest = versions.read_newest(tx, name)
    if newest is not None and newest.version == manifest.version:
        if newest.version != found.newest:
            raise versions.Changed
        versions.remove_newest(tx, newest)
        versions.promote(tx, name, found)
    else:
        versions.remove(tx, key, manifest)
    release(tx, manifest, due_ms)
    return Deletion(None, manifest) if manifest.deletes else Deletion(manifest)


def change_details(
    tx: Transaction, name: ObjectName, number: int | None, change: Callable[[Manifest], Details]
) -> Manifest | None:
    """Rewrite the details of the newest version, or of that of a number; its number and its bytes stay.

    Return it as written; None if there is none, or if it is a delete marker. Raises what ``change`` raises.
    """
    if number is None:
        current = read_object(tx, name)
        found = None if current is None else (keys.object_(*name), current)
    else:
        found = versions.read_version(tx, name, number)
    if found is None or found[1].deletes:
        return None
    key, manifest = found
    details = some(change(manifest))
    value = tx.get(key)
    assert value is not None, "it was read in this transaction"
    tx.put(key, redescribed(value, manifest, details))
    return manifest._replace(details=details)


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


async def find_object(kv: KV, name: ObjectName, version: int | None = None) -> Manifest:
    """The newest version, or that of a number (``versions.NULL``: the one without an id).

    Raises NoSuchBucket, NoSuchObject, NoSuchVersion, and IsDeleteMarker for a number that is one's.
    """
    if version is None:
        return find_object_nowait(kv, name)
    found = await kv.view(lambda snapshot: versions.read_version(snapshot, name, version))
    return _readable(kv, name, version, found and found[1])


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


async def find_object_and_chunk(
    kv: KV, name: ObjectName, version: int | None = None
) -> tuple[Manifest, ChunkRecord | None]:
    """The manifest and the record of its only chunk, both of one moment. Raises as ``find_object``.

    None for an empty object, for one with extents, and for a chunk whose record is lost.
    """
    if version is not None:
        known = await kv.view(lambda snapshot: _read_version_and_chunk(snapshot, name, version))
        return _readable(kv, name, version, known and known[0]), known[1] if known else None
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
    return _with_chunk(snapshot, decode(name, value))


def _read_version_and_chunk(
    snapshot: Snapshot, name: ObjectName, version: int
) -> tuple[Manifest, ChunkRecord | None] | None:
    found = versions.read_version(snapshot, name, version)
    return None if found is None else _with_chunk(snapshot, found[1])


def _with_chunk(snapshot: Snapshot, manifest: Manifest) -> tuple[Manifest, ChunkRecord | None]:
    if manifest.packed is not None or manifest.chunk is None:
        return manifest, manifest.packed
    return manifest, read_chunk(snapshot, manifest.chunk)


def _readable(kv: KV, name: ObjectName, version: int, found: Manifest | None) -> Manifest:
    """Return a version that was asked for by its number. Raises as ``find_object``."""
    if found is None:
        missing = missing_error(kv, name)
        if isinstance(missing, NoSuchBucket):
            raise missing
        raise NoSuchVersion(f"the object {name.key!r} has no version {_show(version)} in the bucket {name.bucket}")
    if found.deletes:
        number = versions.NULL if found.is_null else found.version
        raise IsDeleteMarker(f"version {_show(version)} of {name.key!r} is a delete marker", version=number)
    return found


def _show(version: int) -> str:
    return "null" if version == versions.NULL else str(version)


def missing_error(kv: KV, name: ObjectName) -> NoSuchBucket | NoSuchObject:
    """Return the error for an object that does not exist: NoSuchBucket if its bucket does not exist either."""
    try:
        bucket = find_bucket_nowait(kv, name.bucket)
    except NoSuchBucket as error:
        return error
    # A bucket that never had versioning has no delete markers, and the look-up would be one in the file.
    marker = kv.get_nowait(keys.delete_marker(*name)) if bucket.versioning else None
    deleted = 0
    if marker is not None:
        newest = decode(name, marker.value)
        deleted = versions.NULL if newest.is_null else newest.version
    return NoSuchObject(f"there is no object {name.key!r} in the bucket {name.bucket}", delete_marker=deleted)


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
