"""Access keys for tests, and calls signed with them."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from flared.access.grants import parse_grants
from flared.access.sealing import seal
from flared.access.signing import (
    CHUNKS_IN_TRAILER,
    CONTENT_SHA256,
    IN_TRAILER,
    TRAILER_SIGNATURE,
    Claim,
    sign,
    sign_trailer,
    signed_fields,
)
from flared.catalog.access_keys import StoredKey, create_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flared.meta.kv import KV

KEY_ID = "FLABCDEFGHIJKLMNOPQR"
KEY_SECRET = "s" * 40
NONCE = "n" * 32


async def make_key(
    kv: KV, cluster_secret: bytes, *grants: str, key_id: str = KEY_ID, name: str = "laptop", expires_ms: int = 0
) -> None:
    """Create an access key with the secret KEY_SECRET."""
    sealed = seal(cluster_secret, KEY_SECRET, key_id, name, b"\0" * 12)
    key = StoredKey(key_id, name, sealed, parse_grants(grants), 1, expires_ms)
    await kv.transact(lambda tx: create_key(tx, key))


def signed(
    method: str,
    target: str,
    body: bytes = b"",
    fields: Mapping[str, str] | None = None,
    *,
    now: float,
    nonce: str = NONCE,
    host: str = "api:8000",
    key_id: str = KEY_ID,
    secret: str = KEY_SECRET,
    payload: str = "",
) -> dict[str, str]:
    """Return the fields of a signed call, with those that sign it. An empty nonce means the plain form."""
    path, _, query = target.partition("?")
    claim = Claim(key_id, int(now), payload or sha256(body).hexdigest(), "", nonce)
    fields = dict(fields or {})
    return fields | signed_fields(claim, sign(secret, claim, method, path, query, fields | {"host": host}))


def trailer_of(head: Mapping[str, str], body: bytes, *, secret: str = KEY_SECRET) -> dict[str, str]:
    """Return the fields that follow a body below a head whose payload is IN_TRAILER."""
    assert head[CONTENT_SHA256] == IN_TRAILER
    digest = sha256(body).hexdigest()
    return {CONTENT_SHA256: digest, TRAILER_SIGNATURE: sign_trailer(secret, head["x-fs-signature"], digest)}


def chunk_trailer_of(head: Mapping[str, str], body: bytes, chunk_size: int) -> dict[str, str]:
    """Return the same below a head whose payload is CHUNKS_IN_TRAILER."""
    assert head[CONTENT_SHA256] == CHUNKS_IN_TRAILER
    digests = [sha256(body[at : at + chunk_size]).digest() for at in range(0, len(body), chunk_size)]
    digest = sha256(b"".join(digests)).hexdigest()
    signature = sign_trailer(KEY_SECRET, head["x-fs-signature"], digest, by_chunks=True)
    return {CONTENT_SHA256: digest, TRAILER_SIGNATURE: signature}
