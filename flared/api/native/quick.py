"""Quick: the small calls on objects that are answered in turns, without a task each.

Each parses, begins one verb, and answers when the verb is done. Whatever is not the plain case of a call (a query, a
range, conditions of a read, a form, a copy) is left to ``objects``, which has every case; so is what a verb hands back.
``entry`` has let the caller in before; errors are those of the same table.

What equal heads mean is worked out once, and kept in their memo: it depends on their fields alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from flared.api.callers import remember
from flared.api.errors import JSON_ERRORS
from flared.api.native.headers import manifest_head, object_headers, promised_digests, write_conditions
from flared.api.native.objects import COPY_SOURCE, put_reply
from flared.api.signed import once_of
from flared.catalog.buckets import find_bucket_nowait
from flared.catalog.objects import find_current, find_object_nowait
from flared.errors import FlareError
from flared.objects.commit import Target, check_size
from flared.objects.conditions import check_write
from flared.objects.delete import begin_delete
from flared.objects.digests import NO_DIGESTS, BodyDigests
from flared.objects.small_get import SmallGets
from flared.objects.small_put import begin_put, digest_of_small

if TYPE_CHECKING:
    from flared.catalog.manifest import Manifest
    from flared.catalog.objects import Deletion
    from flared.http.exchange import Exchange
    from flared.names import ObjectName
    from flared.objects.commit import ObjectHeaders, PutResult
    from flared.objects.conditions import Conditions
    from flared.objects.digests import Digests
    from flared.objects.store import Store

GENERAL_READS = frozenset(
    {"range", "if-range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since"}
)
GENERAL_WRITES = frozenset({COPY_SOURCE, "content-range"})

READ_MEMO = "native read"
PUT_MEMO = "native put"


class _PutHead(NamedTuple):
    """The facts about the object in the head of a put."""

    headers: ObjectHeaders
    when: Conditions
    conditional: bool
    digests: Digests


class Quick:
    """The calls; each has the contract of ``http.exchange.QuickHandler.begin``."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._gets = SmallGets(store)

    def get(self, exchange: Exchange, name: ObjectName) -> bool:
        if exchange.body or not _is_plain_read(exchange):
            return False

        def done(manifest: Manifest | None, plain: bytes | memoryview, error: FlareError | None) -> None:
            if error is not None:
                JSON_ERRORS.answer_in_turn(exchange, error)
            elif manifest is None:
                exchange.hand_over()
            else:
                try:
                    head = manifest_head(manifest)
                except Exception as bug:  # no one else would end the request
                    return exchange.fail(bug)
                exchange.bucket = name.bucket
                exchange.send(200, head, plain)
            return None

        self._gets.begin(name, done, exchange.request_id)
        return True

    def head(self, exchange: Exchange, name: ObjectName) -> bool:
        if not _is_plain_read(exchange):
            return False
        manifest = find_object_nowait(self._store.kv, name)
        exchange.bucket = name.bucket
        exchange.send(200, manifest_head(manifest), length=manifest.size)
        return True

    def put(self, exchange: Exchange, name: ObjectName) -> bool:
        store, plain = self._store, exchange.body
        if not plain:
            return False
        head = _put_head(exchange)
        if head is None:
            return False
        headers, when, conditional, digests = head
        bucket = find_bucket_nowait(store.kv, name.bucket)
        if len(plain) > bucket.chunk_size:
            return False
        if conditional:  # refused before a byte is sent; the transaction decides
            current = find_current(store.kv, name)
            check_write(when, current.etag if current else None)
        check_size(store, len(plain))
        digest = exchange.sha256 or digest_of_small(plain)
        if digests is not NO_DIGESTS:
            passing = BodyDigests(digests)
            passing.update(plain, sha256=digest)
            passing.finish()
        target = Target(store, bucket, name, headers, when, once_of(exchange))

        def done(result: PutResult | None, error: Exception | None) -> None:
            if result is None:
                return _fail(exchange, error)
            try:
                reply = put_reply(result)
            except Exception as bug:  # no one else would end the request
                return exchange.fail(bug)
            exchange.bucket = name.bucket
            return exchange.send(*reply)

        put = begin_put(target, bytes(plain), digest, done, request=exchange.request_id)
        exchange.left = put.give_up
        return True

    def delete(self, exchange: Exchange, name: ObjectName) -> bool:
        if exchange.body:
            return False

        def done(_: Deletion | None, error: Exception | None) -> None:
            if error is None:
                exchange.bucket = name.bucket
                exchange.send(204, b"")
            else:
                _fail(exchange, error)

        begin_delete(self._store, name, write_conditions(exchange.fields), done, once=once_of(exchange))
        return True


def _is_plain_read(exchange: Exchange) -> bool:
    """Return whether the head asks for the whole object, without conditions."""
    plain = exchange.memo.get(READ_MEMO)
    if plain is None:
        plain = GENERAL_READS.isdisjoint(exchange.fields)
        remember(exchange.memo, READ_MEMO, plain)
    return plain is True


def _put_head(exchange: Exchange) -> _PutHead | None:
    """Return what the head of a plain put says; None if it is not a plain one. Raises BadRequest and TooLarge."""
    known = exchange.memo.get(PUT_MEMO)
    if type(known) is _PutHead:
        return known
    fields = exchange.fields
    if not GENERAL_WRITES.isdisjoint(fields):
        return None
    when, digests = write_conditions(fields), promised_digests(fields)
    head = _PutHead(object_headers(fields), when, not when.empty, digests)
    remember(exchange.memo, PUT_MEMO, head)
    return head


def _fail(exchange: Exchange, error: Exception | None) -> None:
    if isinstance(error, FlareError):
        JSON_ERRORS.answer_in_turn(exchange, error)
    else:
        exchange.fail(error)
