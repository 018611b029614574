"""What the metadata says about access to buckets and objects, for ``access.authorize``. No look-up waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flared.access.bucket_access import CLOSED, PRIVATE, Acl, BucketAccess
from flared.access.facts import NO_OBJECT, ObjectAccess
from flared.access.policy import BucketPolicy, MalformedPolicy, read_policy
from flared.catalog.bucket_documents import Kind, find_document_nowait
from flared.catalog.buckets import decode
from flared.catalog.objects import find_current
from flared.catalog.records import corrupt
from flared.meta import keys

if TYPE_CHECKING:
    from flared.meta.kv import KV
    from flared.names import BucketName, ObjectName

PLAIN = ObjectAccess()
"""Of an object that says nothing."""


def find_access(kv: KV, name: BucketName) -> BucketAccess:
    """Return what the bucket says about access now; ``CLOSED`` if there is none.

    Raises RowCorrupt and ManifestCorrupt: a policy that cannot be read might deny this.
    """
    (entry,) = kv.get_many_nowait([keys.bucket(name)])
    if entry is None:
        return CLOSED
    bucket = decode(name, entry.value)
    if Kind.POLICY not in bucket.documents:
        return bucket.access
    return bucket.access._replace(policy=find_policy(kv, name))


def find_policy(kv: KV, name: BucketName) -> BucketPolicy | None:
    """Return the policy of a bucket, if it has one. Raises NoSuchBucket, and ManifestCorrupt."""
    document = find_document_nowait(kv, name, Kind.POLICY)
    try:
        return None if document is None else read_policy(document, name)
    except MalformedPolicy as error:  # a newer Flare may understand more than this one
        raise corrupt(f"the policy of the bucket {name}", error) from None


def find_object_access(kv: KV, name: ObjectName) -> ObjectAccess:
    """Return what the newest version of an object says about access; ``NO_OBJECT`` if there is none."""
    manifest = find_current(kv, name)
    if manifest is None:
        return NO_OBJECT
    if manifest.details is None:
        return PLAIN
    details = manifest.details
    return ObjectAccess(Acl(details.acl) if details.acl else PRIVATE, details.tags)
