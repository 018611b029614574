"""Bucket policies: put, get, delete, and whether one makes its bucket public."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flared.access.bucket_access import PRIVATE, Blocks
from flared.access.policy import POLICY_BYTES_MAX, MalformedPolicy, parse_policy
from flared.api.face import on_bucket
from flared.api.s3.answers import send, send_xml
from flared.api.s3.errors import S3Error
from flared.api.s3.xml import document, element
from flared.catalog.access import find_policy
from flared.catalog.access_keys import read_keys
from flared.catalog.bucket_documents import Kind
from flared.catalog.buckets import find_bucket
from flared.errors import NoSuchKey, TooLarge
from flared.objects.bucket_documents import find_document, put_document

if TYPE_CHECKING:
    from flared.access.policy import BucketPolicy
    from flared.api.face import Handler
    from flared.http.messages import Reply, Request
    from flared.meta.kv import Snapshot
    from flared.names import BucketName
    from flared.objects.store import Store

JSON = b"content-type: application/json\r\n"


def policy_handlers(store: Store) -> dict[str, Handler]:
    calls = PolicyCalls(store)
    return {
        "GetBucketPolicy": on_bucket(calls.get),
        "PutBucketPolicy": on_bucket(calls.put),
        "DeleteBucketPolicy": on_bucket(calls.delete),
        "GetBucketPolicyStatus": on_bucket(calls.status),
    }


class PolicyCalls:
    """The calls, over one Store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(self, request: Request, reply: Reply, bucket: BucketName) -> None:
        found = find_document(self._store, bucket, Kind.POLICY)
        if found is None:
            raise _no_policy()
        await send(reply, 200, JSON, found)

    async def put(self, request: Request, reply: Reply, bucket: BucketName) -> None:
        access = (await find_bucket(self._store.kv, bucket)).access
        try:
            body = await request.body.read_all(POLICY_BYTES_MAX)
            policy = parse_policy(body, bucket)
        except TooLarge:
            raise S3Error("PolicyTooLarge", f"a policy has at most {POLICY_BYTES_MAX} bytes") from None
        except MalformedPolicy as error:
            raise S3Error("MalformedPolicy", str(error)) from None
        if policy.is_public and access.is_blocked(Blocks.PUT_POLICY):
            raise S3Error("AccessDenied", "Access Denied")
        await self._check_names(policy)
        await put_document(self._store, bucket, Kind.POLICY, body)
        await send(reply, 204)

    async def delete(self, request: Request, reply: Reply, bucket: BucketName) -> None:
        await put_document(self._store, bucket, Kind.POLICY, None)
        await send(reply, 204)

    async def status(self, request: Request, reply: Reply, bucket: BucketName) -> None:
        """Answer whether anything is open to everybody, by the policy or else by the bucket itself."""
        access = (await find_bucket(self._store.kv, bucket)).access
        policy = find_policy(self._store.kv, bucket)
        public = access.public or access.acl is not PRIVATE or (policy is not None and policy.is_public)
        await send_xml(reply, document("PolicyStatus", [element("IsPublic", public)]))

    async def _check_names(self, policy: BucketPolicy) -> None:
        """Raise S3Error for an access key that does not exist: a slip of the pen would wait for one of that name."""

        def find_missing(look: Snapshot) -> str:
            for name in sorted(policy.names):
                try:
                    read_keys(look, name)
                except NoSuchKey:
                    return name
            return ""

        if missing := await self._store.kv.view(find_missing):
            raise S3Error("MalformedPolicy", f"Invalid principal in policy: there is no access key named {missing}")


def _no_policy() -> S3Error:
    return S3Error("NoSuchBucketPolicy", "The bucket policy does not exist")
