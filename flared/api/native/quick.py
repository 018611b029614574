"""The native face's words for the small calls that are answered in turns.

What equal heads mean is worked out once, and kept in their memo: it depends on their fields alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flared.api.callers import remember
from flared.api.errors import JSON_ERRORS
from flared.api.native.headers import manifest_head, object_headers, promised_digests, write_conditions
from flared.api.native.objects import COPY_SOURCE, deletion_head, put_reply
from flared.api.quick import GENERAL_READS, PutHead

if TYPE_CHECKING:
    from flared.catalog.manifest import Manifest
    from flared.catalog.objects import Deletion
    from flared.http.exchange import Exchange
    from flared.objects.commit import PutResult
    from flared.objects.conditions import Conditions

GENERAL_WRITES = frozenset({COPY_SOURCE, "content-range"})

READ_MEMO = "native read"
PUT_MEMO = "native put"


class NativeWords:
    """An ``api.quick.Words``."""

    errors = JSON_ERRORS

    def is_plain_read(self, exchange: Exchange) -> bool:
        plain = exchange.memo.get(READ_MEMO)
        if plain is None:
            plain = GENERAL_READS.isdisjoint(exchange.fields)
            remember(exchange.memo, READ_MEMO, plain)
        return plain is True

    def read_put(self, exchange: Exchange) -> PutHead | None:
        known = exchange.memo.get(PUT_MEMO)
        if type(known) is PutHead:
            return known
        fields = exchange.fields
        if not GENERAL_WRITES.isdisjoint(fields):
            return None
        head = PutHead(object_headers(fields), write_conditions(fields), promised_digests(fields))
        remember(exchange.memo, PUT_MEMO, head)
        return head

    def read_delete(self, exchange: Exchange) -> Conditions | None:
        return write_conditions(exchange.fields)

    def object_lines(self, exchange: Exchange, manifest: Manifest) -> bytes:
        return manifest_head(manifest)

    def put_answer(self, exchange: Exchange, result: PutResult) -> tuple[int, bytes, bytes]:
        return put_reply(result)

    def delete_lines(self, exchange: Exchange, deletion: Deletion) -> bytes:
        return deletion_head(deletion)
