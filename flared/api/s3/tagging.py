"""Tags of objects and buckets, in XML and in the field ``x-amz-tagging``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from flared.api.face import on_bucket, on_object
from flared.api.s3.answers import send, send_xml
from flared.api.s3.errors import S3Error
from flared.api.s3.query import parse_query
from flared.api.s3.versions import parse_version, version_lines
from flared.api.s3.xml import MalformedXml, document, element, group, parse_xml
from flared.catalog.bucket_documents import Kind
from flared.catalog.buckets import find_bucket
from flared.errors import BadRequest
from flared.http.percent import decode
from flared.objects.bucket_documents import find_document, put_document
from flared.objects.get import find_object
from flared.objects.tags import BUCKET_TAGS_MAX, OBJECT_TAGS_MAX, check_tags, set_tags, tags_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flared.api.face import Handler
    from flared.catalog.manifest import Manifest
    from flared.http.messages import Reply, Request
    from flared.names import BucketName, ObjectName
    from flared.objects.store import Store

TAGGING = "x-amz-tagging"
BODY_BYTES_MAX = 128 * 1024
"""Fifty tags whose every character is a reference."""


def tagging_handlers(store: Store) -> dict[str, Handler]:
    calls = TaggingCalls(store)
    return {
        "GetObjectTagging": on_object(calls.get_of_object),
        "PutObjectTagging": on_object(calls.put_of_object),
        "DeleteObjectTagging": on_object(calls.delete_of_object),
        "GetBucketTagging": on_bucket(calls.get_of_bucket),
        "PutBucketTagging": on_bucket(calls.put_of_bucket),
        "DeleteBucketTagging": on_bucket(calls.delete_of_bucket),
    }


class TaggingCalls:
    """The calls, over one Store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get_of_object(self, request: Request, reply: Reply, name: ObjectName) -> None:
        version = parse_version(parse_query(request.query).get("versionId", ""))
        manifest = await find_object(self._store, name, version=version)
        await send_xml(reply, _format(tags_of(manifest)), version_lines(self._store.kv, manifest))

    async def put_of_object(self, request: Request, reply: Reply, name: ObjectName) -> None:
        tags = parse_tagging(await request.body.read_all(BODY_BYTES_MAX))
        await self._set(request, reply, name, tags, 200)

    async def delete_of_object(self, request: Request, reply: Reply, name: ObjectName) -> None:
        await self._set(request, reply, name, {}, 204)

    async def get_of_bucket(self, request: Request, reply: Reply, bucket: BucketName) -> None:
        await find_bucket(self._store.kv, bucket)
        found = find_document(self._store, bucket, Kind.TAGS)
        if found is None:
            raise S3Error("NoSuchTagSet", "The TagSet does not exist")
        await send_xml(reply, _format(json.loads(found)))

    async def put_of_bucket(self, request: Request, reply: Reply, bucket: BucketName) -> None:
        tags = parse_tagging(await request.body.read_all(BODY_BYTES_MAX), BUCKET_TAGS_MAX)
        await put_document(self._store, bucket, Kind.TAGS, json.dumps(tags).encode())
        await send(reply, 204)

    async def delete_of_bucket(self, request: Request, reply: Reply, bucket: BucketName) -> None:
        await put_document(self._store, bucket, Kind.TAGS, None)
        await send(reply, 204)

    async def _set(self, request: Request, reply: Reply, name: ObjectName, tags: dict[str, str], status: int) -> None:
        version = parse_version(parse_query(request.query).get("versionId", ""))
        manifest = await set_tags(self._store, name, tags, version=version)
        await send(reply, status, version_lines(self._store.kv, manifest))


def tags_in_fields(fields: Mapping[str, str]) -> dict[str, str] | None:
    """Return the tags that a put or a copy brings in its head; None without the field. Raises S3Error and BadTag."""
    value = fields.get(TAGGING)
    if value is None:
        return None
    pairs = []
    for part in filter(None, value.split("&")):
        key, _, text = part.replace("+", "%20").partition("=")
        try:
            pairs.append((decode(key), decode(text)))
        except BadRequest:
            raise S3Error("InvalidArgument", f"The header '{TAGGING}' shall be encoded as a query") from None
    return check_tags(pairs)


def tag_count_lines(manifest: Manifest) -> bytes:
    """Return the field line of a get that says how many tags there are; none if there are none."""
    count = len(tags_of(manifest))
    return b"x-amz-tagging-count: %d\r\n" % count if count else b""


def parse_tagging(body: bytes, most: int = OBJECT_TAGS_MAX) -> dict[str, str]:
    """Return the tags of a Tagging. Raises MalformedXml and BadTag."""
    chosen = parse_xml(body, "Tagging").find("TagSet")
    if chosen is None or any(tag.name != "Tag" or tag.find("Key") is None for tag in chosen.children):
        raise MalformedXml("a Tagging holds a TagSet, and this Tag, each with a Key and a Value")
    return check_tags([(tag.text_of("Key"), tag.text_of("Value")) for tag in chosen.children], most)


def _format(tags: Mapping[str, str]) -> bytes:
    inside = [group("Tag", (element("Key", key), element("Value", value))) for key, value in tags.items()]
    return document("Tagging", [group("TagSet", inside)])
