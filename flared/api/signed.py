"""Signed: callers that prove to have an access key, by a signed head or a pre-signed link (``access.signing``).

A signature covers path, query and body, so nothing of this goes into the memo of a head. A body that is here is
compared with its digest at once; any other is handed on as a ``SignedBody``. A write also gets its ``once``, which what
carries it out records first, or with it: ``catalog.once``.
"""

from __future__ import annotations

from functools import partial
from hashlib import sha256
from hmac import compare_digest
from typing import TYPE_CHECKING

from flared.access.identity import BY_KEY, Identity, key_identity
from flared.access.origin import SAFE_METHODS
from flared.access.signing import (
    CHUNKS_IN_TRAILER,
    CONTENT_SHA256,
    TRAILERS,
    UNCOVERED,
    UNSIGNED,
    WINDOW_SECONDS,
    check_clock,
    check_link_time,
    is_link_signed_by,
    is_signed_by,
    is_trailer_signed_by,
    parse_claim,
    parse_link,
)
from flared.api.signed_body import SignedBody
from flared.catalog.once import Once, make_once
from flared.errors import BadDigest, BadSignature
from flared.http.eviction import GUEST
from flared.http.exchange import Exchange
from flared.http.messages import ChunkedBody

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flared.access.access_key import AccessKey
    from flared.access.signing import Claim
    from flared.catalog.key_store import KeyStore
    from flared.http.messages import Request

FORGET_SECONDS = WINDOW_SECONDS + 60
"""How long after its time a signed write is remembered: until it is too old, and a minute for clocks that differ."""

NOT_SIGNED = "access denied: this call is not signed with an access key that works now, or not as it arrived"
"""The same for an unknown key, one that has expired, and a signature that differs: a stranger learns no more."""


_EMPTY = sha256().digest()


def identify_signed(request: Request | Exchange, keys: KeyStore) -> Identity:
    """Return whose access key signed the head of this request, which has the field x-fs-signature.

    Raises BadSignature, ClockSkewed, and BadDigest if the body is here and is not the one that was signed.
    """
    fields = request.fields
    claim = parse_claim(fields)
    check_clock(claim.timestamp, keys.now())
    key = keys.find(claim.access_key)
    if key is None or not is_signed_by(key.secret, claim, request.method, request.path, request.query, fields):
        raise BadSignature(NOT_SIGNED)
    if not claim.nonce:
        _refuse_uncovered(fields)
    if isinstance(request, Exchange):
        _check_small(request, claim)
    else:
        _watch_body(request, claim, key)
    if request.method not in SAFE_METHODS:
        request.once = make_once(claim.signature, (claim.timestamp + FORGET_SECONDS) * 1000)
    return key_identity(key)


def identify_link(request: Request | Exchange, keys: KeyStore) -> Identity:
    """Return whose access key signed the link that is the path and query of this request; the query is used up.

    The link shows nothing about the connection: others may have got it. Raises BadSignature.
    """
    link, now = parse_link(request.query), keys.now()
    key = keys.find(link.access_key)
    if key is None or not is_link_signed_by(key.secret, link, request.method, request.path):
        raise BadSignature(NOT_SIGNED)
    check_link_time(link, now)
    _refuse_uncovered(request.fields)
    request.query = ""
    return Identity(BY_KEY, GUEST, key=key)


def once_of(request: Request | Exchange) -> Once | None:
    """Return what a signed write is recorded by; None for all others."""
    once = request.once
    return once if isinstance(once, Once) else None


def _refuse_uncovered(fields: Mapping[str, str]) -> None:
    if not UNCOVERED.isdisjoint(fields):
        raise BadSignature(f"{', '.join(sorted(UNCOVERED & fields.keys()))} takes a signature with a nonce")


def _check_small(exchange: Exchange, claim: Claim) -> None:
    """Compare a body that is here with its digest."""
    body = exchange.body
    if not body:
        return _check_empty(claim)
    exchange.sha256 = sha256(body).digest()
    return _check_digest(claim, exchange.sha256)


def _watch_body(request: Request, claim: Claim, key: AccessKey) -> None:
    """Have a body that is not read yet compared when its last byte is."""
    body = request.body
    if body.length == 0:
        return _check_empty(claim)
    if claim.payload not in TRAILERS:
        request.body = SignedBody(body, partial(_check_digest, claim))
    elif isinstance(body, ChunkedBody):
        check = partial(_check_trailer, claim, key.secret, body.trailer)
        request.body = SignedBody(body, check, by_chunks=claim.payload == CHUNKS_IN_TRAILER)
    else:
        _refuse_unsaid(claim)
    return None


def _check_empty(claim: Claim) -> None:
    if claim.payload != UNSIGNED:
        _check_digest(claim, _EMPTY)


def _check_digest(claim: Claim, digest: bytes) -> None:
    _refuse_unsaid(claim)
    if not compare_digest(digest.hex(), claim.payload):
        raise BadDigest(f"the body is not the one that was signed: its SHA-256 is {digest.hex()}")


def _refuse_unsaid(claim: Claim) -> None:
    if claim.payload == UNSIGNED or claim.payload in TRAILERS:
        raise BadSignature(f"{CONTENT_SHA256} is not the SHA-256 of the body, and nothing behind the body says it")


def _check_trailer(claim: Claim, secret: str, trailer: Mapping[str, str], digest: bytes) -> None:
    by_chunks = claim.payload == CHUNKS_IN_TRAILER
    if not is_trailer_signed_by(secret, claim.signature, trailer, digest.hex(), by_chunks=by_chunks):
        of = "the SHA-256 of its chunks' digests" if by_chunks else "its SHA-256"
        raise BadDigest(f"the body is not the one that was signed behind its end: {of} is {digest.hex()}")
