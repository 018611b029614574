"""Commit: the transaction that makes a stored body the newest version of its object. Free of I/O; every way of a put
ends here.

The pieces are durable by then. One transaction holds the record of the chunk (or the extent's end), the manifest, and
the garbage of what it replaces, so a reader sees the whole new version or the whole old one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flared.catalog.chunks import ChunkRecord, create_chunk, create_packed_chunk, create_shared_chunk
from flared.catalog.manifest import ExtentRef, Manifest
from flared.catalog.objects import put_version
from flared.errors import TooLarge
from flared.meta.kv import Transaction
from flared.names import ChunkId, ObjectName
from flared.objects.conditions import Conditions, check_write

if TYPE_CHECKING:
    from flared.catalog.buckets import Bucket
    from flared.chunks.chunk import Chunk
    from flared.objects.store import Store

Attach = Callable[[Transaction], ChunkId]
"""References a stored chunk inside a transaction, and says which one: the winner's, if another creator was faster."""


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
class Target:
    """Where a body goes and under which conditions."""

    store: Store
    bucket: Bucket
    name: ObjectName
    headers: ObjectHeaders
    when: Conditions


def pack_chunk(chunk: Chunk, tx: Transaction) -> ChunkRecord:
    """Have the chunk recorded in the row of its object."""
    record = _record_of(chunk)
    create_packed_chunk(tx, record)
    return record


def record_chunk(chunk: Chunk, shared: bool, unfit: ChunkId | None, due_ms: int, tx: Transaction) -> ChunkId:
    record = _record_of(chunk)
    if shared:
        return create_shared_chunk(tx, record, due_ms, unfit=unfit).id
    create_chunk(tx, record)
    return chunk.id


def _record_of(chunk: Chunk) -> ChunkRecord:
    return ChunkRecord(chunk.id, chunk.size, chunk.stored, chunk.codec, chunk.scheme, 1, chunk.nodes, chunk.missing)


def committing(
    target: Target, size: int, etag: str, attach: Callable[[Transaction], ChunkId | ChunkRecord | ExtentRef | None]
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
        store.chunks.nodes.refuse_while_halted()
        held = attach(tx)
        assert not isinstance(held, ExtentRef) or held.size == size, "the extent is not the body that was counted"
        extents = (held,) if isinstance(held, ExtentRef) else ()
        packed = held if isinstance(held, ChunkRecord) else None
        chunk = packed.id if packed is not None else held if isinstance(held, str) else None
        draft = Manifest(target.name, 0, size, etag, now, headers.content_type, headers.user, chunk, extents, packed)
        manifest, replaced = put_version(tx, draft, check, moment, due)
        return PutResult(manifest, replaced is None)

    return decide


def make_etag(digests: hashlib._Hash, count: int) -> str:
    """The first half of the SHA-256 over the chunks' digests, and how many there are. The dash keeps S3 tools from
    reading it as an MD5."""
    return f"{digests.hexdigest()[:32]}-{count}"


def check_size(store: Store, size: int) -> None:
    if size > store.limits.object_size_max:
        raise TooLarge(f"the object has more than the {store.limits.object_size_max} bytes that are allowed")
