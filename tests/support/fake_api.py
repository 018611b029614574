"""FakeApi: the HTTP table of an api node in memory, in a thread, for tests of flarectl.

It can be set to misbehave.
"""

from __future__ import annotations

import hashlib
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass
class Stored:
    data: bytes
    version: int
    chunk_size: int
    content_type: str = "application/octet-stream"
    user: dict[str, str] = field(default_factory=dict)
    by_s3: bool = False
    """Its ETag is the MD5."""

    @property
    def chunks(self) -> list[bytes]:
        return [self.data[at : at + self.chunk_size] for at in range(0, len(self.data), self.chunk_size)]

    @property
    def digests(self) -> list[bytes]:
        return [hashlib.sha256(chunk).digest() for chunk in self.chunks]

    @property
    def etag(self) -> str:
        if self.by_s3:
            return hashlib.md5(self.data).hexdigest()
        digests = self.digests
        return f"{hashlib.sha256(b''.join(digests)).hexdigest()[:32]}-{len(digests)}"


@dataclass
class Fault:
    """A fault that a request meets instead of, or before, the right answer."""

    method: str
    part: str
    """Of the raw path."""
    act: Callable[[Handler], bool]
    """True if the request is dealt with."""
    times: int = 1


class FakeApi:
    """Objects by bucket and key; ``requests`` is what was asked, in order."""

    def __init__(self, *, chunk_size: int = 8 << 20) -> None:
        self.buckets = {"default": chunk_size}
        self.objects: dict[tuple[str, str], Stored] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.faults: list[Fault] = []
        self.status: dict[str, object] = {"health": "ok", "version": "0.1.0", "objects": 0, "nodes": []}
        self.removal: dict[str, object] = {"waiting": 0, "unreadable": 0, "complete": True}
        """The cost of a removal."""
        self.removals: list[str] = []
        self.metadata: dict[str, object] = {"older": False, "objects": 0, "seen": []}
        self.orphans: dict[str, object] = {"held": 0, "bytes": 0, "since": None, "seconds_left": None}
        """The orphans held back on each node."""
        self.key: dict[str, object] = {}
        """The only access key; empty: none."""
        self.bodies: list[object] = []
        """Of the calls that made one."""
        self.hidden: set[str] = set()
        """Buckets that are not listed."""
        self.trailers: list[dict[str, str]] = []
        """The fields behind each body that came in chunks."""
        self.allowed: list[str] = []
        """The queries of those asked for."""
        self.lock = threading.RLock()
        self._version = 0
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.api = self  # type: ignore[attr-defined]
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"

    @contextmanager
    def serving(self) -> Iterator[FakeApi]:
        thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield self
        finally:
            self.server.shutdown()
            thread.join()
            self.server.server_close()

    def store(self, key: str, data: bytes, bucket: str = "default", **user: str) -> Stored:
        with self.lock:
            self._version += 1
            stored = Stored(data, self._version, self.buckets[bucket], user=user)
            self.objects[bucket, key] = stored
            return stored

    def read(self, key: str, bucket: str = "default") -> bytes:
        return self.objects[bucket, key].data

    def keys(self, bucket: str = "default") -> list[str]:
        return sorted(key for found, key in self.objects if found == bucket)

    def fail(self, method: str, part: str, act: Callable[[Handler], bool], times: int = 1) -> None:
        self.faults.append(Fault(method, part, act, times))

    def answer_with(
        self, method: str, part: str, status: int, code: str, times: int = 1, message: str = "it is so"
    ) -> None:
        def act(handler: Handler) -> bool:
            handler.take_body()
            handler.refuse(status, code, message)
            return True

        self.fail(method, part, act, times)

    def next_fault(self, handler: Handler) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.times and fault.method == handler.command and fault.part in handler.path:
                    fault.times -= 1
                    return fault
        return None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    @property
    def api(self) -> FakeApi:
        return self.server.api  # type: ignore[attr-defined,no-any-return]

    def log_message(self, *_: object) -> None:
        pass

    def parse_request(self) -> bool:
        if not super().parse_request():
            return False
        fields = {name.lower(): value for name, value in self.headers.items()}
        self.api.requests.append((self.command, self.path, fields))
        fault = self.api.next_fault(self)
        if not (fault and fault.act(self)):
            return True
        self.wfile.flush()
        return False

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:
            self.close_connection = True

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = dict(pair.partition("=")[::2] for pair in parts.query.split("&") if pair)
        if parts.path == "/status":
            return self.reply_json(200, self.api.status)
        if parts.path == "/cluster/failure":
            return self.reply_json(200, {"chunks": 7, "below_quorum": 3, "unreadable": 1, "complete": True})
        if parts.path == "/cluster/node":
            return self.reply_json(200, {"node": query["node"], **self.api.removal})
        if parts.path == "/cluster/metadata":
            return self.reply_json(200, self.api.metadata)
        if parts.path == "/cluster/orphans":
            return self.reply_json(200, {"node": query["node"], **self.api.orphans})
        if parts.path == "/cluster/key":
            return self._key({"keys": [self.api.key]} if not query else self.api.key)
        if parts.path == "/readyz":
            return self.reply(503, b"node data9 is offline\n")
        if parts.path == "/bucket":
            return self.reply_json(
                200, {"buckets": [self._bucket(name) for name in sorted(self.api.buckets.keys() - self.api.hidden)]}
            )
        bucket, key = self._names(parts.path)
        if bucket not in self.api.buckets:
            return self.refuse(404, "NoSuchBucket", f"there is no bucket {bucket}")
        if key is None:
            return self._list(bucket, {name: unquote(value) for name, value in query.items()})
        with self.api.lock:
            stored = self.api.objects.get((bucket, key))
        if stored is None:
            return self.refuse(404, "NoSuchObject", f"there is no object {key!r} in the bucket {bucket}")
        if "if-match" in self.headers and self.headers["if-match"] != f'"{stored.etag}"':
            return self.refuse(412, "PreconditionFailed", "the object has another ETag")
        if "chunks" in query:
            return self._chunks(stored, int(query.get("after", 0)), int(query.get("limit", 1000)))
        return self._body(stored)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self.api.bodies.append(json.loads(self.take_body()))
        if self.path.startswith("/bucket/"):
            return self.reply_json(200, self._bucket("default"))
        return self._key(self.api.key)

    def _key(self, answer: object) -> None:
        if not self.api.key:
            return self.refuse(404, "NoSuchKey", "there is no key named laptop (flarectl key ls)")
        return self.reply_json(200, answer)

    def do_PUT(self) -> None:
        if self.path.startswith("/cluster/key?"):
            return self.do_POST()
        body = self.take_body()
        if self.path == "/cluster/metadata":
            self.api.metadata = {"older": False, "objects": 1, "seen": []}
            return self.reply_json(200, self.api.metadata)
        if self.path.startswith("/cluster/node?"):
            return self.reply_json(200, {"state": "welcome"})
        bucket, key = self._names(self.path)
        with self.api.lock:
            if key is None:
                new = bucket not in self.api.buckets
                settings = json.loads(body or b"{}")
                self.api.buckets.setdefault(bucket, settings.get("chunk_size", 8 << 20))
                return self.reply_json(201 if new else 200, {"name": bucket})
            if bucket not in self.api.buckets:
                return self.refuse(404, "NoSuchBucket", f"there is no bucket {bucket}")
            if not self._holds(self.api.objects.get((bucket, key))):
                return self.refuse(412, "PreconditionFailed", "the condition does not hold")
            promised = self.headers.get("x-flare-content-sha256", "")
            if promised and promised != hashlib.sha256(body).hexdigest():
                return self.refuse(400, "BadDigest", "the body does not have the digest that came with it")
            prefix = "x-flare-meta-"
            fields = {name.lower(): value for name, value in self.headers.items()}
            user = {name.removeprefix(prefix): value for name, value in fields.items() if name.startswith(prefix)}
            if source := self.headers.get("x-flare-copy-source"):
                old = self.api.objects.get(self._names(source))  # type: ignore[arg-type]
                if old is None:
                    return self.refuse(404, "NoSuchObject", f"there is no object {source}")
                body, user = old.data, old.user
            new = (bucket, key) not in self.api.objects
            stored = self.api.store(key, body, bucket, **user)
            stored.content_type = fields.get("content-type", stored.content_type)
            answer = {"etag": stored.etag, "size": len(body), "version": stored.version}
        return self.reply_json(201 if new else 200, answer)

    def do_DELETE(self) -> None:
        parts = urlsplit(self.path)
        if parts.path == "/cluster/node":
            node = dict(parse_qsl(parts.query))["node"]
            self.api.removals.append(parts.query)
            return self.reply_json(202, {"node": node, "state": "removing"})
        if parts.path == "/cluster/orphans":
            self.api.allowed.append(parts.query)
            return self.reply_json(200, {"node": "data1", **self.api.orphans, "allowed": self.api.orphans["held"]})
        if parts.path == "/cluster/key":
            return self.reply(204, b"")
        bucket, key = self._names(self.path)
        with self.api.lock:
            if key is not None:
                if not self._holds(self.api.objects.get((bucket, key))):
                    return self.refuse(412, "PreconditionFailed", "the condition does not hold")
                self.api.objects.pop((bucket, key), None)
            elif self.api.keys(bucket):
                return self.refuse(409, "BucketNotEmpty", f"the bucket {bucket} still holds objects")
            else:
                self.api.buckets.pop(bucket, None)
        return self.reply(204, b"")

    def take_body(self) -> bytes:
        if self.headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        trailer = {}
        while line := self.rfile.readline().strip():
            name, _, value = line.decode().partition(": ")
            trailer[name] = value
        self.api.trailers.append(trailer)
        return b"".join(parts)

    def refuse(self, status: int, code: str, message: str) -> None:
        self.reply_json(status, {"error": {"code": code, "message": message, "request_id": "r-1"}})

    def reply_json(self, status: int, answer: object) -> None:
        self.reply(status, json.dumps(answer).encode(), {"content-type": "application/json"})

    def reply(self, status: int, body: bytes, fields: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (fields or {}).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def cut(self) -> bool:
        """End the connection without an answer; for faults."""
        self.close_connection = True
        return True

    def _names(self, path: str) -> tuple[str, str | None]:
        rest = path.removeprefix("/bucket/")
        bucket, slash, key = rest.partition("/object/")
        return bucket, unquote(key) if slash else None

    def _holds(self, stored: Stored | None) -> bool:
        if "if-none-match" in self.headers:
            return stored is None
        if "if-match" in self.headers:
            return stored is not None and self.headers["if-match"] == f'"{stored.etag}"'
        return True

    def _bucket(self, name: str) -> dict[str, object]:
        return {
            "name": name,
            "created": "2026-11-21T09:18:48.123Z",
            "scheme": "replica:3",
            "chunk_size": self.api.buckets[name],
            "compression": "lz4",
        }

    def _list(self, bucket: str, query: dict[str, str]) -> None:
        prefix, delimiter, after = query.get("prefix", ""), query.get("delimiter", ""), query.get("after", "")
        limit = int(query.get("limit", 1000))
        names: dict[str, Stored | None] = {}
        with self.api.lock:
            for key in sorted(self.api.keys(bucket), key=str.encode):
                if key.startswith(prefix):
                    end = key.find(delimiter, len(prefix)) if delimiter else -1
                    name = key if end < 0 else key[: end + 1]
                    if name > after and not (delimiter and after.endswith(delimiter) and key.startswith(after)):
                        names[name] = self.api.objects[bucket, key] if end < 0 else None
        page = list(names.items())[:limit]
        objects = [
            {
                "key": key,
                "size": len(s.data),
                "etag": s.etag,
                "version": s.version,
                "modified": "2026-11-21T09:18:48.123Z",
            }
            for key, s in page
            if s
        ]
        prefixes = [key for key, stored in page if stored is None]
        more = page[-1][0] if len(names) > limit else None
        self.reply_json(200, {"objects": objects, "prefixes": prefixes, "next": more})

    def _chunks(self, stored: Stored, after: int, limit: int) -> None:
        chunks = [
            {
                "digest": digest.hex(),
                "size": len(chunk),
                "id": f"{digest.hex()}.0000000000000001",
                "codec": "plain",
                "scheme": "replica:3",
                "nodes": ["data1", "data2", None],
                "missing": [2],
            }
            for chunk, digest in zip(stored.chunks, stored.digests, strict=True)
        ][after : after + limit]
        following = after + limit if after + limit < len(stored.chunks) else None
        answer = {"key": "k", "version": stored.version, "size": len(stored.data), "etag": stored.etag}
        self.reply_json(200, answer | {"first": after, "chunks": chunks, "next": following})

    def _body(self, stored: Stored) -> None:
        fields = {
            "etag": f'"{stored.etag}"',
            "last-modified": "Sat, 21 Nov 2026 09:18:48 GMT",
            "content-type": stored.content_type,
            "x-flare-version": str(stored.version),
        } | {f"x-flare-meta-{name}": value for name, value in stored.user.items()}
        if len(stored.chunks) == 1:
            fields["x-flare-content-sha256"] = stored.digests[0].hex()
        wanted = self.headers.get("range", "")
        if not wanted:
            return self.reply(200, stored.data, fields)
        first, last = (int(number) for number in wanted.removeprefix("bytes=").split("-"))
        fields["content-range"] = f"bytes {first}-{last}/{len(stored.data)}"
        return self.reply(206, stored.data[first : last + 1], fields)
