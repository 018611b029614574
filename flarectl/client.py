"""One method per call of the API, as ``calls.py`` words them. Bodies of objects travel in ``bodies.py``.

On http.client: loading httpx takes as long again as the whole rest of a listing.
"""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from socket import SHUT_RDWR
from typing import TYPE_CHECKING, Self, TypeVar
from urllib.parse import urlsplit

from flarectl import calls
from flarectl.answers import (
    Bucket,
    ChunkPage,
    Entry,
    FailureCost,
    HeldOrphans,
    Invite,
    Key,
    Listing,
    MetadataAge,
    ObjectInfo,
    PutResult,
    RemovalCost,
    Status,
    VersionPage,
    parse_info,
    parse_invite,
    parse_key,
    parse_put,
    parse_status,
)
from flarectl.calls import CHUNK_PAGE, KEYS_PAGE, Read, with_query
from flarectl.errors import Exists, Failure, NotFound, Temporary, Unreachable, from_reply
from flarectl.profile import secret_fields_of, tls_context, unreachable, untrusted, uses_tls
from flarectl.proof import Proof, SecretProof, find_proof
from flarectl.request_ids import REQUEST_FIELD, new_request_id
from flarectl.retry import Attempts, Retries
from flarectl.target import Target, is_prefix, object_path
from flared.http.json_body import parse_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

    from flared.names import BucketName

T = TypeVar("T")

