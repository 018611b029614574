"""S3's words for the small calls that are answered in turns: signed in the head or not at all, without a query."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from flared.access.sigv4 import is_sha256
from flared.api.quick import GENERAL_READS, PutHead
from flared.api.s3.answers import reply_lines
from flared.api.s3.bodies import wrong_payload
from flared.api.s3.checksums import ONLY_ETAG, promised_digests
from flared.api.s3.errors import S3_ERRORS
from flared.api.s3.expiration import newest_lines
from flared.api.s3.headers import object_headers, refuse_unknown, write_conditions
from flared.api.s3.locking import LOCK_FIELDS
from flared.api.s3.objects import checksums_if_asked, deletion_lines, described, lines_of, put_lines
from flared.api.s3.tagging import tags_in_fields
from flared.catalog.details import FIELD_NAMES
from flared.objects.small_put import digest_of_small

if TYPE_CHECKING:
    from flared.catalog.manifest import Manifest
    from flared.catalog.objects import Deletion
    from flared.http.exchange import Exchange
    from flared.meta.kv import KV
    from flared.objects.commit import ObjectHeaders, PutResult
    from flared.objects.conditions import Conditions


SAYS_NOTHING = frozenset(
    {"x-amz-date", "x-amz-content-sha256", "x-amz-user-agent", "x-amz-sdk-checksum-algorithm", "x-amz-security-token"}
)
"""Fields that say nothing of the object, which most puts have and no others."""


@lru_cache(256)
def _plain_headers(content_type: str) -> ObjectHeaders:
    return object_headers({"content-type": content_type})


class S3Words:
    """An ``api.quick.Words``."""

    errors = S3_ERRORS

    def __init__(self, kv: KV) -> None:
        self._kv = kv

    def is_plain_read(self, exchange: Exchange) -> bool:
        return GENERAL_READS.isdisjoint(exchange.fields)

    def read_put(self, exchange: Exchange) -> PutHead | None:
        fields = exchange.fields
        # What the signature promises of the body was left for here (``callers.check_body``).
        promised = fields.get("x-amz-content-sha256", "")
        if is_sha256(promised):
            digest = exchange.sha256 = digest_of_small(exchange.body)
            if digest.hex() != promised.lower():
                raise wrong_payload()
        if all(name in SAYS_NOTHING for name in fields if name.startswith("x-amz-")) and FIELD_NAMES.isdisjoint(fields):
            headers = _plain_headers(fields.get("content-type", ""))
            digests = promised_digests(fields) if "content-md5" in fields else ONLY_ETAG
        elif not LOCK_FIELDS.isdisjoint(fields):
            return None
        else:
            refuse_unknown(fields)
            headers = described(object_headers(fields), tags_in_fields(fields))
            digests = promised_digests(fields)
        return PutHead(headers, write_conditions(fields), digests)

    def read_delete(self, exchange: Exchange) -> Conditions | None:
        return write_conditions(exchange.fields)

    def object_lines(self, exchange: Exchange, manifest: Manifest) -> bytes:
        lines = reply_lines(exchange.request_id) + lines_of(self._kv, manifest)
        return lines + checksums_if_asked(exchange.fields, manifest)

    def put_answer(self, exchange: Exchange, result: PutResult) -> tuple[int, bytes, bytes]:
        manifest = result.manifest
        return 200, reply_lines(exchange.request_id) + put_lines(manifest) + newest_lines(self._kv, manifest), b""

    def delete_lines(self, exchange: Exchange, deletion: Deletion) -> bytes:
        return reply_lines(exchange.request_id) + deletion_lines(deletion, None)
