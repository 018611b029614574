"""Copies: a new name for the bytes of another object, with its metadata or with new."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flared.access.authorize import Action
from flared.api.callers import authorize_also
from flared.api.face import on_object
from flared.api.s3.answers import send_xml
from flared.api.s3.checksums import checksum_elements, wanted_checksum
from flared.api.s3.errors import S3Error
from flared.api.s3.expiration import newest_lines
from flared.api.s3.headers import object_headers, refuse_unknown, source_conditions, stored_acl, write_conditions
from flared.api.s3.operations import COPY_SOURCE
from flared.api.s3.query import parse_query
from flared.api.s3.tagging import tags_in_fields
from flared.api.s3.times import format_timestamp
from flared.api.s3.versions import parse_version, show_number
from flared.api.s3.xml import document, element
from flared.catalog.buckets import find_bucket
from flared.errors import Forbidden, Unauthenticated
from flared.http.percent import decode
from flared.names import ObjectName, parse_bucket, parse_key
from flared.objects.copy import copy_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flared.api.face import Handler
    from flared.http.messages import Reply, Request
    from flared.objects.store import Store


def copy_handlers(store: Store) -> dict[str, Handler]:
    calls = CopyCalls(store)
    return {"CopyObject": on_object(calls.copy)}


class CopyCalls:
    """The calls, over one Store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def copy(self, request: Request, reply: Reply, target: ObjectName) -> None:
        fields = request.fields
        source, version = parse_copy_source(fields[COPY_SOURCE])
        try:
            authorize_also(request, Action.READ, source, version=version)
        except (Forbidden, Unauthenticated):
            await find_bucket(self._store.kv, source.bucket)  # that there is none is told to everyone
            raise
        refuse_unknown(fields)
        replaces = parse_directive(fields, "x-amz-metadata-directive", "metadata")
        tags = None
        if parse_directive(fields, "x-amz-tagging-directive", "tagging"):
            tags = tags_in_fields(fields) or {}
        if source == target and version is None and not replaces:
            raise S3Error(
                "InvalidRequest",
                "This copy request is illegal because it is trying to copy an object to itself without changing the "
                "object's metadata, storage class, website redirect location or encryption attributes.",
            )
        result = await copy_object(
            self._store,
            source,
            target,
            headers=object_headers(fields) if replaces else None,
            tags=tags,
            acl=stored_acl(fields),
            source_version=version,
            when=write_conditions(fields),
            only=source_conditions(fields),
            checksum=wanted_checksum(fields),
        )
        manifest = result.manifest
        inside = [
            element("LastModified", format_timestamp(manifest.modified)),
            element("ETag", f'"{manifest.etag}"'),
            *checksum_elements(manifest),
        ]
        lines = newest_lines(self._store.kv, manifest)
        if version is not None:
            lines += f"x-amz-copy-source-version-id: {show_number(version)}\r\n".encode()
        await send_xml(reply, document("CopyObjectResult", inside), lines)


def parse_copy_source(value: str) -> tuple[ObjectName, int | None]:
    """Return the source in ``[/]BUCKET/KEY[?versionId=ID]``, percent-encoded, and the version.

    Raises S3Error, BadRequest, BadName.
    """
    path, mark, query = value.partition("?versionId=")
    version = parse_version(parse_query(f"versionId={query}")["versionId"]) if mark else None
    bucket, slash, key = decode(path).removeprefix("/").partition("/")
    if not bucket or not slash or not key:
        raise S3Error("InvalidArgument", "Copy Source must mention the source bucket and key: sourcebucket/sourcekey")
    return ObjectName(parse_bucket(bucket), parse_key(key)), version


def parse_directive(fields: Mapping[str, str], name: str, what: str) -> bool:
    """Return whether the request replaces this of the source. Raises S3Error."""
    value = fields.get(name, "COPY")
    if value not in ("COPY", "REPLACE"):
        raise S3Error("InvalidArgument", f"Unknown {what} directive.")
    return value == "REPLACE"
