"""Buckets: list, create, head, delete, and where they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flared.api.callers import identity_of, sees_bucket
from flared.api.face import on_bucket, on_nothing
from flared.api.s3.answers import send, send_xml
from flared.api.s3.errors import S3Error
from flared.api.s3.headers import acl_of, refuse_unknown
from flared.api.s3.operations import CALLS
from flared.api.s3.owner import owner_element
from flared.api.s3.query import parse_count, parse_query
from flared.api.s3.settings import REGION_DEFAULT
from flared.api.s3.times import format_timestamp
from flared.api.s3.xml import document, element, escape, group, parse_xml
from flared.catalog.buckets import find_bucket, find_bucket_nowait
from flared.errors import NoSuchBucket
from flared.names import ObjectName
from flared.objects.buckets import create_bucket, list_buckets, remove_bucket

if TYPE_CHECKING:
    from flared.access.authorize import Resource
    from flared.access.bucket_access import Acl
    from flared.api.face import Handler
    from flared.api.router import Call
    from flared.api.s3.settings import S3Settings
    from flared.errors import FlareError
    from flared.http.messages import Reply, Request
    from flared.names import BucketName
    from flared.objects.store import Store

BUCKETS_MAX = 10_000
CONFIGURATION_BYTES_MAX = 64 * 1024


def bucket_handlers(store: Store, settings: S3Settings) -> dict[str, Handler]:
    calls = BucketCalls(store, settings)
    return {
        "ListBuckets": on_nothing(calls.list_buckets),
        "CreateBucket": on_bucket(calls.create),
        "HeadBucket": on_bucket(calls.head),
        "DeleteBucket": on_bucket(calls.delete),
        "GetBucketLocation": on_bucket(calls.location),
    }


class MissingBuckets:
    """Says to everyone that a bucket does not exist, as AWS does: S3's clients take its name for public."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def find(self, call: Call, resource: Resource) -> FlareError | None:
        """A ``face.Missing``."""
        if resource is None or call is CALLS["CreateBucket"]:
            return None
        try:
            find_bucket_nowait(self._store.kv, resource.bucket if isinstance(resource, ObjectName) else resource)
        except NoSuchBucket as error:
            return error
        return None


class BucketCalls:
    """The calls, over one Store."""

    def __init__(self, store: Store, settings: S3Settings) -> None:
        self._store = store
        self._settings = settings

    async def list_buckets(self, request: Request, reply: Reply) -> None:
        query = parse_query(request.query)
        limit = parse_count(query, "max-buckets", BUCKETS_MAX, BUCKETS_MAX)
        prefix, after = query.get("prefix", ""), query.get("continuation-token", "")
        if not limit:
            raise S3Error("InvalidArgument", "Argument max-buckets must be an integer between 1 and 10000")
        found = await list_buckets(self._store, after, limit + 1, prefix=prefix, sees=sees_bucket(request))
        token = found[limit - 1].name if len(found) > limit else ""
        inside = [
            owner_element(),
            group(
                "Buckets",
                (
                    group(
                        "Bucket",
                        (
                            element("Name", bucket.name),
                            element("CreationDate", format_timestamp(bucket.created_ms / 1000)),
                            element("BucketRegion", self._settings.region),
                        ),
                    )
                    for bucket in found[:limit]
                ),
            ),
        ]
        if token:
            inside.append(element("ContinuationToken", token))
        if prefix:
            inside.append(element("Prefix", prefix))
        await send_xml(reply, document("ListAllMyBucketsResult", inside))

    async def create(self, request: Request, reply: Reply, bucket: BucketName) -> None:
        self._check_location(await request.body.read_all(CONFIGURATION_BYTES_MAX))
        if ".-" in bucket or "-." in bucket:
            raise S3Error("InvalidBucketName", "The specified bucket is not valid.")  # no part of a host name
        refuse_unknown(request.fields)
        owner = identity_of(request).name
        locking = request.fields.get("x-amz-bucket-object-lock-enabled", "").lower() == "true"
        acl = acl_of(request.fields)
        if not await create_bucket(self._store, bucket, owner=owner, acl=acl, locking=locking):
            await self._check_own(bucket, owner, acl)
        await send(reply, 200, f"location: /{bucket}\r\n".encode())

    async def head(self, request: Request, reply: Reply, bucket: BucketName) -> None:
        await find_bucket(self._store.kv, bucket)
        await send(reply, 200, f"x-amz-bucket-region: {self._settings.region}\r\n".encode())

    async def delete(self, request: Request, reply: Reply, bucket: BucketName) -> None:
        if not await remove_bucket(self._store, bucket):
            raise NoSuchBucket(f"there is no bucket {bucket}")
        await send(reply, 204)

    async def location(self, request: Request, reply: Reply, bucket: BucketName) -> None:
        await find_bucket(self._store.kv, bucket)
        region = self._settings.region
        # The one region that AWS gives no name here.
        await send_xml(reply, document("LocationConstraint", [] if region == REGION_DEFAULT else [escape(region)]))

    async def _check_own(self, bucket: BucketName, owner: str, acl: Acl) -> None:
        """Raise unless a caller that creates a bucket that exists, with this ACL, may hear that all is well."""
        access = (await find_bucket(self._store.kv, bucket)).access
        if access.owner != owner or access.acl is not acl:
            raise S3Error(
                "BucketAlreadyExists",
                "The requested bucket name is not available. The bucket namespace is shared by all users of the "
                "system. Please select a different name and try again.",
            )
        # In us-east-1 alone, AWS answers 200 to an owner who creates the bucket again.
        if self._settings.region != REGION_DEFAULT:
            raise S3Error(
                "BucketAlreadyOwnedByYou",
                "Your previous request to create the named bucket succeeded and you already own it.",
            )

    def _check_location(self, body: bytes) -> None:
        """Raise unless the configuration of a new bucket, if there is one, names our region."""
        if not body.strip():
            return
        wanted = parse_xml(body, "CreateBucketConfiguration").text_of("LocationConstraint")
        if wanted and wanted != self._settings.region:
            raise S3Error("InvalidLocationConstraint", "The specified location-constraint is not valid")
