"""HTTP fields <-> conditions of writes, digests, user fields; and the fields of replies. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping

from flared.api.fields import format_date, parse_tags
from flared.catalog.details import FIELD_BYTES_MAX, FIELD_NAMES, FIELDS, FIELDS_BYTES_MAX, Details, some
from flared.catalog.manifest import Manifest
from flared.errors import BadRequest, TooLarge
from flared.names import chunk_digest_hex
from flared.objects.commit import ObjectHeaders
from flared.objects.conditions import UNCONDITIONAL, Conditions
from flared.objects.digests import NO_DIGESTS, Digests

USER_PREFIX = "x-flare-meta-"
USER_FIELD_BYTES_MAX = 2 * 1024
"""Name and value of one field of user metadata; the limit S3 has for all of them together."""
USER_BYTES_MAX = 8 * 1024
CONTENT_TYPE_BYTES_MAX = 256
DEFAULT_CONTENT_TYPE = "application/octet-stream"

WRITE_CONDITIONS = frozenset({"if-match", "if-none-match"})
DIGESTS = frozenset({"content-md5", "x-flare-content-sha256"})

_SHA256 = re.compile(r"[0-9A-Fa-f]{64}")


def write_conditions(fields: Mapping[str, str]) -> Conditions:
    """The conditions of a PUT, POST or DELETE; raises BadRequest for one that would not be heeded."""
    if "if-unmodified-since" in fields:
        # A date has the resolution of a second: two writes in one second would pass. Better refused than trusted.
        raise BadRequest("If-Unmodified-Since cannot guard a write; use If-Match with the object's ETag")
    if WRITE_CONDITIONS.isdisjoint(fields):
        return UNCONDITIONAL
    return Conditions(
        if_match=parse_tags(fields.get("if-match"), weak=False),
        if_none_match=parse_tags(fields.get("if-none-match"), weak=True),
    )


def promised_digests(fields: Mapping[str, str]) -> Digests:
    """Content-MD5 (base64) and x-flare-content-sha256 (hex); raises BadRequest if one of them is not a digest."""
    if DIGESTS.isdisjoint(fields):
        return NO_DIGESTS
    md5, sha256 = fields.get("content-md5"), fields.get("x-flare-content-sha256")
    if sha256 is not None and not _SHA256.fullmatch(sha256):
        raise BadRequest("x-flare-content-sha256 is not 64 hex digits")
    return Digests(None if md5 is None else _parse_md5(md5), None if sha256 is None else bytes.fromhex(sha256))


def object_headers(fields: Mapping[str, str]) -> ObjectHeaders:
    """Content type, response fields and user fields of an upload; raises TooLarge beyond their limits."""
    user = {name[len(USER_PREFIX) :]: value for name, value in fields.items() if name.startswith(USER_PREFIX)}
    if user:
        _check_user(user)
    details = None if FIELD_NAMES.isdisjoint(fields) else some(Details(response_fields(fields)))
    return ObjectHeaders(check_content_type(fields.get("content-type")), user, details)


def response_fields(fields: Mapping[str, str]) -> dict[str, str]:
    """The fields of an upload that a get returns as they are; raises TooLarge beyond their limits."""
    chosen = {name: fields[name] for name in FIELDS if fields.get(name)}
    for name, value in chosen.items():
        if len(value) > FIELD_BYTES_MAX:
            raise TooLarge(f"{name} has {len(value)} bytes; at most {FIELD_BYTES_MAX} are allowed")
    size = sum(len(name) + len(value) for name, value in chosen.items())
    if size > FIELDS_BYTES_MAX:
        raise TooLarge(f"{', '.join(chosen)} have {size} bytes together; at most {FIELDS_BYTES_MAX} are allowed")
    return chosen


def check_content_type(value: str | None) -> str:
    """The content type to keep; raises TooLarge."""
    # curl --data-binary calls every body a form that it is not; kept, it would mislead every reader.
    if not value or value == "application/x-www-form-urlencoded":
        return DEFAULT_CONTENT_TYPE
    if len(value) > CONTENT_TYPE_BYTES_MAX:
        raise TooLarge(f"the Content-Type has {len(value)} bytes; at most {CONTENT_TYPE_BYTES_MAX} are allowed")
    return value


def manifest_head(manifest: Manifest) -> bytes:
    """The field lines that tell of an object; its values came out of checked heads and need no check again."""
    text = (
        f'etag: "{manifest.etag}"\r\nlast-modified: {format_date(int(manifest.modified))}\r\n'
        f"content-type: {manifest.content_type}\r\nx-flare-version: {manifest.version}\r\naccept-ranges: bytes\r\n"
    )
    if manifest.chunk is not None:
        text += f"x-flare-content-sha256: {chunk_digest_hex(manifest.chunk)}\r\n"
    if manifest.details is not None:
        text += "".join([f"{name}: {value}\r\n" for name, value in manifest.details.fields.items()])
    if manifest.user:
        text += "".join([f"{USER_PREFIX}{name}: {value}\r\n" for name, value in manifest.user.items()])
    return text.encode("latin-1")


def _parse_md5(value: str) -> bytes:
    try:
        digest = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if len(digest) != 16:
        raise BadRequest("Content-MD5 is not the base64 of 16 bytes")
    return digest


def _check_user(user: Mapping[str, str]) -> None:
    sizes = {name: len(name) + len(value) for name, value in user.items()}
    for name, size in sizes.items():
        if not name:
            raise BadRequest(f"{USER_PREFIX} needs a name behind it")
        if size > USER_FIELD_BYTES_MAX:
            raise TooLarge(
                f"{USER_PREFIX}{name} has {size} bytes; at most {USER_FIELD_BYTES_MAX} are allowed, name and value"
            )
    if sum(sizes.values()) > USER_BYTES_MAX:
        raise TooLarge(
            f"the {USER_PREFIX}* fields have {sum(sizes.values())} bytes; at most {USER_BYTES_MAX} are allowed"
        )
