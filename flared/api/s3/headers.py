"""Fields of S3 <-> what is kept of an object: type, user metadata, response fields; conditions; versions. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from flared.access.bucket_access import PRIVATE, Acl
from flared.api.fields import format_date, parse_date
from flared.api.s3.errors import NOT_IMPLEMENTED, S3Error
from flared.catalog.details import FIELD_BYTES_MAX, FIELDS, FIELDS_BYTES_MAX, Details, some
from flared.objects.commit import ObjectHeaders
from flared.objects.conditions import ALWAYS, UNCONDITIONAL, Conditions, ReadConditions

if TYPE_CHECKING:
    from flared.catalog.manifest import Manifest

USER_PREFIX = "x-amz-meta-"
USER_BYTES_MAX = 2 * 1024
"""Names and values of all user metadata of an object, as AWS has it."""
CONTENT_TYPE_BYTES_MAX = 256
DEFAULT_CONTENT_TYPE = "binary/octet-stream"

OVERRIDES: Mapping[str, str] = {
    "response-content-type": "content-type",
    "response-content-language": "content-language",
    "response-expires": "expires",
    "response-cache-control": "cache-control",
    "response-content-disposition": "content-disposition",
    "response-content-encoding": "content-encoding",
}
"""Names of a query that replace a field of the answer to a get."""

ACL = "x-amz-acl"
ACLS: Mapping[str, Acl] = {acl.value: acl for acl in Acl} | dict.fromkeys(
    ("bucket-owner-full-control", "bucket-owner-read"), PRIVATE
)
"""Canned ACLs, and what they come to where all keys belong to one account."""
ACLS_ELSEWHERE = frozenset({"aws-exec-read", "log-delivery-write"})
"""About services of AWS."""

LOCK_PREFIX = "x-amz-object-lock-"
REFUSED_PREFIXES = ("x-amz-server-side-encryption", "x-amz-grant-", "x-amz-object-lock-", "x-amz-copy-source-server-")
REFUSED = frozenset({"x-amz-website-redirect-location", "x-amz-write-offset-bytes"})
"""Fields that would mean something that is not here."""


def refuse_unknown(fields: Mapping[str, str], *, locks: bool = False) -> None:
    """Raise S3Error for a field of a write that asks for what is not here: it must not be ignored.

    ``locks``: the caller takes the fields of object lock.
    """
    for name, value in fields.items():
        if (name in REFUSED or name.startswith(REFUSED_PREFIXES)) and not (locks and name.startswith(LOCK_PREFIX)):
            raise S3Error(
                NOT_IMPLEMENTED, f"A header you provided implies functionality that is not implemented: {name}"
            )
        if name == ACL and value not in ACLS:
            if value in ACLS_ELSEWHERE:
                raise S3Error(NOT_IMPLEMENTED, f"the canned ACL {value} is not implemented")
            raise S3Error("InvalidArgument", f"{value[:80]!r} is not a canned ACL")
        if name == "x-amz-storage-class" and value != "STANDARD":
            raise S3Error("InvalidStorageClass", "The storage class you specified is not valid")


def acl_of(fields: Mapping[str, str]) -> Acl:
    """Return the canned ACL that the fields of a write name; ``refuse_unknown`` comes first."""
    return ACLS[fields[ACL]] if ACL in fields else PRIVATE


def object_headers(fields: Mapping[str, str]) -> ObjectHeaders:
    """Return what a put says of its object. Raises S3Error."""
    user = {name[len(USER_PREFIX) :]: value for name, value in fields.items() if name.startswith(USER_PREFIX)}
    size = sum(len(name) + len(value) for name, value in user.items())
    if size > USER_BYTES_MAX:
        raise S3Error("MetadataTooLarge", "Your metadata headers exceed the maximum allowed metadata size")
    content_type = fields.get("content-type") or DEFAULT_CONTENT_TYPE
    if len(content_type) > CONTENT_TYPE_BYTES_MAX:
        raise S3Error("MetadataTooLarge", f"the Content-Type has more than {CONTENT_TYPE_BYTES_MAX} bytes")
    return ObjectHeaders(content_type, user, some(Details(fields=_response_fields(fields), acl=stored_acl(fields))))


def stored_acl(fields: Mapping[str, str]) -> str:
    """The same, as ``Details`` has it."""
    acl = ACL in fields and acl_of(fields)
    return acl if acl and acl is not PRIVATE else ""


def _response_fields(fields: Mapping[str, str]) -> dict[str, str]:
    found = {name: fields[name] for name in FIELDS if fields.get(name)}
    if "aws-chunked" in found.get("content-encoding", ""):
        # It says how the body travels, and does not belong to the object.
        kept = [one for one in map(str.strip, found["content-encoding"].split(",")) if one and one != "aws-chunked"]
        found["content-encoding"] = ", ".join(kept)
        if not kept:
            del found["content-encoding"]
    if any(len(value) > FIELD_BYTES_MAX for value in found.values()) or (
        sum(len(name) + len(value) for name, value in found.items()) > FIELDS_BYTES_MAX
    ):
        raise S3Error("MetadataTooLarge", "Your metadata headers exceed the maximum allowed metadata size")
    return found


def object_lines(manifest: Manifest, overrides: Mapping[str, str] | None = None) -> bytes:
    """Return the field lines that tell of an object. Its values came out of checked heads."""
    shown = {"content-type": manifest.content_type}
    if manifest.details is not None:
        shown |= manifest.details.fields
    if overrides:
        shown |= overrides
    text = (
        f'etag: "{manifest.etag}"\r\nlast-modified: {format_date(int(manifest.modified))}\r\naccept-ranges: bytes\r\n'
    )
    text += "".join([f"{name}: {value}\r\n" for name, value in shown.items()])
    if manifest.user:
        text += "".join([f"{USER_PREFIX}{name}: {value}\r\n" for name, value in manifest.user.items()])
    return text.encode("latin-1", "replace")


def response_overrides(query: Mapping[str, str], *, signed: bool) -> dict[str, str]:
    """Return the fields of the answer that the query replaces. Raises S3Error."""
    found = {field: query[name] for name, field in OVERRIDES.items() if name in query}
    if found and not signed:
        raise S3Error("InvalidRequest", "Request specific response headers cannot be used for anonymous GET requests.")
    for name, value in found.items():
        if not all(" " <= letter <= "\xff" and letter != "\x7f" for letter in value):
            raise S3Error("InvalidArgument", f"response-{name} holds what cannot stand in a field of HTTP")
    return found


def write_conditions(fields: Mapping[str, str]) -> Conditions:
    """Return the conditions of a put, a copy's target or a delete."""
    if "if-match" not in fields and "if-none-match" not in fields:
        return UNCONDITIONAL
    return Conditions(
        parse_etags(fields.get("if-match"), weak=False), parse_etags(fields.get("if-none-match"), weak=True)
    )


def parse_etags(value: str | None, *, weak: bool) -> tuple[str, ...] | None:
    """Return entity tags without quotes, or ANY. Quotes may be missing, as for AWS; weak tags never match where the
    comparison is strong."""
    if value is None:
        return None
    tags: list[str] = []
    for part in map(str.strip, value.split(",")):
        tag = part.removeprefix("W/").strip('"')
        if tag and (weak or not part.startswith("W/")):
            tags.append(tag)
    return tuple(tags)


def source_conditions(fields: Mapping[str, str]) -> ReadConditions:
    """Return the conditions of a copy's source."""
    prefix = "x-amz-copy-source-if-"
    if not any(name.startswith(prefix) for name in fields):
        return ALWAYS
    return ReadConditions(
        if_match=parse_etags(fields.get(prefix + "match"), weak=False),
        if_none_match=parse_etags(fields.get(prefix + "none-match"), weak=True),
        if_modified_since=parse_date(fields.get(prefix + "modified-since", "")),
        if_unmodified_since=parse_date(fields.get(prefix + "unmodified-since", "")),
    )
