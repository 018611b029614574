"""Documents of a bucket: what is too long for its record and not needed by every request, such as its CORS rules.

    record = "1" the document's bytes

The bucket's record lists the kinds that there are, so that a request seeks no document that is not there. A document
and that list change in one transaction; all documents go with the bucket.
"""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING

from flared.catalog.buckets import encode, find_bucket_nowait, writable_bucket
from flared.catalog.records import FORMAT, corrupt
from flared.errors import TooLarge
from flared.meta import keys

if TYPE_CHECKING:
    from flared.meta.kv import KV, Transaction
    from flared.names import BucketName

DOCUMENT_BYTES_MAX = 64 * 1024


class Kind(StrEnum):
    """The kinds of documents."""

    ACL = "acl"
    CORS = "cors"
    LIFECYCLE = "lifecycle"
    LOCK = "lock"
    POLICY = "policy"
    TAGS = "tags"


def find_document_nowait(kv: KV, bucket: BucketName, kind: Kind) -> bytes | None:
    """Return a document of a bucket, if there is one, in a turn. Raises NoSuchBucket, and ManifestCorrupt."""
    if kind not in find_bucket_nowait(kv, bucket).documents:
        return None
    (entry,) = kv.get_many_nowait([keys.bucket_document(bucket, kind)])
    if entry is None or entry.value[:1] != bytes((FORMAT,)):
        raise corrupt(f"the {kind} document of the bucket {bucket}", ValueError("it is lost, or of a newer format"))
    return entry.value[1:]


def set_document(tx: Transaction, bucket: BucketName, kind: Kind, content: bytes | None, now_ms: int) -> bool:
    """Set a document, or remove it (None); return whether there was one.

    Raises NoSuchBucket, Busy while the bucket is being removed, and TooLarge.
    """
    if content is not None and len(content) > DOCUMENT_BYTES_MAX:
        raise TooLarge(f"the {kind} document has {len(content)} bytes; at most {DOCUMENT_BYTES_MAX} are allowed")
    found = writable_bucket(tx, bucket, now_ms)
    there = set(found.documents)
    was_there = kind in there
    if content is not None:
        there.add(kind)
        tx.put(keys.bucket_document(bucket, kind), b"%c%b" % (FORMAT, content))
    elif was_there:
        there.remove(kind)
        tx.delete(keys.bucket_document(bucket, kind))
    documents = tuple(sorted(there))
    if documents != found.documents:
        tx.put(keys.bucket(bucket), encode(replace(found, documents=documents)))
    return was_there
