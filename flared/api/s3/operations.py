"""Operations: every operation that S3 has, by name, and how a request asks for it. Pure.

``docs/s3.md`` says the same for people; a test compares the two. An operation with an *action* is here, and
``face.py`` binds its handler; one without is refused as ``NotImplemented``, by its name.

To add one: give its row an action, put its handler into a file of this folder and into ``face.py``, and change its row
of docs/s3.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import NamedTuple

from flared.access.authorize import Action
from flared.api.router import Call

FACE = "s3"
COPY_SOURCE = "x-amz-copy-source"


class On(Enum):
    """The place of an operation."""

    SERVICE = "service"
    BUCKET = "bucket"
    OBJECT = "object"
    ELSEWHERE = "elsewhere"
    """Another endpoint of AWS; no request to us means it."""


class Operation(NamedTuple):
    name: str
    method: str
    on: On
    query: Sequence[str] = ()
    """Names that the query has to have; ``name=value`` where the value counts."""
    header: str = ""
    """A field that the head has to have."""
    action: Action | None = None
    """None: the operation is not here."""


_S, _B, _O = On.SERVICE, On.BUCKET, On.OBJECT

OPERATIONS: Sequence[Operation] = (
    # Buckets
    Operation("ListBuckets", "GET", _S, action=Action.LIST_BUCKETS),
    Operation("CreateBucket", "PUT", _B, action=Action.CREATE_BUCKET),
    Operation("HeadBucket", "HEAD", _B, action=Action.SHOW_BUCKET),
    Operation("DeleteBucket", "DELETE", _B, action=Action.REMOVE_BUCKET),
    Operation("GetBucketLocation", "GET", _B, ["location"], action=Action.SHOW_BUCKET),
    # Listings
    Operation("ListObjects", "GET", _B, action=Action.LIST),
    Operation("ListObjectsV2", "GET", _B, ["list-type=2"], action=Action.LIST),
    Operation("ListObjectVersions", "GET", _B, ["versions"], action=Action.LIST),
    # Objects
    Operation("PutObject", "PUT", _O, action=Action.WRITE),
    Operation("GetObject", "GET", _O, action=Action.READ),
    Operation("HeadObject", "HEAD", _O, action=Action.READ),
    Operation("DeleteObject", "DELETE", _O, action=Action.DELETE),
    Operation("DeleteObjects", "POST", _B, ["delete"], action=Action.SHOW_BUCKET),
    Operation("CopyObject", "PUT", _O, header=COPY_SOURCE, action=Action.WRITE),
    Operation("GetObjectAttributes", "GET", _O, ["attributes"], action=Action.READ),
    Operation("PostObject", "POST", _B, action=Action.POST_FORM),
    Operation("RenameObject", "PUT", _O, ["renameObject"]),
    Operation("RestoreObject", "POST", _O, ["restore"]),
    Operation("SelectObjectContent", "POST", _O, ["select"]),
    Operation("GetObjectTorrent", "GET", _O, ["torrent"]),
    Operation("UpdateObjectEncryption", "PUT", _O, ["encryption"]),
    Operation("GetObjectAnnotation", "GET", _O, ["annotation", "annotationName"]),
    Operation("PutObjectAnnotation", "PUT", _O, ["annotation"]),
    Operation("DeleteObjectAnnotation", "DELETE", _O, ["annotation"]),
    Operation("ListObjectAnnotations", "GET", _O, ["annotation"]),
    # Multipart uploads
    Operation("CreateMultipartUpload", "POST", _O, ["uploads"], action=Action.WRITE),
    Operation("UploadPart", "PUT", _O, ["partNumber", "uploadId"], action=Action.WRITE),
    Operation("UploadPartCopy", "PUT", _O, ["partNumber", "uploadId"], COPY_SOURCE, action=Action.WRITE),
    Operation("CompleteMultipartUpload", "POST", _O, ["uploadId"], action=Action.WRITE),
    Operation("AbortMultipartUpload", "DELETE", _O, ["uploadId"], action=Action.WRITE),
    Operation("ListParts", "GET", _O, ["uploadId"], action=Action.LIST),
    Operation("ListMultipartUploads", "GET", _B, ["uploads"], action=Action.LIST),
    # Versions, tags, locks
    Operation("GetBucketVersioning", "GET", _B, ["versioning"], action=Action.SHOW_BUCKET),
    Operation("PutBucketVersioning", "PUT", _B, ["versioning"], action=Action.CONFIGURE_BUCKET),
    Operation("GetObjectTagging", "GET", _O, ["tagging"], action=Action.READ),
    Operation("PutObjectTagging", "PUT", _O, ["tagging"], action=Action.WRITE),
    Operation("DeleteObjectTagging", "DELETE", _O, ["tagging"], action=Action.WRITE),
    Operation("GetObjectRetention", "GET", _O, ["retention"], action=Action.READ),
    Operation("PutObjectRetention", "PUT", _O, ["retention"], action=Action.WRITE),
    Operation("GetObjectLegalHold", "GET", _O, ["legal-hold"], action=Action.READ),
    Operation("PutObjectLegalHold", "PUT", _O, ["legal-hold"], action=Action.WRITE),
    Operation("GetObjectLockConfiguration", "GET", _B, ["object-lock"], action=Action.CONFIGURE_BUCKET),
    Operation("PutObjectLockConfiguration", "PUT", _B, ["object-lock"], action=Action.CONFIGURE_BUCKET),
    # Who may do what
    Operation("GetObjectAcl", "GET", _O, ["acl"], action=Action.READ),
    Operation("PutObjectAcl", "PUT", _O, ["acl"], action=Action.CONFIGURE_BUCKET),
    Operation("GetBucketAcl", "GET", _B, ["acl"], action=Action.SHOW_BUCKET),
    Operation("PutBucketAcl", "PUT", _B, ["acl"], action=Action.CONFIGURE_BUCKET),
    Operation("GetBucketPolicy", "GET", _B, ["policy"], action=Action.CONFIGURE_BUCKET),
    Operation("PutBucketPolicy", "PUT", _B, ["policy"], action=Action.CONFIGURE_BUCKET),
    Operation("DeleteBucketPolicy", "DELETE", _B, ["policy"], action=Action.CONFIGURE_BUCKET),
    Operation("GetBucketPolicyStatus", "GET", _B, ["policyStatus"], action=Action.CONFIGURE_BUCKET),
    Operation("GetPublicAccessBlock", "GET", _B, ["publicAccessBlock"], action=Action.CONFIGURE_BUCKET),
    Operation("PutPublicAccessBlock", "PUT", _B, ["publicAccessBlock"], action=Action.CONFIGURE_BUCKET),
    Operation("DeletePublicAccessBlock", "DELETE", _B, ["publicAccessBlock"], action=Action.CONFIGURE_BUCKET),
    Operation("GetBucketOwnershipControls", "GET", _B, ["ownershipControls"]),
    Operation("PutBucketOwnershipControls", "PUT", _B, ["ownershipControls"]),
    Operation("DeleteBucketOwnershipControls", "DELETE", _B, ["ownershipControls"]),
    Operation("GetBucketCors", "GET", _B, ["cors"], action=Action.CONFIGURE_BUCKET),
    Operation("PutBucketCors", "PUT", _B, ["cors"], action=Action.CONFIGURE_BUCKET),
    Operation("DeleteBucketCors", "DELETE", _B, ["cors"], action=Action.CONFIGURE_BUCKET),
    Operation("GetBucketAbac", "GET", _B, ["abac"]),
    Operation("PutBucketAbac", "PUT", _B, ["abac"]),
    # Other settings of a bucket
    Operation("GetBucketTagging", "GET", _B, ["tagging"], action=Action.CONFIGURE_BUCKET),
    Operation("PutBucketTagging", "PUT", _B, ["tagging"], action=Action.CONFIGURE_BUCKET),
    Operation("DeleteBucketTagging", "DELETE", _B, ["tagging"], action=Action.CONFIGURE_BUCKET),
    Operation("GetBucketLifecycleConfiguration", "GET", _B, ["lifecycle"], action=Action.CONFIGURE_BUCKET),
    Operation("PutBucketLifecycleConfiguration", "PUT", _B, ["lifecycle"], action=Action.CONFIGURE_BUCKET),
    Operation("DeleteBucketLifecycle", "DELETE", _B, ["lifecycle"], action=Action.CONFIGURE_BUCKET),
    Operation("GetBucketEncryption", "GET", _B, ["encryption"], action=Action.SHOW_BUCKET),
    Operation("PutBucketEncryption", "PUT", _B, ["encryption"]),
    Operation("DeleteBucketEncryption", "DELETE", _B, ["encryption"]),
    Operation("GetBucketRequestPayment", "GET", _B, ["requestPayment"], action=Action.SHOW_BUCKET),
    Operation("PutBucketRequestPayment", "PUT", _B, ["requestPayment"]),
    Operation("GetBucketAccelerateConfiguration", "GET", _B, ["accelerate"], action=Action.SHOW_BUCKET),
    Operation("PutBucketAccelerateConfiguration", "PUT", _B, ["accelerate"]),
    Operation("GetBucketLogging", "GET", _B, ["logging"], action=Action.SHOW_BUCKET),
    Operation("PutBucketLogging", "PUT", _B, ["logging"]),
    Operation("GetBucketNotificationConfiguration", "GET", _B, ["notification"], action=Action.SHOW_BUCKET),
    Operation("PutBucketNotificationConfiguration", "PUT", _B, ["notification"]),
    Operation("GetBucketReplication", "GET", _B, ["replication"], action=Action.SHOW_BUCKET),
    Operation("PutBucketReplication", "PUT", _B, ["replication"]),
    Operation("DeleteBucketReplication", "DELETE", _B, ["replication"]),
    Operation("GetBucketWebsite", "GET", _B, ["website"], action=Action.SHOW_BUCKET),
    Operation("PutBucketWebsite", "PUT", _B, ["website"]),
    Operation("DeleteBucketWebsite", "DELETE", _B, ["website"]),
    Operation("GetBucketAnalyticsConfiguration", "GET", _B, ["analytics", "id"]),
    Operation("PutBucketAnalyticsConfiguration", "PUT", _B, ["analytics"]),
    Operation("DeleteBucketAnalyticsConfiguration", "DELETE", _B, ["analytics"]),
    Operation("ListBucketAnalyticsConfigurations", "GET", _B, ["analytics"]),
    Operation("GetBucketIntelligentTieringConfiguration", "GET", _B, ["intelligent-tiering", "id"]),
    Operation("PutBucketIntelligentTieringConfiguration", "PUT", _B, ["intelligent-tiering"]),
    Operation("DeleteBucketIntelligentTieringConfiguration", "DELETE", _B, ["intelligent-tiering"]),
    Operation("ListBucketIntelligentTieringConfigurations", "GET", _B, ["intelligent-tiering"]),
    Operation("GetBucketInventoryConfiguration", "GET", _B, ["inventory", "id"]),
    Operation("PutBucketInventoryConfiguration", "PUT", _B, ["inventory"]),
    Operation("DeleteBucketInventoryConfiguration", "DELETE", _B, ["inventory"]),
    Operation("ListBucketInventoryConfigurations", "GET", _B, ["inventory"]),
    Operation("GetBucketMetricsConfiguration", "GET", _B, ["metrics", "id"]),
    Operation("PutBucketMetricsConfiguration", "PUT", _B, ["metrics"]),
    Operation("DeleteBucketMetricsConfiguration", "DELETE", _B, ["metrics"]),
    Operation("ListBucketMetricsConfigurations", "GET", _B, ["metrics"]),
    Operation("CreateBucketMetadataConfiguration", "POST", _B, ["metadataConfiguration"]),
    Operation("GetBucketMetadataConfiguration", "GET", _B, ["metadataConfiguration"]),
    Operation("DeleteBucketMetadataConfiguration", "DELETE", _B, ["metadataConfiguration"]),
    Operation("CreateBucketMetadataTableConfiguration", "POST", _B, ["metadataTable"]),
    Operation("GetBucketMetadataTableConfiguration", "GET", _B, ["metadataTable"]),
    Operation("DeleteBucketMetadataTableConfiguration", "DELETE", _B, ["metadataTable"]),
    Operation("UpdateBucketMetadataAnnotationTableConfiguration", "PUT", _B, ["metadataAnnotationTable"]),
    Operation("UpdateBucketMetadataInventoryTableConfiguration", "PUT", _B, ["metadataInventoryTable"]),
    Operation("UpdateBucketMetadataJournalTableConfiguration", "PUT", _B, ["metadataJournalTable"]),
    Operation("CreateSession", "GET", _B, ["session"]),
    Operation("ListDirectoryBuckets", "GET", On.ELSEWHERE),
    Operation("WriteGetObjectResponse", "POST", On.ELSEWHERE),
)

ALIASES: Mapping[str, str] = {
    "GetBucketLifecycle": "GetBucketLifecycleConfiguration",
    "PutBucketLifecycle": "PutBucketLifecycleConfiguration",
    "GetBucketNotification": "GetBucketNotificationConfiguration",
    "PutBucketNotification": "PutBucketNotificationConfiguration",
}
"""Older names of the same operations."""

PREFLIGHT = Call(FACE, "Preflight", Action.PREFLIGHT)
"""OPTIONS: the question of a browser, on any path."""

CALLS: Mapping[str, Call] = {
    operation.name: Call(FACE, operation.name, operation.action)
    for operation in OPERATIONS
    if operation.action is not None
} | {PREFLIGHT.name: PREFLIGHT}
"""The operations that are here, by name."""
