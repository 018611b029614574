"""Quick: the small calls on objects that are answered in turns, without a task each.

Each parses, begins one verb, and answers when the verb is done. Whatever is not the plain case of a call (a query, a
range, conditions of a read, a form, a copy) is left to ``native``, which has every case; so is what a verb hands back.
Errors are those of the same table. Pure bookkeeping of requests is ``face``'s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from flared.api.errors import answer_error_in_turn
from flared.api.headers import manifest_head, object_headers, promised_digests, write_conditions
from flared.api.native import COPY_SOURCE, put_reply
from flared.catalog.buckets import find_bucket_nowait
from flared.catalog.objects import find_current, find_object_nowait
from flared.chunks.chunk import INLINE_DIGEST_MAX
from flared.errors import FlareError
from flared.http.percent import decode
from flared.log import next_request
from flared.names import DEFAULT_BUCKET, REQUEST_FIELD, ObjectName, is_request_id, parse_bucket, parse_key
from flared.objects.commit import Target, check_size
from flared.objects.conditions import check_write
from flared.objects.delete import begin_delete
from flared.objects.digests import NO_DIGESTS, BodyDigests
from flared.objects.small_get import SmallGets
from flared.objects.small_put import begin_put, digest_of_small

if TYPE_CHECKING:
    from flared.access.door import Door
    from flared.catalog.manifest import Manifest
    from flared.http.exchange import Exchange
    from flared.names import BucketName
    from flared.objects.commit import PutResult
    from flared.objects.store import Store

OBJECT = "/object/"
BUCKET = "/bucket/"

GENERAL_READS = frozenset(
    {"range", "if-range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since"}
)
GENERAL_WRITES = frozenset({COPY_SOURCE, "content-range"})

Call = Callable[["Exchange", ObjectName], bool]


class Quick:
    """Is a ``http.exchange.QuickHandler``. ``count`` hears of each reply."""

    body_bytes_max = INLINE_DIGEST_MAX

    def __init__(self, store: Store, door: Door, count: Callable[[Exchange, int], None]) -> None:
        self._store = store
        self._door = door
        self._gets = SmallGets(store)
        self._calls: dict[str, Call] = {
            "GET": self._get,
            "HEAD": self._head,
            "PUT": self._put,
            "DELETE": self._delete,
        }
        self.answered = count

    def begin(self, exchange: Exchange) -> bool:
        call = self._calls.get(exchange.method)
        path = exchange.path
        if call is None or exchange.query:
            return False
        if path.startswith(OBJECT):
            raw_bucket, raw_key = "", path[len(OBJECT) :]
        else:
            raw_bucket, _, raw_key = path[len(BUCKET) :].partition("/object/")
            if not raw_bucket or "/" in raw_bucket or not path.startswith(BUCKET):
                return False
        if not raw_key:
            return False
        asked = exchange.fields.get(REQUEST_FIELD)
        exchange.request_id = asked if asked is not None and is_request_id(asked) else next_request()
        try:
            exchange.prove(self._door.check(exchange.method, path, exchange.peer, exchange.fields))
            bucket: BucketName = parse_bucket(decode(raw_bucket)) if raw_bucket else DEFAULT_BUCKET
            return call(exchange, ObjectName(bucket, parse_key(decode(raw_key))))
        except FlareError as error:
            answer_error_in_turn(exchange, error)
            return True

    def _get(self, exchange: Exchange, name: ObjectName) -> bool:
        if exchange.body or not GENERAL_READS.isdisjoint(exchange.fields):
            return False

        def done(manifest: Manifest | None, plain: bytes | memoryview, error: FlareError | None) -> None:
            if error is not None:
                answer_error_in_turn(exchange, error)
            elif manifest is None:
                exchange.hand_over()
            else:
                exchange.bucket = name.bucket
                exchange.send(200, manifest_head(manifest), plain)

        self._gets.begin(name, done, exchange.request_id)
        return True

    def _head(self, exchange: Exchange, name: ObjectName) -> bool:
        if not GENERAL_READS.isdisjoint(exchange.fields):
            return False
        manifest = find_object_nowait(self._store.kv, name)
        exchange.bucket = name.bucket
        exchange.send(200, manifest_head(manifest), length=manifest.size)
        return True

    def _put(self, exchange: Exchange, name: ObjectName) -> bool:
        fields, store, plain = exchange.fields, self._store, exchange.body
        if not plain or not GENERAL_WRITES.isdisjoint(fields):
            return False
        when, digests = write_conditions(fields), promised_digests(fields)
        bucket = find_bucket_nowait(store.kv, name.bucket)
        if len(plain) > bucket.chunk_size:
            return False
        if not when.empty:  # refused before a byte is sent; the transaction decides
            current = find_current(store.kv, name)
            check_write(when, current.etag if current else None)
        check_size(store, len(plain))
        if digests is not NO_DIGESTS:
            passing = BodyDigests(digests)
            passing.update(memoryview(plain))
            passing.check()
        target = Target(store, bucket, name, object_headers(fields), when)

        def done(result: PutResult | None, error: Exception | None) -> None:
            if result is not None:
                exchange.bucket = name.bucket
                exchange.send(*put_reply(result))
            else:
                _fail(exchange, error)

        put = begin_put(target, bytes(plain), digest_of_small(plain), done, request=exchange.request_id)
        exchange.left = put.give_up
        return True

    def _delete(self, exchange: Exchange, name: ObjectName) -> bool:
        if exchange.body:
            return False

        def done(_: bool | None, error: Exception | None) -> None:
            if error is None:
                exchange.bucket = name.bucket
                exchange.send(204, b"")
            else:
                _fail(exchange, error)

        begin_delete(self._store, name, write_conditions(exchange.fields), done)
        return True


def _fail(exchange: Exchange, error: Exception | None) -> None:
    if isinstance(error, FlareError):
        answer_error_in_turn(exchange, error)
    else:
        exchange.fail(error)
