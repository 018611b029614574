"""Uploads in parts: begin one, put its parts, complete and abort it. ``multipart_lists`` lists them.

A completion is answered when it is done: it writes no byte of the object, so that takes well below a second.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from flared.access.authorize import Action
from flared.api.callers import Caller, authorize_also
from flared.api.face import on_object
from flared.api.s3.answers import send, send_xml
from flared.api.s3.checksums import (
    COMPOSITE,
    FULL,
    PREFIX,
    checksum_elements,
    explain_digest,
    take_digests,
)
from flared.api.s3.copying import parse_copy_source
from flared.api.s3.errors import S3Error
from flared.api.s3.expiration import newest_lines
from flared.api.s3.headers import object_headers, refuse_unknown, source_conditions, write_conditions
from flared.api.s3.locking import lock_in_fields
from flared.api.s3.objects import described, parse_part_number, require_length
from flared.api.s3.operations import COPY_SOURCE
from flared.api.s3.query import parse_query
from flared.api.s3.tagging import tags_in_fields
from flared.api.s3.times import format_timestamp
from flared.api.s3.versions import show_number
from flared.api.s3.xml import MalformedXml, document, element, parse_xml
from flared.catalog.uploads import PART_NUMBER_MAX, UploadId
from flared.errors import BadDigest, NoSuchUpload
from flared.objects.complete_upload import NamedPart, Promise, complete_upload
from flared.objects.digests import CHECKSUMS, CRCS
from flared.objects.upload_part import copy_part, upload_part
from flared.objects.uploads import abort_upload, create_upload

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flared.api.face import Handler
    from flared.http.messages import Reply, Request
    from flared.names import ObjectName
    from flared.objects.store import Store

BODY_BYTES_MAX = 8 * 1024 * 1024
"""10,000 parts, each with number, etag and the longest checksum, indented."""
ELEMENTS_MAX = 6 * PART_NUMBER_MAX
PARSED_INLINE_BYTES = 16 * 1024
"""A longer list of parts is parsed in a thread: 10,000 take some 50 ms."""

ONLY_WHOLE = "crc64nvme"
"""The algorithm that AWS computes of whole objects alone."""

_CHECKSUM_ELEMENTS = {f"Checksum{name.upper()}" for name in CHECKSUMS}
_UPLOAD = re.compile(r"[0-9a-f]{32}")
_COPY_RANGE = re.compile(r"bytes=(\d{1,19})-(\d{1,19})")


def multipart_handlers(store: Store) -> dict[str, Handler]:
    calls = MultipartCalls(store)
    return {
        "CreateMultipartUpload": on_object(calls.create),
        "UploadPart": on_object(calls.put_part),
        "UploadPartCopy": on_object(calls.copy_part),
        "CompleteMultipartUpload": on_object(calls.complete),
        "AbortMultipartUpload": on_object(calls.abort),
    }


class MultipartCalls:
    """The calls, over one Store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def create(self, request: Request, reply: Reply, name: ObjectName) -> None:
        fields = request.fields
        refuse_unknown(fields, locks=True)
        algorithm, full_object = chosen_checksum(fields)
        lock = await lock_in_fields(self._store, fields, name.bucket)
        caller = request.caller
        upload = await create_upload(
            self._store,
            name,
            headers=described(object_headers(fields), tags_in_fields(fields), lock),
            owner=caller.identity.name if isinstance(caller, Caller) else "",
            algorithm=algorithm,
            full_object=full_object,
        )
        inside = [element("Bucket", name.bucket), element("Key", name.key), element("UploadId", upload.id)]
        lines = b""
        if algorithm:
            kind = FULL if full_object else COMPOSITE
            lines = f"{PREFIX}algorithm: {algorithm.upper()}\r\n{PREFIX}type: {kind}\r\n".encode()
        await send_xml(reply, document("InitiateMultipartUploadResult", inside), lines)

    async def put_part(self, request: Request, reply: Reply, name: ObjectName) -> None:
        fields, query = request.fields, parse_query(request.query)
        upload, number = parse_upload(query), parse_part_number(query["partNumber"])
        require_length(fields)
        refuse_unknown(fields)
        body, digests = take_digests(fields, request.body)
        try:
            result = await upload_part(self._store, name, upload, number, body, digests=digests)
        except BadDigest as error:
            raise explain_digest(error, digests) from error
        sums = "".join([f"{PREFIX}{algorithm}: {value}\r\n" for algorithm, value in result.checksums.items()])
        await send(reply, 200, f'etag: "{result.part.etag}"\r\n{sums}'.encode())

    async def copy_part(self, request: Request, reply: Reply, name: ObjectName) -> None:
        fields, query = request.fields, parse_query(request.query)
        upload, number = parse_upload(query), parse_part_number(query["partNumber"])
        source, version = parse_copy_source(fields[COPY_SOURCE])
        authorize_also(request, Action.READ, source, version=version)
        refuse_unknown(fields)
        wanted, only = parse_copy_range(fields), source_conditions(fields)
        result = await copy_part(self._store, source, name, upload, number, within=wanted, only=only, version=version)
        inside = [
            element("LastModified", format_timestamp(result.part.modified_ms / 1000)),
            element("ETag", f'"{result.part.etag}"'),
            *(element(f"Checksum{algorithm.upper()}", value) for algorithm, value in result.checksums.items()),
        ]
        lines = f"x-amz-copy-source-version-id: {show_number(version)}\r\n".encode() if version is not None else b""
        await send_xml(reply, document("CopyPartResult", inside), lines)

    async def complete(self, request: Request, reply: Reply, name: ObjectName) -> None:
        fields = request.fields
        upload = parse_upload(parse_query(request.query))
        body = await request.body.read_all(BODY_BYTES_MAX)
        if len(body) > PARSED_INLINE_BYTES:
            parts = await self._store.chunks.threads.run(parse_parts, body)
        else:
            parts = parse_parts(body)
        when, promise = write_conditions(fields), parse_promise(fields)
        result = await complete_upload(self._store, name, upload, parts, when=when, promise=promise)
        manifest, scheme = result.manifest, "https" if request.secure else "http"
        inside = [
            element("Location", f"{scheme}://{fields.get('host', '')}{request.path}"),
            element("Bucket", name.bucket),
            element("Key", name.key),
            element("ETag", f'"{manifest.etag}"'),
            *checksum_elements(manifest),
        ]
        lines = newest_lines(self._store.kv, manifest)
        await send_xml(reply, document("CompleteMultipartUploadResult", inside), lines)

    async def abort(self, request: Request, reply: Reply, name: ObjectName) -> None:
        await abort_upload(self._store, name, parse_upload(parse_query(request.query)))
        await send(reply, 204)