TIMEOUT_SECONDS = 30.0
CONNECT_SECONDS = 5.0
ANSWER_BYTES_MAX = 64 * 1024 * 1024
RETRIED = (429, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class ApiReply:
    status: int
    fields: Mapping[str, str]
    """Lower-case names."""
    content: bytes

    def decode(self) -> object:
        """Return the body's JSON; None if it is not JSON."""
        try:
            answer: object = parse_json(self.content)
        except ValueError:
            return None
        return answer


class Client:
    """The API of one endpoint. Its methods block and may be called from several threads; all raise Failure.

    A read that fails temporarily is repeated as ``retries`` allows; a change only if they are patient.
    """

    def __init__(self, endpoint: str, retries: Retries | None = None) -> None:
        self.endpoint = endpoint
        self._retries = retries or Retries()
        self._host = urlsplit(endpoint)
        self._proof = find_proof()
        self._local = threading.local()
        self._connections: list[HTTPConnection] = []
        self._aborted = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection in self._connections:
            connection.close()

    def stop_retrying(self) -> None:
        """Give up calls that failed temporarily; calls that wait for an answer go on."""
        self._retries.stop()

    def abort(self) -> None:
        """Break the calls that wait for an answer, and those that begin now."""
        self._aborted = True
        self._retries.stop()
        for connection in self._connections:
            if connection.sock is not None:
                with suppress(OSError):
                    connection.sock.shutdown(SHUT_RDWR)

    def list_page(self, target: Target, *, delimiter: str = "", after: str = "", limit: int = KEYS_PAGE) -> Listing:
        """Return keys of the bucket that begin with the target's key; with a delimiter, only up to it."""
        return self.read(calls.keys(target, delimiter=delimiter, after=after, limit=limit))

    def list_pages(self, target: Target, *, delimiter: str = "") -> Iterator[Listing]:
        """Yield all pages; each is requested when it is needed."""
        page = self.list_page(target, delimiter=delimiter)
        yield page
        while page.next:
            page = self.list_page(target, delimiter=delimiter, after=page.next)
            yield page

    def version_pages(self, target: Target, *, delimiter: str = "") -> Iterator[VersionPage]:
        """Yield all pages of the versions of the objects whose keys begin with the target's key."""
        after: tuple[str, int] | None = ("", 0)
        while after is not None:
            page = self.read(calls.versions(target, delimiter=delimiter, after=after))
            yield page
            after = page.next

    def list_objects(self, target: Target) -> Iterator[Entry]:
        """Yield all objects whose key begins with the target's key."""
        for page in self.list_pages(target):
            yield from page.objects

    def head(self, target: Target) -> ObjectInfo:
        """Raise NotFound or NoBucket if it does not exist."""
        reply = self._send_again("HEAD", target.path())
        if reply.status != 200:
            raise self.read(calls.why_missing(target))
        return parse_info(reply.fields)

    def head_named(self, target: Target, advice: str) -> ObjectInfo:
        """As ``head``, for a name that a person typed. Raise Usage with the advice if it is a prefix."""
        try:
            return self.head(target)
        except NotFound as failure:
            raise self.explain_missing(target, failure, advice) from None

    def explain_missing(self, target: Target, failure: NotFound, advice: str) -> Failure:
        """Return the failure, or one that says that ``target`` is a prefix, if there are objects below it."""
        return is_prefix(target, advice) if self.read(calls.keys_below(target)).objects else failure

    def find(self, target: Target) -> ObjectInfo | None:
        """As ``head``, but return None if the object does not exist."""
        try:
            return self.head(target)
        except NotFound:
            return None

    def delete(self, target: Target, *, if_match: str = "") -> None:
        """Succeed also if it does not exist. Raise Exists if its ETag is not ``if_match``."""
        fields = {"if-match": if_match} if if_match else {}
        attempts = self._retries.begin()
        try:
            self._change("DELETE", target.path(), fields, attempts)
        except Exists:
            # An earlier attempt, whose answer was lost, may have deleted it.
            if attempts.number == 1 or self.find(target):
                raise

    def copy(self, source: Target, target: Target, *, if_not_exists: bool = False) -> PutResult:
        """Copy on the cluster: no body travels. Raise Exists if the target exists and may not be replaced."""
        fields = {"x-flare-copy-source": object_path(source.bucket, source.object_key())}
        if if_not_exists:
            fields["if-none-match"] = "*"
        return parse_put(self._change("PUT", object_path(target.bucket, target.object_key()), fields))

    def chunk_page(self, target: Target, *, after: int = 0, etag: str = "", limit: int = CHUNK_PAGE) -> ChunkPage:
        """Return the chunks from number ``after`` on. Raise Exists if the object's ETag is no longer ``etag``."""
        return self.read(calls.chunks(target, after=after, etag=etag, limit=limit))

    def buckets(self) -> list[Bucket]:
        return self.read(calls.buckets())

    def create_bucket(self, name: str, settings: Mapping[str, object]) -> bool:
        """Return True if it is new, False if it existed with these settings."""
        content = json.dumps(settings).encode() if settings else b""
        return self._checked(self._send("PUT", f"/bucket/{name}", content=content)).status == 201

    def change_bucket(self, name: str, changes: Mapping[str, object]) -> None:
        """Change who may do what in a bucket. Raise NoBucket if it does not exist."""
        self._checked(self._send("POST", f"/bucket/{name}", content=json.dumps(changes).encode()))

    def remove_bucket(self, name: BucketName) -> None:
        """Raise Refusal while it holds objects, NoBucket if it does not exist."""
        # The removal itself succeeds for a bucket that does not exist, so look for it first.
        self.list_page(Target(name, ""), limit=1)
        self._change("DELETE", f"/bucket/{name}")

    def status(self) -> tuple[Status, object]:
        """Return the cluster's status, parsed and as the server wrote it."""
        reply = self._send_again("GET", "/status")
        # A cluster that is down may send its status with a 503; it is a status all the same.
        answer = reply.decode()
        if isinstance(answer, dict) and "health" in answer:
            return parse_status(answer), answer
        self._checked(reply)
        return parse_status(answer), answer

    def failure_cost(self, node: str) -> FailureCost:
        """Return what a failure of this data node would cost. Takes up to a quarter of a minute."""
        return self.read(calls.failure_cost(node))

    def removal_cost(self, node: str) -> RemovalCost:
        """Return what removing this data node, which is away, would cost. Takes up to a quarter of a minute."""
        return self.read(calls.removal_cost(node))

    def remove_node(self, node: str, *, force: bool) -> str:
        """Remove a data node that is gone; return ``removing`` or ``removed``. Raise Refusal while it is needed."""
        params = {"node": node} | ({"force": "1"} if force else {})
        answer = self._checked(self._send("DELETE", "/cluster/node", params)).decode()
        return str(answer.get("state")) if isinstance(answer, dict) else ""

    def held_orphans(self, node: str) -> tuple[HeldOrphans, object]:
        """Return the orphans held back on this data node, parsed and as the server wrote them."""
        return self.read(calls.held_orphans(node))

    def allow_orphans(self, node: str, pieces: int) -> object:
        """Allow the deletion of so many held orphans. Raise Refusal if none are held back."""
        return self._checked(self._send("DELETE", "/cluster/orphans", {"node": node, "pieces": str(pieces)})).decode()

    def metadata_age(self) -> MetadataAge:
        """Return which data nodes have seen newer metadata than this api node has."""
        return self.read(calls.metadata_age())

    def accept_metadata(self) -> object:
        """Make the api node go on with metadata that is older than it should be. Raise Refusal if it is not."""
        return self._checked(self._send("PUT", "/cluster/metadata", {})).decode()

    def readmit_node(self, node: str) -> None:
        """Let a removed data node return. Raise Refusal if no node of this name was removed."""
        self._checked(self._send("PUT", "/cluster/node", {"node": node}))

    def invite(self, secret: bytes, *, node: str, valid_seconds: int) -> Invite:
        """Create an invite for one host, to be used once: any host, or the one whose node has this name."""
        asked = json.dumps({"node": node, "valid_seconds": valid_seconds}).encode()
        reply = self._send("POST", "/cluster/invite", None, secret_fields_of(secret), content=asked)
        return parse_invite(self._checked(reply).decode())

    def prove(self, secret: bytes) -> None:
        """Show from now on that we know this secret of the cluster."""
        self._proof = SecretProof(secret)

    @property
    def proves(self) -> bool:
        """Report whether calls show a secret or are signed, so that more than everybody may do is allowed perhaps."""
        return type(self._proof) is not Proof

    def access_keys(self) -> list[Key]:
        """Return the access keys, by name."""
        return self.read(calls.access_keys())

    def access_key(self, name: str) -> Key:
        """Raise NotFound if there is none of this name."""
        return self.read(calls.access_key(name))

    def create_key(self, name: str, grants: Sequence[str], expires: float | None) -> Key:
        """Return the new key with its secret. Raise Refusal if the name is taken."""
        asked = json.dumps({"name": name, "grants": list(grants), "expires": expires}).encode()
        return parse_key(self._checked(self._send("POST", "/cluster/key", content=asked)).decode())

    def rotate_key(self, name: str, grace_seconds: int) -> Key:
        """Return the key with its new id and secret. Raise NotFound if there is none of this name."""
        asked = json.dumps({"grace_seconds": grace_seconds}).encode()
        return parse_key(self._checked(self._send("PUT", "/cluster/key", {"name": name}, content=asked)).decode())

    def remove_key(self, name: str) -> None:
        """Raise NotFound if there is none of this name."""
        self._checked(self._send("DELETE", "/cluster/key", {"name": name}))

    def reason_node_must_stay(self, node: str) -> str:
        """Return why this data node must not go down now; empty if it may."""
        reply = self._send("GET", "/readyz", {"without": node})
        if reply.status != 503:
            self._checked(reply)
            return ""
        return reply.content.decode("utf-8", "replace").strip() or "the cluster does not say why"

    def read(self, call: Read[T]) -> T:
        """Send a call and parse its answer."""
        return call.parse(self._checked(self._send_again("GET", call.path, None, call.fields)).decode())

    def _change(
        self, method: str, path: str, fields: Mapping[str, str] | None = None, attempts: Attempts | None = None
    ) -> object:
        """Send a change that may be made twice without harm."""
        attempts = attempts or self._retries.begin()
        while True:
            try:
                answer = self._checked(self._send(method, path, None, fields)).decode()
            except Temporary as failure:
                if not self._retries.patient:
                    raise
                self._retries.sleep(attempts.rest_seconds(failure), failure)
            else:
                self._retries.succeeded()
                return answer

    def _checked(self, reply: ApiReply) -> ApiReply:
        if reply.status < 300:
            return reply
        raise self._failure(reply)

    def _failure(self, reply: ApiReply) -> Failure:
        retry_after = reply.fields.get("retry-after", "")
        return from_reply(self.endpoint, reply.status, reply.content, retry_after=retry_after)

    def _send_again(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> ApiReply:
        """Send a read; repeat it after a temporary failure."""
        attempts = self._retries.begin()
        while True:
            reply: ApiReply | None = None
            try:
                reply = self._send(method, path, params, fields)
                if reply.status not in RETRIED or path == "/status":
                    if not self._retries.patient:  # patient retries count as ended only when a change succeeds
                        self._retries.succeeded()
                    return reply
                failure = self._failure(reply)
            except Temporary as error:
                failure = error
            try:
                seconds = attempts.rest_seconds(failure)
            except Failure:
                if reply is not None:  # the caller can explain the reply better
                    return reply
                raise
            self._retries.sleep(seconds, failure)

    def _send(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
        *,
        content: bytes = b"",
    ) -> ApiReply:
        path = with_query(path, params or {})
        request = new_request_id()
        try:
            return self._exchange(method, path, self._complete(method, path, request, fields or {}, content), content)
        except TimeoutError:
            late = f"{self.endpoint} did not answer within {TIMEOUT_SECONDS:.0f} seconds"
            raise Unreachable(late, request_id=request) from None
        except (OSError, HTTPException) as error:
            reason = str(error) or type(error).__name__
            broke = f"{self.endpoint}: the connection broke: {reason}"
            raise Temporary(broke, code="ConnectionLost", request_id=request) from None

    def _complete(
        self, method: str, path: str, request: str, fields: Mapping[str, str], content: bytes
    ) -> dict[str, str]:
        """Return the fields of one attempt of a call, with those that say who makes it."""
        host = self._host.netloc
        complete = {"host": host, REQUEST_FIELD: request, **fields}
        if "authorization" not in fields:
            complete |= self._proof.fields(method, path, host, complete, sha256(content).hexdigest())
        return complete

    def _exchange(self, method: str, path: str, fields: dict[str, str], content: bytes) -> ApiReply:
        connection = self._connection()
        try:
            if self._aborted:  # its connection may have been made after the others were broken
                raise ConnectionAbortedError("it was broken off")
            connection.request(method, path, content or None, fields)
            answer = connection.getresponse()
            names = {name.lower(): value for name, value in answer.getheaders()}
            self._retries.replied()
            return ApiReply(answer.status, names, answer.read(ANSWER_BYTES_MAX))
        except BaseException:
            connection.close()
            raise

    def _connection(self) -> HTTPConnection:
        """Return this thread's connection. Raise Unreachable if the endpoint accepts none."""
        connection: HTTPConnection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._new_connection()
            self._local.connection = connection
            self._connections.append(connection)
        if not self._is_open(connection):
            try:
                connection.connect()
            except OSError as error:
                if reason := getattr(error, "verify_message", ""):
                    raise untrusted(self.endpoint, reason) from None
                raise unreachable(self.endpoint, error.strerror or "") from None
            connection.sock.settimeout(TIMEOUT_SECONDS)
            self._retries.reached()
        return connection

    def _new_connection(self) -> HTTPConnection:
        host, port = self._host.hostname or "", self._host.port
        if not uses_tls(self.endpoint):
            return HTTPConnection(host, port, timeout=CONNECT_SECONDS)
        return HTTPSConnection(host, port, timeout=CONNECT_SECONDS, context=tls_context())

    @staticmethod
    def _is_open(connection: HTTPConnection) -> bool:
        return getattr(connection, "sock", None) is not None
