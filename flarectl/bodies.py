"""Bodies of objects, to and from the API: on trio and Flare's own HTTP client, which reads into the caller's buffers.

Measured against httpx: three times as fast for a download (7 GB/s from memory); an upload waits for its digests anyway.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Protocol, TypeVar
from urllib.parse import urlsplit

from trio import sleep

from flarectl import calls
from flarectl.answers import (
    MTIME,
    ObjectInfo,
    PutResult,
    parse_info,
    parse_put,
)
from flarectl.calls import Read
from flarectl.errors import Failure, NotFound, Temporary, from_flare, from_reply
from flarectl.profile import tls_context, unreachable, untrusted, uses_tls
from flarectl.proof import CHUNKS_IN_TRAILER, EMPTY_SHA256, IN_TRAILER, Proof, find_proof
from flarectl.request_ids import REQUEST_FIELD, new_request_id
from flarectl.retry import Attempts, Retries
from flarectl.target import Target, is_prefix, object_path
from flared.errors import ConnectionLost, FlareError, leaves
from flared.http.json_body import parse_json
from flared.http.messages import Body
from flared.http.pool import BodyProducer, Pool, PoolSettings, Response
from flared.http.stream import Buffer, Stream, connect_tcp
from flared.http.tls import connect_tls

T = TypeVar("T")

ANSWER_BYTES_MAX = 4 * 1024 * 1024
STALL_SECONDS = 30.0


class DigestedProducer(BodyProducer, Protocol):
    """A body that is digested while it is produced."""

    @property
    def by_chunks(self) -> bool:
        """Return whether its digest is that of the digests of its chunks."""

    def sha256(self) -> str:
        """Return the SHA-256 of the whole, or of the digests of its chunks, in hex; after the end."""


class SignedProducer:
    """The same body, sent in chunks with its signed digest behind it."""

    length: int | None = None

    def __init__(self, body: DigestedProducer, proof: Proof, head: Mapping[str, str]) -> None:
        self._body = body
        self._proof = proof
        self._head = head

    async def next(self) -> Buffer | None:
        return await self._body.next()

    def trailer(self) -> list[tuple[str, str]]:
        body = self._body
        return list(self._proof.trailer(self._head, body.sha256(), by_chunks=body.by_chunks).items())


class Bodies:
    """The body calls of one endpoint, over a few persistent connections. All methods raise Failure."""

    def __init__(self, endpoint: str, connections: int, retries: Retries) -> None:
        self.endpoint = endpoint
        self._retries = retries
        url = urlsplit(endpoint)
        host = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname
        settings = PoolSettings(connections_max=connections, stall_seconds=STALL_SECONDS)
        self._tls = tls_context() if uses_tls(endpoint) else None
        self._host = f"{host}:{url.port or (443 if self._tls else 80)}"
        self._pool = Pool(self._host, settings, self._connect)
        self._proof = find_proof()

    @property
    def signs(self) -> bool:
        """Return whether bodies are signed."""
        return self._proof.signs

    def close(self) -> None:
        self._pool.close()

    def attempts(self) -> Attempts:
        """Return the counter of one call's attempts, for ``rest``."""
        return self._retries.begin()

    async def rest(self, failure: Failure, attempts: Attempts) -> None:
        """Wait before the next attempt of a call, or raise its failure if it may not be repeated again."""
        await sleep(attempts.rest_seconds(failure))

    @asynccontextmanager
    async def get(
        self, target: Target, *, etag: str = "", span: tuple[int, int] | None = None
    ) -> AsyncIterator[tuple[ObjectInfo, Body]]:
        """Yield the object's body, or its bytes ``span`` (start, end). Raise Exists if its ETag is not ``etag``."""
        asked = {"if-match": etag} if etag else {}
        if span:
            asked["range"] = f"bytes={span[0]}-{span[1] - 1}"
        path = target.path()
        fields, request = self._fields("GET", path, asked)
        with self._failures(request):
            async with self._pool.request("GET", path, fields, repeatable=True) as response:
                await self._check(response)
                self._retries.succeeded()
                if span and response.status != 206:
                    raise Temporary(f"{target}: asked for a part of it, got an answer of another kind")
                yield parse_info(response.fields), response.body

    async def head(self, target: Target) -> ObjectInfo:
        """Raise NotFound or NoBucket if it does not exist."""
        path = target.path()

        async def ask() -> ObjectInfo | None:
            fields, request = self._fields("HEAD", path)
            with self._failures(request):
                async with self._pool.request("HEAD", path, fields, repeatable=True) as response:
                    self._retries.replied()
                    return parse_info(response.fields) if response.status == 200 else None
            raise AssertionError  # mypy cannot see that the context above raises or returns

        if found := await self._retried(ask):
            return found
        raise await self.read(calls.why_missing(target))

    async def head_named(self, target: Target, advice: str) -> ObjectInfo:
        """As ``head``, for a name that a person typed. Raise Usage with the advice if it is a prefix."""
        try:
            return await self.head(target)
        except NotFound:
            if (await self.read(calls.keys_below(target))).objects:
                raise is_prefix(target, advice) from None
            raise

    async def put(
        self, target: Target, asked: Mapping[str, str], body: Sequence[Buffer] | DigestedProducer, sha256: str = ""
    ) -> PutResult:
        """Store a body; ``sha256``, in hex, is needed unless it is a producer. It is sent only once: repeating it is
        the caller's decision."""
        path = object_path(target.bucket, target.object_key())
        signs = self._proof.signs
        sent: Sequence[Buffer] | BodyProducer = body
        if isinstance(body, Sequence):
            if not signs:
                asked = {**asked, "x-flare-content-sha256": sha256}
        elif signs:
            sha256 = CHUNKS_IN_TRAILER if body.by_chunks else IN_TRAILER
        fields, request = self._fields("PUT", path, asked, sha256)
        if not isinstance(body, Sequence) and signs:
            sent = SignedProducer(body, self._proof, dict(fields))
        with self._failures(request):
            async with self._pool.request("PUT", path, fields, sent) as response:
                result = parse_put(await self._decode(response))
                self._retries.succeeded()
                return result
        raise AssertionError  # as above

    async def read(self, call: Read[T]) -> T:
        """Send a call and parse its answer."""

        async def ask() -> object:
            fields, request = self._fields("GET", call.path, call.fields)
            with self._failures(request):
                async with self._pool.request("GET", call.path, fields, repeatable=True) as response:
                    return await self._decode(response)
            raise AssertionError  # as above

        return call.parse(await self._retried(ask))

    async def _decode(self, response: Response) -> object:
        await self._check(response)
        try:
            answer: object = parse_json(await response.body.read_all(ANSWER_BYTES_MAX))
        except ValueError:
            return None
        return answer

    async def _check(self, response: Response) -> None:
        """Raise the Failure for the reply unless it is a success."""
        self._retries.replied()
        if response.status < 300:
            return
        body = await response.body.read_all(ANSWER_BYTES_MAX)
        retry_after = response.fields.get("retry-after", "")
        raise from_reply(self.endpoint, response.status, body, retry_after=retry_after)

    async def _retried(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Return what ``ask`` returns; repeat it after a temporary failure."""
        attempts = self.attempts()
        while True:
            try:
                return await ask()
            except Temporary as failure:
                await self.rest(failure, attempts)

    def _fields(
        self, method: str, target: str, asked: Mapping[str, str] | None = None, sha256: str = EMPTY_SHA256
    ) -> tuple[list[tuple[str, str]], str]:
        """Return the fields of one attempt of a call, with those that say who makes it, and the request id."""
        request = new_request_id()
        fields = {REQUEST_FIELD: request, **(asked or {})}
        fields |= self._proof.fields(method, target, self._host, fields, sha256)
        return list(fields.items()), request

    @contextmanager
    def _failures(self, request: str) -> Iterator[None]:
        try:
            yield
        except FlareError as error:
            raise from_flare(error, request_id=request) from None

    async def _connect(self, address: str) -> Stream:
        try:
            stream = await connect_tls(address, self._tls) if self._tls else await connect_tcp(address)
        except ConnectionLost as error:
            if reason := getattr(error.__cause__, "verify_message", ""):
                raise untrusted(self.endpoint, reason) from None
            raise unreachable(self.endpoint, _reason(error)) from None
        self._retries.reached()
        return stream


def _reason(error: BaseException | None) -> str:
    """Return the operating system's text for the error, from where trio has put it."""
    while error is not None:
        if isinstance(error, BaseExceptionGroup):
            error = leaves(error)[0]
        elif isinstance(error, OSError) and error.errno:
            # Trio rewrites the text; and names that do not resolve have error numbers of their own.
            return os.strerror(error.errno) if error.errno > 0 else str(error.strerror)
        else:
            error = error.__cause__
    return ""


def mtime_fields(mtime_ns: int) -> dict[str, str]:
    """Return the fields that carry a file's modification time, written as rclone does."""
    seconds, nanoseconds = divmod(abs(mtime_ns), 1_000_000_000)
    return {f"x-flare-meta-{MTIME}": f"{'-' if mtime_ns < 0 else ''}{seconds}.{nanoseconds:09d}"}