def parse_upload(query: Mapping[str, str]) -> UploadId:
    """Return the upload that the query names. Raises NoSuchUpload for what is not an id."""
    text = query["uploadId"]
    if not _UPLOAD.fullmatch(text):
        raise NoSuchUpload(f"{text[:80]!r} is not the id of an upload")
    return UploadId(text)


def parse_copy_range(fields: Mapping[str, str]) -> tuple[int, int] | None:
    """Return the first and the last byte of the source; None for all of it. Raises S3Error."""
    text = fields.get("x-amz-copy-source-range")
    if text is None:
        return None
    match = _COPY_RANGE.fullmatch(text)
    if match is None or int(match[2]) < int(match[1]):
        raise S3Error(
            "InvalidArgument",
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the "
            "zero-based offsets of the first and last bytes to copy",
        )
    return int(match[1]), int(match[2])


def chosen_checksum(fields: Mapping[str, str]) -> tuple[str, bool]:
    """Return the algorithm of an upload, empty for none, and whether its checksum is of the whole object.

    Raises S3Error for what S3 does not have.
    """
    algorithm = fields.get(PREFIX + "algorithm", "").lower()
    kind = fields.get(PREFIX + "type", "").upper()
    if not algorithm:
        if kind:
            raise S3Error("InvalidRequest", f"{PREFIX}type can only be used with {PREFIX}algorithm.")
        return "", False
    if algorithm not in CHECKSUMS:
        valid = ", ".join(name.upper() for name in CHECKSUMS)
        raise S3Error(
            "InvalidRequest",
            f"Checksum algorithm provided is unsupported. Please try again with any of the valid types: [{valid}]",
        )
    if kind not in {"", FULL, COMPOSITE}:
        raise S3Error("InvalidRequest", f"Value for {PREFIX}type header is invalid.")
    full_object = kind == FULL or (not kind and algorithm == ONLY_WHOLE)
    if (full_object and algorithm not in CRCS) or (not full_object and algorithm == ONLY_WHOLE):
        raise S3Error(
            "InvalidRequest", f"The {kind} checksum type cannot be used with the {algorithm} checksum algorithm."
        )
    return algorithm, full_object


def parse_parts(body: bytes) -> list[NamedPart]:
    """Return the parts that a completion names. Raises MalformedXml."""
    root = parse_xml(body, "CompleteMultipartUpload", elements_max=ELEMENTS_MAX)
    parts = []
    for entry in root.find_all("Part"):
        number = entry.text_of("PartNumber").strip()
        if not (number.isascii() and number.isdigit() and len(number) <= 9) or entry.find("ETag") is None:
            raise MalformedXml("each Part needs a PartNumber and an ETag")
        checksum = next((child.text.strip() for child in entry.children if child.name in _CHECKSUM_ELEMENTS), "")
        parts.append(NamedPart(int(number), entry.text_of("ETag").strip().strip('"'), checksum))
    if not 1 <= len(parts) <= PART_NUMBER_MAX:
        raise MalformedXml(f"the XML you provided names no part, or more than {PART_NUMBER_MAX}")
    return parts


def parse_promise(fields: Mapping[str, str]) -> Promise:
    """Return what the head of a completion says of the object. Raises S3Error."""
    checksums = {name: fields[PREFIX + name] for name in CHECKSUMS if PREFIX + name in fields}
    if len(checksums) > 1:
        raise S3Error("InvalidRequest", "Expecting a single x-amz-checksum- header.")
    size = fields.get("x-amz-mp-object-size")
    if size is not None and not (size.isascii() and size.isdigit() and len(size) <= 19):
        raise S3Error("InvalidRequest", "Value for x-amz-mp-object-size header is invalid.")
    algorithm, checksum = next(iter(checksums.items()), ("", ""))
    kind = fields.get(PREFIX + "type")
    full_object = None if kind is None else kind.upper() == FULL
    return Promise(algorithm, checksum, full_object, None if size is None else int(size))
