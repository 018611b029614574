"""Canonical requests of AWS Signature Version 4, and the keys that sign them. Pure.

    string to sign = "AWS4-HMAC-SHA256" \\n time \\n scope \\n SHA-256(canonical request)
    scope          = date / region / "s3/aws4_request"
    key            = HMAC(HMAC(HMAC(HMAC("AWS4" secret, date), region), "s3"), "aws4_request")

Source: the S3 API reference, "Authenticating Requests (AWS Signature Version 4)". What a request says of its signature,
and whether it is right, is in ``sigv4``.
"""

from __future__ import annotations

import hmac
import re
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote_to_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ALGORITHM = "AWS4-HMAC-SHA256"
SERVICE = "s3"
TERMINAL = "aws4_request"
QUERY_SIGNATURE = "X-Amz-Signature"
EMPTY_SHA256 = sha256(b"").hexdigest()
KEYS_KEPT = 256
"""Derived keys, one for each access key, day and region. Deriving one takes four HMACs, about as long as the rest."""

_PLAIN_PATH = re.compile(r"[A-Za-z0-9/._~-]*")
_SPACES = re.compile(" {2,}")


def canonical_request(
    method: str,
    path: str,
    query: str,
    fields: Mapping[str, str],
    signed: Sequence[str],
    payload: str,
    *,
    presigned: bool = False,
) -> bytes:
    """Return what is hashed into the string to sign."""
    lines = "".join([f"{name}:{canonical_value(fields.get(name, ''))}\n" for name in signed])
    head = f"{method}\n{canonical_path(path)}\n{canonical_query(query, presigned=presigned) if query else ''}\n"
    return f"{head}{lines}\n{';'.join(signed)}\n{payload}".encode("latin-1", "replace")


def canonical_path(path: str) -> str:
    """Return a path encoded as AWS does it, however its sender did."""
    if _PLAIN_PATH.fullmatch(path):
        return path
    return quote(unquote_to_bytes(path.encode("latin-1", "replace")), safe="/-._~")


def canonical_query(query: str, *, presigned: bool) -> str:
    """Return the names and values in their order, without the signature itself."""
    pairs = []
    for part in query.split("&"):
        if not part:
            continue
        name, _, value = part.replace("+", "%20").partition("=")
        pair = _encode(name), _encode(value)
        if not (presigned and pair[0] == QUERY_SIGNATURE):
            pairs.append(pair)
    pairs.sort()
    return "&".join([f"{name}={value}" for name, value in pairs])


def canonical_value(value: str) -> str:
    if "  " in value:
        value = _SPACES.sub(" ", value)
    return value.strip()


def string_to_sign(time: str, scope: str, canonical: bytes) -> str:
    return f"{ALGORITHM}\n{time}\n{scope}\n{sha256(canonical).hexdigest()}"


@lru_cache(KEYS_KEPT)
def signing_key(secret: str, date: str, region: str) -> bytes:
    """Return the key of a day, a region and S3."""
    key = f"AWS4{secret}".encode()
    for part in (date, region, SERVICE, TERMINAL):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def sign(key: bytes, text: str) -> str:
    return hmac.digest(key, text.encode("utf-8", "replace"), "sha256").hex()


def _encode(text: str) -> str:
    return quote(unquote_to_bytes(text.encode("latin-1", "replace")), safe="-._~")
