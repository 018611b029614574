"""Object lock: versions that no one deletes before their time.

A retention ends by itself: in *governance* mode a caller with the right may end it earlier, in *compliance* mode no one
may. A legal hold has no end but the one that is set. Both are of one version; a put never takes one away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from flared.catalog.bucket_documents import Kind, set_document
from flared.catalog.buckets import Versioning, find_bucket, read_bucket
from flared.catalog.details import EMPTY, Details
from flared.catalog.locks import DefaultRetention, decode_lock, encode_lock, is_locking
from flared.catalog.objects import change_details
from flared.errors import Conflict, NoLock, NoSuchBucket, ObjectLocked
from flared.objects.bucket_documents import find_document
from flared.objects.get import find_object
from flared.objects.store import Store, now_ms

if TYPE_CHECKING:
    from collections.abc import Callable

    from flared.catalog.manifest import Manifest
    from flared.meta.kv import Transaction
    from flared.names import BucketName, ObjectName


class Retention(NamedTuple):
    compliance: bool
    until_ms: int
    """0: none."""


NO_RETENTION = Retention(False, 0)


async def set_lock(store: Store, bucket: BucketName, default: DefaultRetention | None) -> None:
    """Let versions of the bucket be locked, and say how long each is retained by default. There is no way back.

    Raises NoSuchBucket, and Conflict if the bucket does not keep versions.
    """
    moment = now_ms(store)

    def decide(tx: Transaction) -> None:
        store.chunks.nodes.refuse_while_halted()
        found = read_bucket(tx, bucket)
        if found is None:
            raise NoSuchBucket(f"there is no bucket {bucket}")
        if found.versioning is not Versioning.ENABLED:
            raise Conflict("versioning must be enabled before objects can be locked")
        set_document(tx, bucket, Kind.LOCK, encode_lock(default), moment)

    await store.kv.transact(decide)


def find_lock(store: Store, bucket: BucketName) -> DefaultRetention | None:
    """Return how long versions are retained by default. Raises NoSuchBucket, and NoLock if they cannot be locked."""
    document = find_document(store, bucket, Kind.LOCK)
    if document is None:
        raise NoLock(f"the bucket {bucket} has no object lock")
    return decode_lock(document)


async def check_locking(store: Store, bucket: BucketName) -> None:
    """Raise NoLock unless versions of the bucket can be locked; NoSuchBucket."""
    if not is_locking(await find_bucket(store.kv, bucket)):
        raise NoLock(f"the bucket {bucket} has no object lock")


def retention_of(manifest: Manifest) -> Retention:
    details = manifest.details or EMPTY
    return Retention(details.compliance, details.retained_until_ms)


def is_held(manifest: Manifest) -> bool:
    """Return whether the version is under legal hold."""
    return manifest.details is not None and manifest.details.legal_hold


async def set_retention(
    store: Store,
    name: ObjectName,
    retention: Retention,
    *,
    version: int | None = None,
    bypass_governance: bool = False,
) -> None:
    """Retain the newest version, or that of a number; NO_RETENTION ends it.

    A retention that still runs may be made longer in its mode; anything else takes ``bypass_governance``, and is never
    possible in compliance mode. Raises ObjectLocked, NoLock, and what ``catalog.objects.find_object`` raises.
    """
    moment = now_ms(store)

    def change(manifest: Manifest) -> Details:
        now = retention_of(manifest)
        weaker = retention.until_ms < now.until_ms or (now.compliance and not retention.compliance)
        # Governance that becomes compliance is no weaker, but no longer what those with the right can end.
        other = now.compliance != retention.compliance
        if now.until_ms > moment and (weaker or other) and (now.compliance or not bypass_governance):
            raise ObjectLocked(f"version {manifest.version} of {name.key!r} is retained, and can only be so for longer")
        return (manifest.details or EMPTY)._replace(
            compliance=retention.compliance, retained_until_ms=retention.until_ms
        )

    await _change(store, name, version, change)


async def set_legal_hold(store: Store, name: ObjectName, held: bool, *, version: int | None = None) -> None:
    """Put the newest version, or that of a number, under legal hold, or end that. Raises as ``set_retention``."""
    await _change(store, name, version, lambda manifest: (manifest.details or EMPTY)._replace(legal_hold=held))


async def _change(store: Store, name: ObjectName, version: int | None, change: Callable[[Manifest], Details]) -> None:
    await check_locking(store, name.bucket)

    def decide(tx: Transaction) -> bool:
        store.chunks.nodes.refuse_while_halted()
        return change_details(tx, name, version, change) is not None

    while not await store.kv.transact(decide):
        await find_object(store, name, version=version)  # which says why not, unless it has come meanwhile
