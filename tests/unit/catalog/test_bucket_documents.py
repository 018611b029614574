"""Documents of buckets: set, read, removed, and gone with the bucket."""

from __future__ import annotations

import pytest

from flared.catalog.bucket_documents import DOCUMENT_BYTES_MAX, Kind, find_document_nowait, set_document
from flared.catalog.buckets import Bucket, create_bucket, find_bucket, remove_bucket
from flared.errors import ManifestCorrupt, NoSuchBucket, TooLarge
from flared.meta import keys
from flared.meta.memory import MemoryKV
from flared.names import BucketName

BOX = BucketName("box")


async def new_bucket() -> MemoryKV:
    kv = MemoryKV()
    await kv.transact(lambda tx: create_bucket(tx, Bucket(BOX, 5, "replica:1", 65536, True)))
    return kv


async def put(kv: MemoryKV, kind: Kind, content: bytes | None) -> bool:
    return await kv.transact(lambda tx: set_document(tx, BOX, kind, content, 10))


async def test_documents_are_set_and_removed() -> None:
    kv = await new_bucket()
    assert find_document_nowait(kv, BOX, Kind.CORS) is None
    assert not await put(kv, Kind.CORS, b"one")
    assert not await put(kv, Kind.ACL, b"")
    assert await put(kv, Kind.CORS, b"two")
    assert find_document_nowait(kv, BOX, Kind.CORS) == b"two"
    assert find_document_nowait(kv, BOX, Kind.ACL) == b""
    assert (await find_bucket(kv, BOX)).documents == ("acl", "cors")
    assert await put(kv, Kind.CORS, None)
    assert not await put(kv, Kind.CORS, None)
    assert find_document_nowait(kv, BOX, Kind.CORS) is None
    assert (await find_bucket(kv, BOX)).documents == ("acl",)


async def test_documents_go_with_the_bucket() -> None:
    kv = await new_bucket()
    for kind in Kind:
        await put(kv, kind, kind.encode())
    assert await remove_bucket(kv, BOX, 10)
    assert await kv.scan(b"bucket", b"c", 100) == []
    with pytest.raises(NoSuchBucket):
        await put(kv, Kind.CORS, b"one")
    with pytest.raises(NoSuchBucket):
        find_document_nowait(kv, BOX, Kind.CORS)


async def test_a_document_is_bounded() -> None:
    kv = await new_bucket()
    await put(kv, Kind.CORS, bytes(DOCUMENT_BYTES_MAX))
    with pytest.raises(TooLarge):
        await put(kv, Kind.CORS, bytes(DOCUMENT_BYTES_MAX + 1))


async def test_a_document_that_is_lost_is_not_called_absent() -> None:
    """A policy that vanished must not open a bucket."""
    kv = await new_bucket()
    await put(kv, Kind.POLICY, b"deny")
    await kv.transact(lambda tx: tx.delete(keys.bucket_document(BOX, Kind.POLICY)))
    with pytest.raises(ManifestCorrupt):
        find_document_nowait(kv, BOX, Kind.POLICY)
