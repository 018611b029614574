"""The documents of a bucket, as the faces set and read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flared.catalog.bucket_documents import Kind, find_document_nowait, set_document
from flared.objects.store import Store, now_ms

if TYPE_CHECKING:
    from flared.meta.kv import Transaction
    from flared.names import BucketName


async def put_document(store: Store, bucket: BucketName, kind: Kind, content: bytes | None) -> bool:
    """Set a document of a bucket, or remove it (None); return whether there was one. Durable when it returns.

    Raises NoSuchBucket, Busy while the bucket is being removed, and TooLarge.
    """

    def decide(tx: Transaction) -> bool:
        store.chunks.nodes.refuse_while_halted()
        return set_document(tx, bucket, kind, content, now_ms(store))

    return await store.kv.transact(decide)


def find_document(store: Store, bucket: BucketName, kind: Kind) -> bytes | None:
    """Return a document of a bucket, if there is one. Raises NoSuchBucket, and ManifestCorrupt."""
    return find_document_nowait(store.kv, bucket, kind)
