"""Objects: put, get, head and delete, each with all its cases. Each parses, calls one verb, answers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from flared.access.identity import BY_ANONYMOUS
from flared.api.callers import Caller
from flared.api.face import on_object
from flared.api.fields import range_request, read_conditions
from flared.api.s3.answers import reply_lines, send
from flared.api.s3.checksums import checksum_lines, explain_digest, take_digests
from flared.api.s3.errors import S3Error
from flared.api.s3.expiration import newest_lines
from flared.api.s3.headers import (
    object_headers,
    object_lines,
    refuse_unknown,
    response_overrides,
    write_conditions,
)
from flared.api.s3.locking import lock_in_fields, lock_lines, may_bypass
from flared.api.s3.query import parse_query
from flared.api.s3.tagging import tag_count_lines, tags_in_fields
from flared.api.s3.versions import parse_version, show_number, show_version, version_lines
from flared.api.sending import send_reading
from flared.catalog.details import EMPTY, Details
from flared.catalog.uploads import PART_NUMBER_MAX
from flared.errors import BadDigest, NotModified
from flared.objects.conditions import ALWAYS, ReadConditions, check_read
from flared.objects.delete import delete_object, delete_version
from flared.objects.get import find_object, open_object
from flared.objects.parts import locate_part, part_count
from flared.objects.put import put_object
from flared.objects.ranges import PartRequest, RangeRequest, resolve

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flared.api.face import Handler
    from flared.catalog.manifest import Manifest
    from flared.catalog.objects import Deletion
    from flared.http.messages import Reply, Request
    from flared.meta.kv import KV
    from flared.names import ObjectName
    from flared.objects.commit import ObjectHeaders
    from flared.objects.store import Store


def object_handlers(store: Store) -> dict[str, Handler]:
    calls = ObjectCalls(store)
    return {
        "PutObject": on_object(calls.put),
        "GetObject": on_object(calls.get),
        "HeadObject": on_object(calls.head),
        "DeleteObject": on_object(calls.delete),
    }


class ObjectCalls:
    """The calls, over one Store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def put(self, request: Request, reply: Reply, name: ObjectName) -> None:
        fields = request.fields
        require_length(fields)
        refuse_unknown(fields, locks=True)
        body, digests = take_digests(fields, request.body)
        lock = await lock_in_fields(self._store, fields, name.bucket)
        headers, when = described(object_headers(fields), tags_in_fields(fields), lock), write_conditions(fields)
        try:
            result = await put_object(self._store, name, body, headers=headers, when=when, digests=digests)
        except BadDigest as error:
            raise explain_digest(error, digests) from error
        await send(reply, 200, put_lines(result.manifest) + newest_lines(self._store.kv, result.manifest))

    async def get(self, request: Request, reply: Reply, name: ObjectName) -> None:
        query, fields = parse_query(request.query), request.fields
        overrides, version = _read_query(query, request)
        when, wanted = read_conditions(fields), _wanted_bytes(query, fields)
        if when is not ALWAYS:
            manifest = await find_object(self._store, name, version=version)
            if await _answer_known(reply, manifest, when):
                return
        async with open_object(self._store, name, when=when, range=wanted, version=version) as reading:
            manifest = reading.manifest
            lines = reply_lines() + lines_of(self._store.kv, manifest, overrides, newest=version is None)
            status, more = span_lines(fields, manifest, wanted, reading.start, reading.length)
            await reply.start(status, lines + more, reading.length)
            await send_reading(reply, reading)

    async def head(self, request: Request, reply: Reply, name: ObjectName) -> None:
        query, fields = parse_query(request.query), request.fields
        overrides, version = _read_query(query, request)
        manifest = await find_object(self._store, name, version=version)
        if await _answer_known(reply, manifest, read_conditions(fields)):
            return
        wanted = _wanted_bytes(query, fields)
        start, length = 0, manifest.size
        if isinstance(wanted, PartRequest):
            start, length = await locate_part(self._store.kv, manifest, wanted.number)
        elif wanted is not None and wanted.applies(manifest.etag, manifest.modified):
            start, length = resolve(wanted, manifest.size)
        status, more = span_lines(fields, manifest, wanted, start, length)
        lines = reply_lines() + lines_of(self._store.kv, manifest, overrides, newest=version is None)
        await reply.start(status, lines + more, length)

    async def delete(self, request: Request, reply: Reply, name: ObjectName) -> None:
        version = parse_version(parse_query(request.query).get("versionId", ""))
        when = write_conditions(request.fields)
        if version is None:
            done = await delete_object(self._store, name, when)
        else:
            bypass = may_bypass(request, name.bucket)
            done = await delete_version(self._store, name, version, when, bypass_governance=bypass)
        await send(reply, 204, deletion_lines(done, version))


