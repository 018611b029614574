"""Buckets: create, list, remove."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from flared.access.bucket_access import CLOSED, PRIVATE, Acl, Blocks, BucketAccess
from flared.catalog import buckets as catalog
from flared.catalog.bucket_documents import Kind, set_document
from flared.catalog.buckets import Bucket, Versioning
from flared.catalog.locks import encode_lock, is_locking
from flared.chunks.chunk import CHUNK_SIZE_MAX, CHUNK_SIZE_MIN
from flared.chunks.scheme import parse_scheme
from flared.errors import BadRequest, Conflict, RowCorrupt
from flared.names import DEFAULT_BUCKET, BucketName
from flared.objects.store import Store, now_ms

if TYPE_CHECKING:
    from collections.abc import Callable

    from flared.meta.kv import Transaction

PAGE = 1000
"""Buckets read at once."""


async def create_bucket(
    store: Store,
    name: BucketName,
    *,
    scheme: str | None = None,
    chunk_size: int | None = None,
    compress: bool | None = None,
    owner: str = "",
    acl: Acl = PRIVATE,
    locking: bool = False,
) -> bool:
    """Create a bucket; return False if it exists, with any settings. Missing settings come from the configuration.

    ``locking``: it keeps versions, and lets them be locked.

    ``owner`` is the name of the access key that makes it; empty: the cluster itself.

    Raises BadRequest for a setting that cannot be, and Unavailable if this host lacks the library of the scheme.
    """
    defaults = store.defaults
    wanted = parse_scheme(scheme or defaults.scheme)
    wanted.require()
    bucket = Bucket(
        name,
        now_ms(store),
        wanted.text,
        defaults.chunk_size if chunk_size is None else chunk_size,
        defaults.compress if compress is None else compress,
        BucketAccess(owner, acl=acl) if owner or acl is not PRIVATE else CLOSED,
    )
    if not CHUNK_SIZE_MIN <= bucket.chunk_size <= CHUNK_SIZE_MAX:
        raise BadRequest(f"a chunk size is {CHUNK_SIZE_MIN} to {CHUNK_SIZE_MAX} bytes, not {bucket.chunk_size}")

    def decide(tx: Transaction) -> bool:
        store.chunks.nodes.refuse_while_halted()
        created = catalog.create_bucket(tx, bucket)
        if created and locking:
            catalog.set_versioning(tx, name, Versioning.ENABLED, bucket.created_ms)
            set_document(tx, name, Kind.LOCK, encode_lock(None), bucket.created_ms)
        return created

    return await store.kv.transact(decide)


async def set_versioning(store: Store, name: BucketName, versioning: Versioning) -> None:
    """Enable or suspend the versioning of a bucket. Raises NoSuchBucket, Conflict if objects in it can be locked, and
    BadRequest for OFF: there is no way back, because what was kept is kept."""
    if versioning is Versioning.OFF:
        raise BadRequest("versioning cannot be switched off; suspend it")

    def decide(tx: Transaction) -> None:
        store.chunks.nodes.refuse_while_halted()
        found = catalog.read_bucket(tx, name)
        if found is not None and is_locking(found) and versioning is Versioning.SUSPENDED:
            raise Conflict("versioning cannot be suspended where objects can be locked")
        catalog.set_versioning(tx, name, versioning, now_ms(store))

    await store.kv.transact(decide)


async def ensure_default_bucket(store: Store) -> None:
    """The bucket ``default`` is there from the first start on. If its row is damaged, the others serve nevertheless."""
    with suppress(RowCorrupt):
        await create_bucket(store, DEFAULT_BUCKET)


async def remove_bucket(store: Store, name: BucketName) -> bool:
    """Remove an empty bucket; False if there is none. Raises BucketNotEmpty, or Busy if a put came in between."""
    store.chunks.nodes.refuse_while_halted()
    return await catalog.remove_bucket(store.kv, name, now_ms(store))


async def list_buckets(
    store: Store,
    after: str = "",
    limit: int = 1000,
    *,
    prefix: str = "",
    sees: Callable[[Bucket], bool] | None = None,
) -> list[Bucket]:
    """In the order of their names, those after ``after`` that begin with ``prefix`` and that the caller ``sees``."""
    if sees is None:
        return await catalog.list_buckets(store.kv, after, limit, prefix=prefix)
    found: list[Bucket] = []
    while len(found) < limit:
        page = await catalog.list_buckets(store.kv, after, PAGE, prefix=prefix)
        found += filter(sees, page)
        if len(page) < PAGE:
            break
        after = page[-1].name
    return found[:limit]


async def set_blocks(store: Store, name: BucketName, blocks: Blocks | None) -> None:
    """Give the bucket this public access block, or none. Raises NoSuchBucket."""

    def decide(tx: Transaction) -> None:
        store.chunks.nodes.refuse_while_halted()
        catalog.change_access(tx, name, lambda now: now._replace(blocks=blocks))

    await store.kv.transact(decide)


async def change_access(
    store: Store, name: BucketName, *, public: bool | None = None, acl: Acl | None = None, owner: str | None = None
) -> Bucket:
    """Change what the bucket says about access; None stays as it is. Raises NoSuchBucket."""

    def change(now: BucketAccess) -> BucketAccess:
        return now._replace(
            owner=now.owner if owner is None else owner,
            public=now.public if public is None else public,
            acl=now.acl if acl is None else acl,
        )

    def decide(tx: Transaction) -> Bucket:
        store.chunks.nodes.refuse_while_halted()
        return catalog.change_access(tx, name, change)

    return await store.kv.transact(decide)
