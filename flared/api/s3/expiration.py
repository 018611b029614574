"""The answer's word of when the newest version of an object goes by a lifecycle rule: ``x-amz-expiration``."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from flared.api.fields import format_date
from flared.api.s3.versions import version_lines
from flared.catalog.bucket_documents import Kind, find_document_nowait
from flared.errors import Damaged
from flared.objects.lifecycle import decode_rules, find_expiry
from flared.objects.tags import tags_of

if TYPE_CHECKING:
    from flared.catalog.manifest import Manifest
    from flared.meta.kv import KV


def newest_lines(kv: KV, manifest: Manifest) -> bytes:
    """Return the field lines about the newest version of an object: its id, and when it goes."""
    return version_lines(kv, manifest) + _expiration_line(kv, manifest)


def _expiration_line(kv: KV, manifest: Manifest) -> bytes:
    try:
        document = find_document_nowait(kv, manifest.name.bucket, Kind.LIFECYCLE)
    except Damaged:  # the worker that goes by the rules reports it
        return b""
    if document is None:
        return b""
    written_ms = int(manifest.modified * 1000)
    expiry = find_expiry(decode_rules(document), manifest.name.key, manifest.size, tags_of(manifest), written_ms)
    if expiry is None:
        return b""
    date = format_date(expiry.due_ms // 1000)
    return f'x-amz-expiration: expiry-date="{date}", rule-id="{quote(expiry.rule, safe=" ")}"\r\n'.encode()
