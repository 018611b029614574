"""Commit: the transaction that makes a stored body the newest version of its object. Free of I/O; every way of a put
ends here.

The pieces are durable by then. One transaction holds the record of the chunk (or the extent's end), the manifest, and
the garbage of what it replaces, so a reader sees the whole new version or the whole old one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from flared.catalog.chunks import ChunkRecord, create_chunk, create_packed_chunk, create_shared_chunk
from flared.catalog.details import EMPTY
from flared.catalog.manifest import ExtentRef, Manifest
from flared.catalog.objects import put_version
from flared.catalog.once import Once, do_once
from flared.errors import TooLarge
from flared.meta.kv import Transaction
from flared.names import ChunkId, ObjectName
from flared.objects.conditions import UNCONDITIONAL, Conditions, check_write

if TYPE_CHECKING:
    from flared.catalog.buckets import Bucket
    from flared.catalog.details import Details
    from flared.objects.digests import BodySums
    from flared.objects.store import Store

Attach = Callable[[Transaction], ChunkId]
"""References a stored chunk inside a transaction, and says which one: the winner's, if another creator was faster."""


@dataclass(frozen=True, slots=True)
class ObjectHeaders:
    """The user's description of an object: everything except its bytes."""

    content_type: str = "application/octet-stream"
    user: dict[str, str] = field(default_factory=dict)
    details: Details | None = None
    """The response fields and tags; None: none."""


class PutResult(NamedTuple):
    manifest: Manifest
    created: bool
    """False: it replaced an older version."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a body goes and under which conditions."""

    store: Store
    bucket: Bucket
    name: ObjectName
    headers: ObjectHeaders
    when: Conditions
    once: Once | None = None
    """Set for a signed write that no one has recorded yet: the commit does."""


def with_sums(target: Target, sums: BodySums) -> Target:
    """Return the target of a body whose checksums are known."""
    if not sums.checksums:
        return target
    headers = target.headers
    details = (headers.details or EMPTY)._replace(checksums=sums.checksums, composite=False)
    return replace(target, headers=replace(headers, details=details))


def record_chunk(chunk: ChunkRecord, shared: bool, unfit: ChunkId | None, due_ms: int, tx: Transaction) -> ChunkId:
    if shared:
        return create_shared_chunk(tx, chunk, due_ms, unfit=unfit).id
    create_chunk(tx, chunk)
    return chunk.id


def committing(
    target: Target, size: int, etag: str, attach: Callable[[Transaction], ChunkId | ExtentRef | None]
) -> Callable[[Transaction], PutResult]:
    """The decision that writes the manifest, together with what it references, if the conditions still hold."""
    now = target.store.now()

    def decide(tx: Transaction) -> PutResult:
        held = attach(tx)
        assert not isinstance(held, ExtentRef) or held.size == size, "the extent is not the body that was counted"
        if isinstance(held, ExtentRef):
            return put_manifest(tx, target, size, etag, now, extents=(held,))
        return put_manifest(tx, target, size, etag, now, chunk=held)

    return decide


def put_packed(tx: Transaction, target: Target, chunk: ChunkRecord, etag: str, now: float) -> PutResult:
    """Write the manifest of a small object together with the record of its chunk, as one row.

    Raises what ``catalog.objects.put_version`` raises, and MetadataOlder; then nothing is written.
    """
    create_packed_chunk(tx, chunk)
    return put_manifest(tx, target, chunk.size, etag, now, chunk=chunk.id, packed=chunk)


def put_manifest(
    tx: Transaction,
    target: Target,
    size: int,
    etag: str,
    now: float,
    *,
    chunk: ChunkId | None = None,
    extents: tuple[ExtentRef, ...] = (),
    packed: ChunkRecord | None = None,
) -> PutResult:
    """Write the manifest of what was counted in this transaction, if the conditions still hold."""
    store, headers, when = target.store, target.headers, target.when
    if target.once is not None:
        do_once(tx, target.once)
    store.chunks.nodes.refuse_while_halted()
    moment = int(now * 1000)
    due = moment + int(store.garbage_grace_seconds * 1000)
    check = None if when is UNCONDITIONAL or when.empty else partial(_check, when)
    kind, user, details = headers.content_type, headers.user, headers.details
    draft = Manifest(target.name, 0, size, etag, now, kind, user, chunk, extents, packed, details)
    manifest, replaced = put_version(tx, draft, check, moment, due)
    return PutResult(manifest, replaced is None)


def _check(when: Conditions, current: Manifest | None) -> None:
    check_write(when, current.etag if current else None)


def make_etag(digests: hashlib._Hash, count: int) -> str:
    """The first half of the SHA-256 over the chunks' digests, and how many there are. The dash keeps S3 tools from
    reading it as an MD5."""
    return f"{digests.hexdigest()[:32]}-{count}"


def check_size(store: Store, size: int) -> None:
    if size > store.limits.object_size_max:
        raise TooLarge(f"the object has more than the {store.limits.object_size_max} bytes that are allowed")
