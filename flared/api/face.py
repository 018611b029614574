"""Face: from a request's path and method to one call, and from what it raises to an answer.

Objects come first and without a table of patterns: a 4 KiB GET has 25 us in all on the api node.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from time import perf_counter
from typing import TYPE_CHECKING

from flared.api.errors import answer_error, send_error
from flared.errors import FlareError
from flared.http.messages import Reply, Request
from flared.http.parsing import METHODS
from flared.http.percent import decode
from flared.log import current_request, next_request
from flared.metrics import OTHER_BUCKETS, Durations, Histogram, Metric, Sample
from flared.names import (
    DEFAULT_BUCKET,
    REQUEST_FIELD,
    BucketName,
    ObjectName,
    is_request_id,
    parse_bucket,
    parse_key,
)

if TYPE_CHECKING:
    from flared.access.door import Door
    from flared.api.admin import Admin
    from flared.api.joining import Joining
    from flared.api.metadata import MetadataCalls
    from flared.api.native import Native
    from flared.api.orphans import OrphanCalls
    from flared.http.exchange import Exchange

PlainCall = Callable[[Request, Reply], Awaitable[None]]
BucketCall = Callable[[Request, Reply, BucketName], Awaitable[None]]
ObjectCall = Callable[[Request, Reply, ObjectName], Awaitable[None]]

OBJECT = "/object/"
BUCKET = "/bucket/"
BUCKET_SERIES_MAX = 400
METHOD_NAMES = frozenset(METHODS.values())
OTHER_METHODS = "_other"
"""The label of every method that HTTP does not define: a stranger can think of any number of them."""


class Face:
    """The handler of the api node's HTTP server, with its counters."""

    def __init__(
        self,
        native: Native,
        admin: Admin,
        joining: Joining,
        orphans: OrphanCalls,
        metadata: MetadataCalls,
        door: Door,
    ) -> None:
        self._door = door
        self._object_calls: dict[str, ObjectCall] = {
            "GET": native.get,
            "HEAD": native.head,
            "PUT": native.put,
            "POST": native.post,
            "DELETE": native.delete,
        }
        self._collection_calls: dict[str, BucketCall] = {
            "GET": native.list_objects,
            "HEAD": native.list_objects,
            "POST": native.post_form,
        }
        self._bucket_calls: dict[str, BucketCall] = {
            "GET": native.list_objects,
            "HEAD": native.list_objects,
            "PUT": native.create_bucket,
            "DELETE": native.remove_bucket,
        }
        self._plain_calls: dict[str, dict[str, PlainCall]] = {
            "/bucket": {"GET": native.list_buckets, "HEAD": native.list_buckets},
            **admin.calls(),
            **joining.calls(),
            **orphans.calls(),
            **metadata.calls(),
        }
        self._counts: dict[tuple[str, int], int] = {}
        self._durations: dict[str, Histogram] = {}
        self._in_buckets: dict[tuple[str, str], int] = {}

    async def answer(self, request: Request, reply: Reply) -> None:
        """Answer one request. Only ConnectionLost and bugs come out of here."""
        asked = request.fields.get(REQUEST_FIELD)
        current_request.set(asked if asked is not None and is_request_id(asked) else next_request())
        began = perf_counter()
        try:
            path = request.path
            reply.prove(self._door.check(request.method, path, request.peer, request.fields))
            if path.startswith(OBJECT) and len(path) > len(OBJECT):
                await self._answer_object(request, reply, DEFAULT_BUCKET, path[len(OBJECT) :])
            else:
                await self._answer_other(request, reply, path)
        except FlareError as error:
            await answer_error(request, reply, error)
        except ExceptionGroup as group:
            # A nursery below: if it failed for reasons we know, the first of them is the answer.
            cause = _known_cause(group)
            if cause is None:
                raise
            await answer_error(request, reply, cause)
        finally:
            self._count(request.method, reply.status, perf_counter() - began)

    async def _answer_object(self, request: Request, reply: Reply, bucket: BucketName, raw_key: str) -> None:
        call = self._object_calls.get(request.method)
        if call is None:
            await _refuse_method(reply, request.method, self._object_calls)
        else:
            await call(request, reply, ObjectName(bucket, parse_key(decode(raw_key))))
            self._count_in_bucket(bucket, request.method)

    async def _answer_other(self, request: Request, reply: Reply, path: str) -> None:
        if path == OBJECT:
            return await self._answer_bucket(request, reply, DEFAULT_BUCKET, self._collection_calls)
        if path.startswith(BUCKET) and len(path) > len(BUCKET):
            return await self._answer_in_bucket(request, reply, path)
        calls = self._plain_calls.get(path)
        if calls is None:
            return await send_error(reply, 404, "NoSuchPath", f"there is no call at {path[:200]}; see docs/http-api.md")
        call = calls.get(request.method)
        if call is None:
            return await _refuse_method(reply, request.method, calls)
        return await call(request, reply)

    async def _answer_in_bucket(self, request: Request, reply: Reply, path: str) -> None:
        raw_bucket, slash, rest = path[len(BUCKET) :].partition("/")
        if slash and rest and not rest.startswith("object/"):
            message = f"in a bucket there is only object/, not {rest[:200]}"
            return await send_error(reply, 404, "NoSuchPath", message)
        bucket = parse_bucket(decode(raw_bucket))
        raw_key = rest.removeprefix("object/")
        if raw_key:
            return await self._answer_object(request, reply, bucket, raw_key)
        return await self._answer_bucket(request, reply, bucket, self._collection_calls if rest else self._bucket_calls)

    async def _answer_bucket(
        self, request: Request, reply: Reply, bucket: BucketName, calls: Mapping[str, BucketCall]
    ) -> None:
        call = calls.get(request.method)
        if call is None:
            await _refuse_method(reply, request.method, calls)
        else:
            await call(request, reply, bucket)
            self._count_in_bucket(bucket, request.method)

    def count_quick(self, exchange: Exchange, status: int) -> None:
        """Count a reply that ``quick`` gave, as if it had come this way."""
        self._count(exchange.method, status, perf_counter() - exchange.began)
        if exchange.bucket:
            self._count_in_bucket(exchange.bucket, exchange.method)

    def _count(self, method: str, status: int, seconds: float) -> None:
        if method not in METHOD_NAMES:
            method = OTHER_METHODS
        key = (method, status)
        self._counts[key] = self._counts.get(key, 0) + 1
        durations = self._durations.get(method)
        if durations is None:
            durations = self._durations[method] = Histogram()
        durations.observe(seconds)

    def _count_in_bucket(self, bucket: str, method: str) -> None:
        """Called only after success, so that no one makes labels of names that are not there."""
        key = (bucket, method)
        count = self._in_buckets.get(key)
        if count is None and len(self._in_buckets) >= BUCKET_SERIES_MAX:
            key = (OTHER_BUCKETS, method)
            count = self._in_buckets.get(key)
        self._in_buckets[key] = (count or 0) + 1

    def metrics(self) -> list[Metric | Durations]:
        answers = [Sample(count, (method, str(status))) for (method, status), count in self._counts.items()]
        return [
            Metric(
                "flare_requests_total",
                "Requests answered; status 0: the client was gone.",
                answers,
                ("method", "status"),
            ),
            Durations(
                "flare_request_seconds",
                "From the head of a request to the end of its reply.",
                "method",
                self._durations,
            ),
            Metric(
                "flare_bucket_requests_total",
                "Requests about a bucket or its objects that succeeded.",
                [Sample(count, key) for key, count in self._in_buckets.items()],
                ("bucket", "method"),
            ),
        ]


async def _refuse_method(reply: Reply, method: str, calls: Mapping[str, object]) -> None:
    allowed = ", ".join(calls)
    message = f"{method} is not possible here; possible are {allowed}"
    await send_error(reply, 405, "BadMethod", message, f"allow: {allowed}\r\n".encode())


def _known_cause(group: ExceptionGroup[Exception]) -> FlareError | None:
    known, unknown = group.split(FlareError)
    if known is None or unknown is not None:
        return None
    cause: Exception = known
    while isinstance(cause, ExceptionGroup):
        cause = cause.exceptions[0]
    assert isinstance(cause, FlareError)
    return cause
