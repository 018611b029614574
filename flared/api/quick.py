"""Quick: the small calls on objects that are answered in turns, without a task each; for every face.

Each begins one verb, and answers when the verb is done. How a face reads a head and words an answer is in its
``Words``. What is not the plain case of a call is left to the general way, which has every case; so is what a verb
hands back. ``entry`` has let the caller in before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from flared.api.signed import once_of
from flared.catalog.buckets import find_bucket_nowait
from flared.catalog.objects import find_current, find_object_nowait
from flared.errors import FlareError, Replayed
from flared.objects.commit import Target, check_size, with_sums
from flared.objects.conditions import check_write
from flared.objects.delete import begin_delete
from flared.objects.digests import NO_DIGESTS, BodyDigests
from flared.objects.small_get import SmallGets
from flared.objects.small_put import begin_put, digest_of_small

if TYPE_CHECKING:
    from flared.api.errors import ErrorAnswers
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
"""Fields with which a read is not the plain case."""


class PutHead(NamedTuple):
    """The facts about the object in the head of a put."""

    headers: ObjectHeaders
    when: Conditions
    digests: Digests


class Words(Protocol):
    """How a face reads the heads of small calls, and words their answers."""

    errors: ErrorAnswers

    def is_plain_read(self, exchange: Exchange) -> bool:
        """Return whether the head asks for the whole object, without conditions."""

    def read_put(self, exchange: Exchange) -> PutHead | None:
        """Return what the head of a plain put says; None if it is not a plain one. Raises Refused.

        It may compute ``exchange.sha256``, and refuse a body that is not the one signed.
        """

    def read_delete(self, exchange: Exchange) -> Conditions | None:
        """Return the conditions of a plain delete; None if it is not a plain one. Raises Refused."""

    def object_lines(self, exchange: Exchange, manifest: Manifest) -> bytes:
        """Return the field lines of the answer to a read."""

    def put_answer(self, exchange: Exchange, result: PutResult) -> tuple[int, bytes, bytes]:
        """Return status, field lines and body of the answer to a put."""

    def delete_lines(self, exchange: Exchange, deletion: Deletion) -> bytes:
        """Return the field lines of the answer to a delete."""


class Quick:
    """The calls of a face; each has the contract of ``http.exchange.QuickHandler.begin``."""

    def __init__(self, store: Store, words: Words) -> None:
        self._store = store
        self._words = words
        self._gets = SmallGets(store)

    def get(self, exchange: Exchange, name: ObjectName) -> bool:
        words = self._words
        if exchange.body or not words.is_plain_read(exchange):
            return False

        def done(manifest: Manifest | None, plain: bytes | memoryview, error: FlareError | None) -> None:
            if error is not None:
                words.errors.answer_in_turn(exchange, error)
            elif manifest is None:
                exchange.hand_over()
            else:
                try:
                    head = words.object_lines(exchange, manifest)
                except Exception as bug:  # no one else would end the request
                    return exchange.fail(bug)
                exchange.bucket = name.bucket
                exchange.send(200, head, plain)
            return None

        self._gets.begin(name, done, exchange.request_id)
        return True

    def head(self, exchange: Exchange, name: ObjectName) -> bool:
        if not self._words.is_plain_read(exchange):
            return False
        manifest = find_object_nowait(self._store.kv, name)
        exchange.bucket = name.bucket
        exchange.send(200, self._words.object_lines(exchange, manifest), length=manifest.size)
        return True

    def put(self, exchange: Exchange, name: ObjectName) -> bool:
        store, words, plain = self._store, self._words, exchange.body
        if not plain:
            return False
        head = words.read_put(exchange)
        if head is None:
            return False
        headers, when, digests = head
        bucket = find_bucket_nowait(store.kv, name.bucket)
        if len(plain) > bucket.chunk_size:
            return False
        if not when.empty:  # refused before a byte is sent; the transaction decides
            current = find_current(store.kv, name)
            check_write(when, current.etag if current else None)
        check_size(store, len(plain))
        digest = exchange.sha256 or digest_of_small(plain)
        target, etag = Target(store, bucket, name, headers, when, once_of(exchange)), ""
        if digests is not NO_DIGESTS:
            passing = BodyDigests(digests)
            passing.update(plain, sha256=digest)
            sums = passing.finish()
            target, etag = with_sums(target, sums), sums.etag

        def done(result: PutResult | None, error: Exception | None) -> None:
            if result is None:
                return self._fail(exchange, error)
            try:
                answer = words.put_answer(exchange, result)
            except Exception as bug:  # no one else would end the request
                return exchange.fail(bug)
            exchange.bucket = name.bucket
            return exchange.send(*answer)

        put = begin_put(target, bytes(plain), digest, done, request=exchange.request_id, etag=etag)
        exchange.left = put.give_up
        return True

    def delete(self, exchange: Exchange, name: ObjectName) -> bool:
        words = self._words
        if exchange.body:
            return False
        when = words.read_delete(exchange)
        if when is None:
            return False

        def done(deletion: Deletion | None, error: Exception | None) -> None:
            if deletion is None:
                return self._fail(exchange, error)
            try:
                lines = words.delete_lines(exchange, deletion)
            except Exception as bug:  # no one else would end the request
                return exchange.fail(bug)
            exchange.bucket = name.bucket
            return exchange.send(204, lines)

        begin_delete(self._store, name, when, done, once=once_of(exchange))
        return True

    def _fail(self, exchange: Exchange, error: Exception | None) -> None:
        if isinstance(error, Replayed):
            exchange.hand_over()  # a task refuses it again, where a refusal is noted
        elif isinstance(error, FlareError):
            self._words.errors.answer_in_turn(exchange, error)
        else:
            exchange.fail(error)
