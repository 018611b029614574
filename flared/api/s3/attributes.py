"""GetObjectAttributes: what is known of an object, without its bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flared.api.face import on_object
from flared.api.fields import format_date
from flared.api.s3.answers import send_xml
from flared.api.s3.checksums import checksum_elements
from flared.api.s3.errors import S3Error
from flared.api.s3.query import parse_count, parse_query
from flared.api.s3.versions import parse_version, version_lines
from flared.api.s3.xml import document, element, group
from flared.objects.get import find_object
from flared.objects.parts import list_object_parts, part_count
from flared.objects.uploads import PARTS_LISTED_MAX

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flared.api.face import Handler
    from flared.catalog.manifest import Manifest
    from flared.http.messages import Reply, Request
    from flared.meta.kv import KV
    from flared.names import ObjectName
    from flared.objects.store import Store

ATTRIBUTES = ("ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize")


def attribute_handlers(store: Store) -> dict[str, Handler]:
    async def get(request: Request, reply: Reply, name: ObjectName) -> None:
        asked = parse_asked(request.fields.get("x-amz-object-attributes", ""))
        version = parse_version(parse_query(request.query).get("versionId", ""))
        manifest = await find_object(store, name, version=version)
        lines = f"last-modified: {format_date(int(manifest.modified))}\r\n".encode() + version_lines(store.kv, manifest)
        inside = _format(manifest, asked)
        if "ObjectParts" in asked and part_count(manifest):
            inside.insert(0, await _format_parts(store.kv, manifest, request.fields))
        await send_xml(reply, document("GetObjectAttributesResponse", inside), lines)

    return {"GetObjectAttributes": on_object(get)}


def parse_asked(text: str) -> set[str]:
    """Return the attributes that are asked for. Raises S3Error."""
    asked = {name.strip() for name in text.split(",") if name.strip()}
    if not asked:
        raise S3Error("InvalidRequest", "The x-amz-object-attributes header specifying the attributes is missing.")
    if not asked <= set(ATTRIBUTES):
        raise S3Error("InvalidArgument", "Invalid attribute name specified.")
    return asked


def _format(manifest: Manifest, asked: set[str]) -> list[str]:
    inside = []
    if "ETag" in asked:
        inside.append(element("ETag", manifest.etag))
    if "Checksum" in asked and (checksums := checksum_elements(manifest)):
        inside.append(group("Checksum", checksums))
    if "StorageClass" in asked:
        inside.append(element("StorageClass", "STANDARD"))
    if "ObjectSize" in asked:
        inside.append(element("ObjectSize", manifest.size))
    return inside


async def _format_parts(kv: KV, manifest: Manifest, fields: Mapping[str, str]) -> str:
    limit = parse_count(fields, "x-amz-max-parts", PARTS_LISTED_MAX, PARTS_LISTED_MAX)
    after = parse_count(fields, "x-amz-part-number-marker", 0, 1 << 31)
    found = await list_object_parts(kv, manifest, after, limit)
    algorithm = next(iter(manifest.details.checksums), "") if manifest.details is not None else ""
    inside = [
        element("PartsCount", found.total),
        element("PartNumberMarker", after),
        element("NextPartNumberMarker", found.parts[-1].number if found.parts else after),
        element("MaxParts", limit),
        element("IsTruncated", found.more),
    ]
    for part in found.parts:
        sizes = [element("PartNumber", part.number), element("Size", part.extent.size)]
        if part.checksum and algorithm:
            sizes.append(element(f"Checksum{algorithm.upper()}", part.checksum))
        inside.append(group("Part", sizes))
    return group("ObjectParts", inside)
