"""Versions: the state of a bucket, the listing of all versions, and how a version is named in fields and queries.

An id is the version's number in 16 hex digits; ``null`` stands for the one that has none of its own.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from flared.api.face import on_bucket
from flared.api.s3.answers import send, send_xml
from flared.api.s3.errors import S3Error
from flared.api.s3.listing import KEYS_MAX, encoding_of
from flared.api.s3.owner import owner_element
from flared.api.s3.query import parse_count, parse_query
from flared.api.s3.times import format_timestamp
from flared.api.s3.xml import MalformedXml, document, element, group, parse_xml
from flared.catalog.buckets import Versioning, find_bucket, find_bucket_nowait
from flared.catalog.versions import NULL
from flared.errors import Conflict
from flared.objects.buckets import set_versioning
from flared.objects.listing import list_versions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flared.api.face import Handler
    from flared.catalog.manifest import Manifest
    from flared.catalog.version_listing import Listed, VersionListing
    from flared.http.messages import Reply, Request
    from flared.meta.kv import KV
    from flared.names import BucketName
    from flared.objects.store import Store

BODY_BYTES_MAX = 64 * 1024
NULL_ID = "null"

_ID = re.compile(r"[0-9a-f]{16}")
_STATES = {"Enabled": Versioning.ENABLED, "Suspended": Versioning.SUSPENDED}
_NAMES = {state: name for name, state in _STATES.items()}


def version_handlers(store: Store) -> dict[str, Handler]:
    calls = VersionCalls(store)
    return {
        "GetBucketVersioning": on_bucket(calls.get_state),
        "PutBucketVersioning": on_bucket(calls.put_state),
        "ListObjectVersions": on_bucket(calls.list_versions),
    }


class VersionCalls:
    """The calls, over one Store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get_state(self, request: Request, reply: Reply, bucket: BucketName) -> None:
        state = (await find_bucket(self._store.kv, bucket)).versioning
        inside = [element("Status", _NAMES[state])] if state else []
        await send_xml(reply, document("VersioningConfiguration", inside))

    async def put_state(self, request: Request, reply: Reply, bucket: BucketName) -> None:
        root = parse_xml(await request.body.read_all(BODY_BYTES_MAX), "VersioningConfiguration")
        if root.text_of("MfaDelete", "Disabled") != "Disabled":
            raise S3Error("NotImplemented", "MfaDelete is not implemented")
        state = _STATES.get(root.text_of("Status"))
        if state is None:
            raise MalformedXml("the Status of a VersioningConfiguration is Enabled or Suspended")
        try:
            await set_versioning(self._store, bucket, state)
        except Conflict as error:
            raise S3Error(
                "InvalidBucketState",
                "An Object Lock configuration is present on this bucket, so the versioning state cannot be changed.",
            ) from error
        await send(reply, 200)

    async def list_versions(self, request: Request, reply: Reply, bucket: BucketName) -> None:
        query = parse_query(request.query)
        show, limit = encoding_of(query), parse_count(query, "max-keys", KEYS_MAX, KEYS_MAX)
        after, after_version = query.get("key-marker", ""), query.get("version-id-marker", "")
        if after_version and not after:
            raise S3Error("InvalidArgument", "A version-id marker cannot be specified without a key marker.")
        page = await list_versions(
            self._store,
            bucket,
            prefix=query.get("prefix", ""),
            delimiter=query.get("delimiter", ""),
            after=after,
            after_version=parse_version(after_version),
            limit=limit,
        )
        await send_xml(reply, document("ListVersionsResult", _format(bucket, query, limit, page, show)))


def parse_version(text: str) -> int | None:
    """Return the number that an id stands for; None if there is no id. Raises S3Error."""
    if not text:
        return None
    if text == NULL_ID:
        return NULL
    if not _ID.fullmatch(text):
        raise S3Error("InvalidArgument", "Invalid version id specified")
    return int(text, 16)


def show_version(manifest: Manifest) -> str:
    return NULL_ID if manifest.is_null else show_number(manifest.version)


def show_number(version: int) -> str:
    return NULL_ID if version == NULL else f"{version:016x}"


def version_lines(kv: KV, manifest: Manifest) -> bytes:
    """Return the field line that names a version; nothing where the bucket never had versions."""
    if manifest.is_null and not find_bucket_nowait(kv, manifest.name.bucket).versioning:
        return b""
    return f"x-amz-version-id: {show_version(manifest)}\r\n".encode()


def _format(
    bucket: BucketName, query: Mapping[str, str], limit: int, page: VersionListing, show: Callable[[str], str]
) -> list[str]:
    inside = [
        element("Name", bucket),
        element("Prefix", show(query.get("prefix", ""))),
        element("KeyMarker", show(query.get("key-marker", ""))),
        element("VersionIdMarker", query.get("version-id-marker", "")),
        element("MaxKeys", limit),
        element("IsTruncated", page.next is not None),
    ]
    if page.next is not None:
        key, version = page.next
        inside.append(element("NextKeyMarker", show(key)))
        if version is not None:  # as a number, also of the version without an id: it says where the listing goes on
            inside.append(element("NextVersionIdMarker", show_number(version)))
    if query.get("delimiter"):
        inside.append(element("Delimiter", show(query["delimiter"])))
    if "encoding-type" in query:
        inside.append(element("EncodingType", "url"))
    owner = owner_element()
    inside += [_entry(listed, show, owner) for listed in page.versions]
    return inside + [group("CommonPrefixes", (element("Prefix", show(prefix)),)) for prefix in page.prefixes]


def _entry(listed: Listed, show: Callable[[str], str], owner: str) -> str:
    manifest = listed.manifest
    inside = [
        element("Key", show(manifest.name.key)),
        element("VersionId", show_version(manifest)),
        element("IsLatest", listed.newest),
        element("LastModified", format_timestamp(manifest.modified)),
    ]
    if manifest.deletes:
        return group("DeleteMarker", (*inside, owner))
    checksums = manifest.details.checksums if manifest.details is not None else {}
    inside += [
        element("ETag", f'"{manifest.etag}"'),
        *(element("ChecksumAlgorithm", algorithm.upper()) for algorithm in checksums),
        element("Size", manifest.size),
        owner,
        "<StorageClass>STANDARD</StorageClass>",
    ]
    return group("Version", inside)
