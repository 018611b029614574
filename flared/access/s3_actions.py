"""The names that bucket policies have for what callers do. Pure.

Calls of the S3 face are named after operations of S3; most operations have an action of the same name, and ``_BY_CALL``
has the others. Calls of other faces have the action of their kind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flared.access.globs import matches

if TYPE_CHECKING:
    from collections.abc import Mapping

_BY_CALL: Mapping[str, str] = {
    "HeadObject": "GetObject",
    "CopyObject": "PutObject",
    "PostObject": "PutObject",
    "DeleteObjects": "DeleteObject",
    "CreateMultipartUpload": "PutObject",
    "UploadPart": "PutObject",
    "UploadPartCopy": "PutObject",
    "CompleteMultipartUpload": "PutObject",
    "ListParts": "ListMultipartUploadParts",
    "ListMultipartUploads": "ListBucketMultipartUploads",
    "HeadBucket": "ListBucket",
    "ListObjects": "ListBucket",
    "ListObjectsV2": "ListBucket",
    "ListObjectVersions": "ListBucketVersions",
    "GetBucketCors": "GetBucketCORS",
    "PutBucketCors": "PutBucketCORS",
    "DeleteBucketCors": "PutBucketCORS",
    "DeleteBucketTagging": "PutBucketTagging",
    "GetBucketEncryption": "GetEncryptionConfiguration",
    "PutBucketEncryption": "PutEncryptionConfiguration",
    "DeleteBucketEncryption": "PutEncryptionConfiguration",
    "GetBucketLifecycleConfiguration": "GetLifecycleConfiguration",
    "PutBucketLifecycleConfiguration": "PutLifecycleConfiguration",
    "DeleteBucketLifecycle": "PutLifecycleConfiguration",
    "GetObjectLockConfiguration": "GetBucketObjectLockConfiguration",
    "PutObjectLockConfiguration": "PutBucketObjectLockConfiguration",
    "GetPublicAccessBlock": "GetBucketPublicAccessBlock",
    "PutPublicAccessBlock": "PutBucketPublicAccessBlock",
    "DeletePublicAccessBlock": "PutBucketPublicAccessBlock",
    "DeleteBucketOwnershipControls": "PutBucketOwnershipControls",
}

_OF_VERSIONS: Mapping[str, str] = {
    "GetObject": "GetObjectVersion",
    "GetObjectAttributes": "GetObjectVersionAttributes",
    "DeleteObject": "DeleteObjectVersion",
    "GetObjectAcl": "GetObjectVersionAcl",
    "PutObjectAcl": "PutObjectVersionAcl",
    "GetObjectTagging": "GetObjectVersionTagging",
    "PutObjectTagging": "PutObjectVersionTagging",
    "DeleteObjectTagging": "DeleteObjectVersionTagging",
}
"""What an action is if the request names a version."""

_BY_ACTION: Mapping[str, str] = {
    "object:read": "GetObject",
    "object:write": "PutObject",
    "object:delete": "DeleteObject",
    "object:list": "ListBucket",
    "bucket:show": "GetBucketLocation",
    "bucket:configure": "PutBucketAcl",
    "bucket:remove": "DeleteBucket",
}
"""By ``authorize.Action``, which is above this."""

_SAME_NAME = (
    "GetObject", "PutObject", "DeleteObject", "AbortMultipartUpload", "GetObjectAttributes", "DeleteBucket",
    "GetBucketLocation", "GetBucketVersioning", "PutBucketVersioning", "GetObjectTagging", "PutObjectTagging",
    "DeleteObjectTagging", "GetObjectRetention", "PutObjectRetention", "GetObjectLegalHold", "PutObjectLegalHold",
    "GetObjectAcl", "PutObjectAcl", "GetBucketAcl", "PutBucketAcl", "GetBucketPolicy", "PutBucketPolicy",
    "DeleteBucketPolicy", "GetBucketPolicyStatus", "GetBucketTagging", "PutBucketTagging",
    "GetBucketOwnershipControls", "PutBucketOwnershipControls", "GetBucketRequestPayment", "PutBucketRequestPayment",
    "GetBucketLogging", "PutBucketLogging", "GetBucketNotification", "PutBucketNotification", "GetBucketWebsite",
    "PutBucketWebsite", "DeleteBucketWebsite", "BypassGovernanceRetention", "RestoreObject",
)  # fmt: skip

KNOWN = frozenset({*_SAME_NAME, *_BY_CALL.values(), *_OF_VERSIONS.values(), *_BY_ACTION.values()})
"""Actions on a bucket or on objects, without their ``s3:``. A policy that means none of them means nothing here."""

OF_POLICY = frozenset({"GetBucketPolicy", "PutBucketPolicy", "DeleteBucketPolicy"})
"""Those that no policy can take from the owner of a bucket, who else could not put it right."""


def action_of(call: str, action: str, *, versioned: bool) -> str:
    """Return the action, without its ``s3:``, of a call with this name and kind; ``versioned``: it names a version."""
    name = _BY_CALL.get(call) or (call if call in KNOWN else _BY_ACTION.get(action, ""))
    return _OF_VERSIONS.get(name, name) if versioned else name


def known_actions(pattern: str) -> frozenset[str]:
    """Return the actions that a pattern such as ``s3:Get*`` means, without their ``s3:``; in any letter case."""
    wanted = pattern.lower()
    return frozenset(name for name in KNOWN if matches(wanted, f"s3:{name.lower()}"))
