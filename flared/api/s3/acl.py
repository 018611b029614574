"""ACLs of buckets and objects, to the extent of S3's canned ones: what everybody may, and holders of any access key.

All keys belong to one account, which has full control of everything: grants to it change nothing, and grants to others
than everybody are not here. An ACL that is not a canned one is refused, never approximated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flared.access.bucket_access import AUTHENTICATED_READ, PRIVATE, PUBLIC_READ, PUBLIC_READ_WRITE, Acl, Blocks
from flared.api.face import on_bucket, on_object
from flared.api.s3.answers import send, send_xml
from flared.api.s3.errors import NOT_IMPLEMENTED, S3Error
from flared.api.s3.headers import ACL, acl_of, refuse_unknown
from flared.api.s3.owner import OWNER_ID, OWNER_NAME, owner_element
from flared.api.s3.query import parse_query
from flared.api.s3.versions import parse_version, version_lines
from flared.api.s3.xml import MalformedXml, document, element, group, parse_xml
from flared.catalog.buckets import find_bucket
from flared.objects.acl import set_acl
from flared.objects.buckets import change_access
from flared.objects.get import find_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flared.api.face import Handler
    from flared.api.s3.xml import Element
    from flared.http.messages import Reply, Request
    from flared.names import BucketName, ObjectName
    from flared.objects.store import Store

BODY_BYTES_MAX = 64 * 1024
GROUPS = "http://acs.amazonaws.com/groups/global/"
ALL, AUTHENTICATED = f"{GROUPS}AllUsers", f"{GROUPS}AuthenticatedUsers"
OWNERS = frozenset({"FULL_CONTROL", "READ", "WRITE", "READ_ACP", "WRITE_ACP"})
_XSI = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type'

GRANTS: Mapping[Acl, frozenset[tuple[str, str]]] = {
    PRIVATE: frozenset(),
    PUBLIC_READ: frozenset({(ALL, "READ")}),
    PUBLIC_READ_WRITE: frozenset({(ALL, "READ"), (ALL, "WRITE")}),
    AUTHENTICATED_READ: frozenset({(AUTHENTICATED, "READ")}),
}
"""What each ACL says beside the owner's full control: group and permission."""


def acl_handlers(store: Store) -> dict[str, Handler]:
    calls = AclCalls(store)
    return {
        "GetBucketAcl": on_bucket(calls.get_of_bucket),
        "PutBucketAcl": on_bucket(calls.put_of_bucket),
        "GetObjectAcl": on_object(calls.get_of_object),
        "PutObjectAcl": on_object(calls.put_of_object),
    }


class AclCalls:
    """The calls, over one Store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get_of_bucket(self, request: Request, reply: Reply, bucket: BucketName) -> None:
        await send_xml(reply, format_acl((await find_bucket(self._store.kv, bucket)).access.acl))

    async def put_of_bucket(self, request: Request, reply: Reply, bucket: BucketName) -> None:
        acl = await _read(request)
        await self._refuse_blocked(bucket, acl)
        await change_access(self._store, bucket, acl=acl)
        await send(reply, 200)

    async def get_of_object(self, request: Request, reply: Reply, name: ObjectName) -> None:
        version = parse_version(parse_query(request.query).get("versionId", ""))
        manifest = await find_object(self._store, name, version=version)
        acl = Acl(manifest.details.acl) if manifest.details and manifest.details.acl else PRIVATE
        if acl is PRIVATE and (await find_bucket(self._store.kv, name.bucket)).access.public:
            acl = PUBLIC_READ  # what the bucket says of all of its objects
        await send_xml(reply, format_acl(acl), version_lines(self._store.kv, manifest))

    async def put_of_object(self, request: Request, reply: Reply, name: ObjectName) -> None:
        version = parse_version(parse_query(request.query).get("versionId", ""))
        acl = await _read(request)
        await self._refuse_blocked(name.bucket, acl)
        manifest = await set_acl(self._store, name, acl, version=version)
        await send(reply, 200, version_lines(self._store.kv, manifest))

    async def _refuse_blocked(self, bucket: BucketName, acl: Acl) -> None:
        """Raise S3Error if the bucket's public access block forbids this ACL."""
        if acl is not PRIVATE and (await find_bucket(self._store.kv, bucket)).access.is_blocked(Blocks.PUT_ACLS):
            raise S3Error("AccessDenied", "Access Denied")


async def _read(request: Request) -> Acl:
    """Return the ACL that a request asks for: in a field, or else in its body. Raises S3Error and MalformedXml."""
    body = await request.body.read_all(BODY_BYTES_MAX)
    refuse_unknown(request.fields)
    if ACL in request.fields:
        if body.strip():
            raise S3Error("UnexpectedContent", "This request does not support content: the ACL is in a header.")
        return acl_of(request.fields)
    return parse_acl(body)


def format_acl(acl: Acl) -> bytes:
    owner = f'<Grantee {_XSI}="CanonicalUser">{element("ID", OWNER_ID)}{element("DisplayName", OWNER_NAME)}</Grantee>'
    grants = [group("Grant", (owner, element("Permission", "FULL_CONTROL")))]
    for uri, permission in sorted(GRANTS[acl]):
        grantee = f'<Grantee {_XSI}="Group">{element("URI", uri)}</Grantee>'
        grants.append(group("Grant", (grantee, element("Permission", permission))))
    return document("AccessControlPolicy", [owner_element(), group("AccessControlList", grants)])


def parse_acl(body: bytes) -> Acl:
    """Return the canned ACL that an AccessControlPolicy comes to. Raises S3Error and MalformedXml."""
    root = parse_xml(body, "AccessControlPolicy")
    listed = root.find("AccessControlList")
    owner = root.find("Owner")
    if listed is None or owner is None:
        raise MalformedXml("an AccessControlPolicy has an Owner and an AccessControlList")
    if owner.text_of("ID") != OWNER_ID:
        raise S3Error("AccessDenied", "Access Denied")  # as AWS: an owner cannot be changed
    found = frozenset(filter(None, map(_parse_grant, listed.find_all("Grant"))))
    for acl, grants in GRANTS.items():
        if grants == found:
            return acl
    raise S3Error(
        NOT_IMPLEMENTED,
        "these grants are not one of the canned ACLs private, public-read, public-read-write and authenticated-read; "
        "a bucket policy can say more",
    )


def _parse_grant(grant: Element) -> tuple[str, str] | None:
    """Return group and permission; None for a grant to the owner, who has full control in any case."""
    grantee, permission = grant.find("Grantee"), grant.text_of("Permission")
    if grantee is None or permission not in OWNERS:
        raise MalformedXml("a Grant has a Grantee and a Permission")
    if grantee.find("URI") is not None:
        return grantee.text_of("URI"), permission
    if grantee.text_of("ID") == OWNER_ID:
        return None
    raise S3Error("InvalidArgument", "Invalid id: all access keys belong to one account; name one in a bucket policy")