def lines_of(kv: KV, manifest: Manifest, overrides: Mapping[str, str] | None = None, *, newest: bool = True) -> bytes:
    """Return the field lines of a get that tell of the object."""
    lines = object_lines(manifest, overrides)
    lines += newest_lines(kv, manifest) if newest else version_lines(kv, manifest)
    return lines if manifest.details is None else lines + tag_count_lines(manifest) + lock_lines(manifest)


def described(headers: ObjectHeaders, tags: dict[str, str] | None, lock: Details | None = None) -> ObjectHeaders:
    """Return what a put says of its object, with these tags and this lock."""
    if not tags and lock is None:
        return headers
    details, locked = headers.details or EMPTY, lock or EMPTY
    details = details._replace(
        tags=tags or {},
        compliance=locked.compliance,
        retained_until_ms=locked.retained_until_ms,
        legal_hold=locked.legal_hold,
    )
    return replace(headers, details=details)


def deletion_lines(done: Deletion, version: int | None) -> bytes:
    """Return the field lines of the answer to a delete, of the version of that number if there is one."""
    gone = done.marker if version is None else done.deleted or done.marker
    named = "" if gone is None else show_version(gone)
    if version is not None and not named:
        named = show_number(version)
    lines = f"x-amz-version-id: {named}\r\n" if named else ""
    return (lines + ("x-amz-delete-marker: true\r\n" if done.marker is not None else "")).encode()


def require_length(fields: Mapping[str, str]) -> None:
    """Raise S3Error for an upload that does not say how long it is."""
    if "content-length" not in fields and "transfer-encoding" not in fields:
        raise S3Error("MissingContentLength", "You must provide the Content-Length HTTP header.")


def put_lines(manifest: Manifest) -> bytes:
    """Return the field lines of the answer to a put."""
    return f'etag: "{manifest.etag}"\r\n'.encode() + checksum_lines(manifest)


def _read_query(query: Mapping[str, str], request: Request) -> tuple[dict[str, str], int | None]:
    """Return the fields that the query of a read replaces, and the version that it names."""
    caller = request.caller
    signed = isinstance(caller, Caller) and caller.identity.who is not BY_ANONYMOUS
    return response_overrides(query, signed=signed), parse_version(query.get("versionId", ""))


def _wanted_bytes(query: Mapping[str, str], fields: Mapping[str, str]) -> RangeRequest | PartRequest | None:
    """Return which bytes a read asks for; None for all. Raises S3Error."""
    wanted = range_request(fields)
    if "partNumber" not in query:
        return wanted
    if wanted is not None:
        raise S3Error("InvalidRequest", "Cannot specify both Range header and partNumber query parameter")
    return PartRequest(parse_part_number(query["partNumber"]))


def span_lines(
    fields: Mapping[str, str],
    manifest: Manifest,
    wanted: RangeRequest | PartRequest | None,
    start: int,
    length: int,
) -> tuple[int, bytes]:
    """Return the status of a read, and the lines that tell which bytes it sends."""
    lines = b""
    if isinstance(wanted, PartRequest):
        count = part_count(manifest)
        lines = b"x-amz-mp-parts-count: %d\r\n" % count if count else b""
        if not length:  # no range has so few bytes
            return 200, lines
    elif wanted is None or not wanted.applies(manifest.etag, manifest.modified):
        return 200, checksums_if_asked(fields, manifest)
    return 206, lines + b"content-range: bytes %d-%d/%d\r\n" % (start, start + length - 1, manifest.size)


def parse_part_number(text: str) -> int:
    """Return the number of a part. Raises S3Error."""
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= PART_NUMBER_MAX):
        raise S3Error("InvalidArgument", f"Part number must be an integer between 1 and {PART_NUMBER_MAX}, inclusive")
    return int(text)


def checksums_if_asked(fields: Mapping[str, str], manifest: Manifest) -> bytes:
    """Return the lines with the checksums of an object, if the head of a read asks for them."""
    return checksum_lines(manifest) if fields.get("x-amz-checksum-mode", "").upper() == "ENABLED" else b""


async def _answer_known(reply: Reply, manifest: Manifest, when: ReadConditions) -> bool:
    """Answer 304 if the client has the object already. Raises PreconditionFailed.

    Asked of the manifest that the answer's ETag comes from.
    """
    try:
        check_read(when, manifest.etag, manifest.modified)
    except NotModified:
        await send(reply, 304, object_lines(manifest))
        return True
    return False
