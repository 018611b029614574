"""Lists of uploads in parts: those of a bucket, and the parts of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flared.api.face import on_bucket, on_object
from flared.api.s3.answers import send_xml
from flared.api.s3.checksums import COMPOSITE, FULL
from flared.api.s3.listing import encoding_of
from flared.api.s3.multipart import parse_upload
from flared.api.s3.owner import owner_element
from flared.api.s3.query import parse_count, parse_query
from flared.api.s3.times import format_timestamp
from flared.api.s3.xml import document, element, group
from flared.objects.uploads import PARTS_LISTED_MAX, UPLOADS_LISTED_MAX, list_parts, list_uploads

if TYPE_CHECKING:
    from flared.api.face import Handler
    from flared.api.s3.listing import Show
    from flared.catalog.uploads import Part, Upload
    from flared.http.messages import Reply, Request
    from flared.names import BucketName, ObjectName
    from flared.objects.store import Store

_STANDARD = "<StorageClass>STANDARD</StorageClass>"


def multipart_list_handlers(store: Store) -> dict[str, Handler]:
    calls = MultipartListCalls(store)
    return {"ListParts": on_object(calls.list_parts), "ListMultipartUploads": on_bucket(calls.list_uploads)}


class MultipartListCalls:
    """The calls, over one Store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def list_parts(self, request: Request, reply: Reply, name: ObjectName) -> None:
        query = parse_query(request.query)
        show, limit = encoding_of(query), parse_count(query, "max-parts", PARTS_LISTED_MAX, PARTS_LISTED_MAX)
        after = parse_count(query, "part-number-marker", 0, 1 << 31)
        upload, parts, more = await list_parts(self._store, name, parse_upload(query), after=after, limit=limit)
        inside = [
            element("Bucket", name.bucket),
            element("Key", show(name.key)),
            element("UploadId", upload.id),
            owner_element("Initiator"),
            owner_element(),
            _STANDARD,
            element("PartNumberMarker", after),
            element("NextPartNumberMarker", parts[-1].number if parts else after),
            element("MaxParts", limit),
            element("IsTruncated", more),
            *_checksum_elements(upload),
            *(_part_element(upload, part) for part in parts),
        ]
        await send_xml(reply, document("ListPartsResult", inside))

    async def list_uploads(self, request: Request, reply: Reply, bucket: BucketName) -> None:
        query = parse_query(request.query)
        show, limit = encoding_of(query), parse_count(query, "max-uploads", UPLOADS_LISTED_MAX, UPLOADS_LISTED_MAX)
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        key = query.get("key-marker", "")
        upload = query.get("upload-id-marker", "") if key else ""  # alone it means nothing
        page = await list_uploads(
            self._store, bucket, prefix=prefix, delimiter=delimiter, after=(key, upload), limit=limit
        )
        inside = [
            element("Bucket", bucket),
            element("KeyMarker", show(key)),
            element("UploadIdMarker", upload),
            element("Prefix", show(prefix)),
            element("MaxUploads", limit),
            element("IsTruncated", page.next is not None),
        ]
        if page.next is not None:
            inside += [element("NextKeyMarker", show(page.next[0])), element("NextUploadIdMarker", page.next[1])]
        if delimiter:
            inside.append(element("Delimiter", show(delimiter)))
        if "encoding-type" in query:
            inside.append(element("EncodingType", "url"))
        inside += [_upload_element(found, show) for found in page.uploads]
        inside += [group("CommonPrefixes", (element("Prefix", show(common)),)) for common in page.prefixes]
        await send_xml(reply, document("ListMultipartUploadsResult", inside))


def _part_element(upload: Upload, part: Part) -> str:
    inside = [
        element("PartNumber", part.number),
        element("LastModified", format_timestamp(part.modified_ms / 1000)),
        element("ETag", f'"{part.etag}"'),
        element("Size", part.extent.size),
    ]
    if part.checksum:
        inside.append(element(f"Checksum{upload.algorithm.upper()}", part.checksum))
    return group("Part", inside)


def _upload_element(upload: Upload, show: Show) -> str:
    inside = [
        element("Key", show(upload.name.key)),
        element("UploadId", upload.id),
        owner_element("Initiator"),
        owner_element(),
        _STANDARD,
        element("Initiated", format_timestamp(upload.created_ms / 1000)),
        *_checksum_elements(upload),
    ]
    return group("Upload", inside)


def _checksum_elements(upload: Upload) -> list[str]:
    if not upload.algorithm:
        return []
    kind = FULL if upload.full_object else COMPOSITE
    return [element("ChecksumAlgorithm", upload.algorithm.upper()), element("ChecksumType", kind)]
