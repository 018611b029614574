"""Listings: the objects of a bucket, in both versions of the call that S3 has."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import quote

from flared.api.face import on_bucket
from flared.api.s3.answers import send_xml
from flared.api.s3.errors import S3Error
from flared.api.s3.owner import owner_element
from flared.api.s3.query import parse_count, parse_query
from flared.api.s3.times import format_timestamp
from flared.api.s3.xml import document, element, group
from flared.objects.listing import list_objects

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flared.api.face import Handler
    from flared.catalog.manifest import Manifest
    from flared.catalog.objects import Listing
    from flared.http.messages import Reply, Request
    from flared.names import BucketName
    from flared.objects.store import Store

KEYS_MAX = 1000

Show = Callable[[str], str]
"""Encodes a name as the client asked."""


def listing_handlers(store: Store) -> dict[str, Handler]:
    calls = ListingCalls(store)
    return {"ListObjects": on_bucket(calls.list_objects), "ListObjectsV2": on_bucket(calls.list_objects_v2)}


class ListingCalls:
    """The calls, over one Store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def list_objects(self, request: Request, reply: Reply, bucket: BucketName) -> None:
        query = parse_query(request.query)
        show, limit = encoding_of(query), parse_count(query, "max-keys", KEYS_MAX, KEYS_MAX)
        page = await self._page(bucket, query, query.get("marker", ""), limit)
        inside = _head(bucket, query, limit, page, show)
        inside.append(element("Marker", show(query.get("marker", ""))))
        if page.next is not None and query.get("delimiter"):
            inside.append(element("NextMarker", show(page.next)))
        inside += _contents(page, show, with_owner=True)
        await send_xml(reply, document("ListBucketResult", inside))

    async def list_objects_v2(self, request: Request, reply: Reply, bucket: BucketName) -> None:
        query = parse_query(request.query)
        show, limit = encoding_of(query), parse_count(query, "max-keys", KEYS_MAX, KEYS_MAX)
        token = query.get("continuation-token")
        after = query.get("start-after", "") if not token else parse_token(token)
        page = await self._page(bucket, query, after, limit)
        inside = _head(bucket, query, limit, page, show)
        inside.append(element("KeyCount", len(page.objects) + len(page.prefixes)))
        if token is not None:
            inside.append(element("ContinuationToken", token))
        if page.next is not None:
            inside.append(element("NextContinuationToken", make_token(page.next)))
        if "start-after" in query:
            inside.append(element("StartAfter", show(query["start-after"])))
        inside += _contents(page, show, with_owner=query.get("fetch-owner") == "true")
        await send_xml(reply, document("ListBucketResult", inside))

    async def _page(self, bucket: BucketName, query: Mapping[str, str], after: str, limit: int) -> Listing:
        return await list_objects(
            self._store,
            bucket,
            prefix=query.get("prefix", ""),
            delimiter=query.get("delimiter", ""),
            after=after,
            limit=limit,
        )


def encoding_of(query: Mapping[str, str]) -> Show:
    """Return how names are to be written. Raises S3Error."""
    wanted = query.get("encoding-type")
    if wanted is None:
        return str
    if wanted != "url":
        raise S3Error("InvalidArgument", "Invalid Encoding Method specified in Request")
    return encode_name


def encode_name(name: str) -> str:
    return quote(name, safe="/-_.~*")


def make_token(after: str) -> str:
    """Return the token that continues a listing after this name. It is for us alone."""
    return urlsafe_b64encode(after.encode()).decode()


def parse_token(token: str) -> str:
    """Return what ``make_token`` was given. Raises S3Error."""
    try:
        return urlsafe_b64decode(token.encode("ascii")).decode()
    except ValueError:
        raise S3Error("InvalidArgument", "The continuation token provided is incorrect") from None


def _head(bucket: BucketName, query: Mapping[str, str], limit: int, page: Listing, show: Show) -> list[str]:
    inside = [
        element("Name", bucket),
        element("Prefix", show(query.get("prefix", ""))),
        element("MaxKeys", limit),
        element("IsTruncated", page.next is not None),
    ]
    if query.get("delimiter"):
        inside.append(element("Delimiter", show(query["delimiter"])))
    if "encoding-type" in query:
        inside.append(element("EncodingType", "url"))
    return inside


def _contents(page: Listing, show: Show, *, with_owner: bool) -> list[str]:
    owner = owner_element() if with_owner else ""
    inside = [_entry(found, show, owner) for found in page.objects]
    return inside + [group("CommonPrefixes", (element("Prefix", show(prefix)),)) for prefix in page.prefixes]


def _entry(found: Manifest, show: Show, owner: str) -> str:
    checksums = found.details.checksums if found.details is not None else {}
    inside = [
        element("Key", show(found.name.key)),
        element("LastModified", format_timestamp(found.modified)),
        element("ETag", f'"{found.etag}"'),
        *(element("ChecksumAlgorithm", algorithm.upper()) for algorithm in checksums),
        element("Size", found.size),
        owner,
        "<StorageClass>STANDARD</StorageClass>",
    ]
    return group("Contents", inside)
