"""The S3 entry of an api node over a cluster in memory, as ``api_role`` makes it; and who asks it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

import trio

from flared.access.access_key import AccessKey
from flared.access.grants import parse_grants
from flared.access.keys import Keyring
from flared.access.sigv4_canonical import EMPTY_SHA256, canonical_request, sign, signing_key, string_to_sign
from flared.api.callers import access_policy
from flared.api.entry import Entry
from flared.api.s3.callers import S3Callers
from flared.api.s3.face import s3_face
from flared.api.s3.routes import S3Router
from flared.api.s3.settings import S3Settings
from flared.api.s3.xml import Element, parse_xml
from flared.chunks.budget import MemoryBudget
from flared.http.messages import encode_fields
from flared.http.pool import Pool, PoolSettings
from flared.http.server import InTurns, Server
from tests.support.cluster import Cluster
from tests.support.memory_net import MemoryNetwork

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from flared.access.aws_chunks import ChunkSeal
    from flared.api.gate import Gate
    from flared.api.s3.callers import KeySource

MAIN = AccessKey("FLMAIN00000000000000", "main", "the secret of the main key, 40 characters", parse_grants(["admin"]))
GRANTED = parse_grants(["create:alt*", "read:main/shared/"])
ALT = AccessKey("FLALT000000000000000", "alt", "the secret of the other key, 40 characters", GRANTED)


class FixedKeys:
    """A KeySource of two keys."""

    def find(self, access_key_id: str) -> AccessKey | None:
        return {key.id: key for key in (MAIN, ALT)}.get(access_key_id)


def make_s3_entry(
    cluster: Cluster,
    keyring: Keyring,
    anonymous: str,
    settings: S3Settings | None = None,
    keys: KeySource | None = None,
    gate: Gate | None = None,
) -> Entry:
    chosen = settings or S3Settings()
    policy = access_policy(cluster.store.kv, keyring, anonymous, frozenset({"api"}), tells_missing=True)
    callers = S3Callers(policy, chosen, keys or FixedKeys(), cluster.store.now)
    return Entry([s3_face(cluster.store, callers, chosen)], S3Router(chosen.domain), gate)


class Answer(NamedTuple):
    status: int
    fields: Mapping[str, str]
    body: bytes

    def xml(self, root: str) -> Element:
        return parse_xml(self.body, root)

    @property
    def code(self) -> str:
        return self.xml("Error").text_of("Code")


class Asker:
    """Asks an S3 face over a network in memory."""

    def __init__(self, pool: Pool, cluster: Cluster, server: Server, entry: Entry) -> None:
        self._pool = pool
        self.cluster = cluster
        self.server = server
        self.entry = entry

    async def __call__(
        self, method: str, target: str, body: bytes = b"", fields: Mapping[str, str] | None = None
    ) -> Answer:
        lines = encode_fields(list((fields or {}).items()))
        async with self._pool.request(method, target, lines, (body,)) as response:
            content = await response.body.read_all(1 << 20)
        assert response.fields["x-amz-request-id"]
        return Answer(response.status, response.fields, content)

    async def signed(
        self, key: AccessKey, method: str, target: str, body: bytes = b"", fields: Mapping[str, str] | None = None
    ) -> Answer:
        """The same, signed by this key now."""
        head = sign_request(key, self.cluster.store.now(), method, target, body, fields)
        return await self(method, target, body, head)


@asynccontextmanager
async def speaking_s3(
    settings: S3Settings | None = None,
    anonymous: str = "read-write",
    secret: bytes = b"the cluster's secret",
    *,
    in_turns: bool = True,
    gate: Gate | None = None,
) -> AsyncIterator[Asker]:
    """A client of the S3 face; without a ``secret`` everything is granted."""
    cluster = Cluster()
    entry = make_s3_entry(cluster, Keyring([secret] if secret else []), anonymous, settings, gate=gate)
    network = MemoryNetwork()
    turns = InTurns(cluster.turns, entry, MemoryBudget(1 << 20)) if in_turns else None
    server = Server(entry.answer, in_turns=turns)
    async with cluster.running(), trio.open_nursery() as nursery:
        await nursery.start(server.serve, [network.listen("api:8333")])
        yield Asker(Pool("api:8333", PoolSettings(), network.connect), cluster, server, entry)
        nursery.cancel_scope.cancel()


def sign_request(
    key: AccessKey,
    now: float,
    method: str,
    target: str,
    body: bytes = b"",
    fields: Mapping[str, str] | None = None,
    *,
    payload: str = "",
    host: str = "api:8333",
) -> dict[str, str]:
    """Return the fields of a request signed by this key. ``payload``: what it says of its body, if not the SHA-256."""
    time = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    said = payload or sha256(body).hexdigest()
    head = {name.lower(): value for name, value in (fields or {}).items()}
    head |= {"host": host, "x-amz-date": time, "x-amz-content-sha256": said}
    signed = sorted(head)
    path, _, query = target.partition("?")
    canonical = canonical_request(method, path, query, head, signed, said)
    scope = f"{time[:8]}/us-east-1/s3/aws4_request"
    value = sign(signing_key(key.secret, time[:8], "us-east-1"), string_to_sign(time, scope, canonical))
    del head["host"]
    head["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={key.id}/{scope}, SignedHeaders={';'.join(signed)}, Signature={value}"
    )
    return head


def pack_chunks(parts: Sequence[bytes], trailers: Mapping[str, str], seal: ChunkSeal | None) -> bytes:
    """Return a body in chunks, signed with ``seal`` if there is one."""
    body, previous = b"", seal.seed if seal else ""
    for part in (*parts, b""):
        line = b"%x" % len(part)
        if seal is not None:
            text = f"AWS4-HMAC-SHA256-PAYLOAD\n{seal.time}\n{seal.scope}\n{previous}\n{EMPTY_SHA256}\n"
            previous = sign(seal.key, text + sha256(part).hexdigest())
            line += b";chunk-signature=" + previous.encode()
        body += line + b"\r\n" + (part + b"\r\n" if part else b"")
    if trailers and seal is not None:
        text = "".join(f"{name}:{value}\n" for name, value in trailers.items())
        kind = f"AWS4-HMAC-SHA256-TRAILER\n{seal.time}\n{seal.scope}\n{previous}\n"
        trailers = {**trailers, "x-amz-trailer-signature": sign(seal.key, kind + sha256(text.encode()).hexdigest())}
    lines = "".join(f"{name}:{value}\r\n" for name, value in trailers.items())
    return body + lines.encode() + b"\r\n"
