"""Signing: how a native call proves that its sender has an access key. Pure; both ends use it.

A signature is the hex of HMAC-SHA256 under the secret of the access key, over one of four texts. ``LF`` is the byte 10;
everything else is sent as it stands here, in the fields and parameters named below.

    plain     = method LF path LF query LF timestamp LF payload
    strict    = "FLARE-SIGN" LF method LF path LF query LF host LF key LF timestamp LF nonce LF payload LF covered
    trailer   = "FLARE-TRAILER" LF signature LF sha256              signature: that of the head
              | "FLARE-CHUNKS" LF signature LF chunks
    link      = "FLARE-LINK" LF method LF object LF key LF expires

    method    = the method, in capital letters; in a link "GET", which is good for HEAD too, or "PUT"
    path      = the path as it is sent, percent-encoded, up to the "?"
    query     = what follows the "?", as it is sent; empty without one
    timestamp = seconds since 1970, in decimal                      field x-fs-timestamp
    payload   = sha256                                              field x-fs-content-sha256
              | "UNSIGNED-PAYLOAD", or no such field                plain only, and only without a body
              | "TRAILER" | "TRAILER-CHUNKS"                        strict only: sha256 or chunks follow the body
    sha256    = 64 hex digits, in lower case, of the SHA-256 of the body as it is sent
    chunks    = the same of the SHA-256 digests, 32 bytes each, of the chunks that the body of an object is cut into:
                of the chunk size of its bucket, the last one of what is left
    host      = the field host, in lower case
    key       = the access key id                                   field or parameter x-fs-access-key
    nonce     = 16 to 64 of A-Z a-z 0-9 "-" "_", drawn for this call   field x-fs-nonce: it makes the form strict
    covered   = *( name ":" value LF )                              ordered by name, in lower case; repeated fields
                                                                    are one, joined by ", "; without white space around
                for every field whose name begins with "if-", "x-flare-" or "content-", except content-length, and for
                "range", "cache-control" and "expires"
    object    = the path of the object, decoded and then encoded again: all bytes but A-Z a-z 0-9 "-" "." "_" "~" "/"
                as "%" and two capital hex digits
    expires   = seconds since 1970, in decimal                      parameter x-fs-expires

The signature is in the field, trailer field (x-fs-trailer-signature) or parameter x-fs-signature. No text can pass for
one of another form: a method has neither dashes nor digits. The plain form is what others speak; it does not cover
the host and the fields; those that make a call about a second object are refused in it, and in links (``UNCOVERED``).
"""

from __future__ import annotations

import hmac
import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, unquote_to_bytes

from flared.errors import BadSignature, ClockSkewed

if TYPE_CHECKING:
    from collections.abc import Mapping

ACCESS_KEY = "x-fs-access-key"
TIMESTAMP = "x-fs-timestamp"
CONTENT_SHA256 = "x-fs-content-sha256"
NONCE = "x-fs-nonce"
SIGNATURE = "x-fs-signature"
TRAILER_SIGNATURE = "x-fs-trailer-signature"
EXPIRES = "x-fs-expires"
METHOD = "x-fs-method"

UNSIGNED = "UNSIGNED-PAYLOAD"
IN_TRAILER = "TRAILER"
CHUNKS_IN_TRAILER = "TRAILER-CHUNKS"
TRAILERS = frozenset({IN_TRAILER, CHUNKS_IN_TRAILER})
EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"""Of no bytes at all."""

WINDOW_SECONDS = 300
"""How far the clocks of both ends may differ, and so how long a caught call could be sent again."""
LINK_SECONDS_MAX = 7 * 86400
LINK_METHODS = ("GET", "PUT")

UNCOVERED = frozenset({"x-flare-copy-source"})
"""Fields that only the strict form may have: someone on the way could add them to a signed PUT without a body."""

_COVERED = frozenset({"range", "cache-control", "expires"})
_COVERED_PREFIXES = ("if-", "x-flare-", "content-")

_HEX = re.compile(r"[0-9a-f]{64}")
_NUMBER = re.compile(r"(?:0|[1-9][0-9]{0,11})")
_NONCE = re.compile(r"[A-Za-z0-9_-]{16,64}")
_STRICT = re.compile(
    rf"({_NUMBER.pattern}) ({_HEX.pattern}|{IN_TRAILER}(?:-CHUNKS)?) ({_NONCE.pattern}) ({_HEX.pattern})"
)
_LINK = re.compile(
    rf"{ACCESS_KEY}=([A-Z0-9]{{1,64}})&{EXPIRES}=([1-9][0-9]{{0,11}})&{METHOD}=(GET|PUT)&{SIGNATURE}=([0-9a-f]{{64}})"
)


class Claim(NamedTuple):
    """The fields of a head that say how it is signed. Nothing is proved by them yet."""

    access_key: str
    timestamp: int
    payload: str
    """64 hex digits in lower case, one of TRAILERS, or UNSIGNED: then there must be no body."""
    signature: str
    nonce: str = ""
    """Empty: the plain form."""
    sent_payload: str = ""
    """As it was signed: the plain form lets clients write digests in capitals."""


class ShareLink(NamedTuple):
    """The parameters of a share link: a URL that opens one object for a while."""

    access_key: str
    expires: int
    method: str
    signature: str = ""


def parse_claim(fields: Mapping[str, str]) -> Claim:
    """Return what a head with the field x-fs-signature claims. Raises BadSignature, which names the field."""
    nonce = fields.get(NONCE, "")
    if nonce:  # at once what a strict claim is, if it is right
        match = _STRICT.fullmatch(f"{fields.get(TIMESTAMP)} {fields.get(CONTENT_SHA256)} {nonce} {fields[SIGNATURE]}")
        if match is not None:
            timestamp, payload, _, signature = match.groups()
            return Claim(fields.get(ACCESS_KEY, ""), int(timestamp), payload, signature, nonce)
    sent = fields.get(CONTENT_SHA256, UNSIGNED)
    timestamp, signature = fields.get(TIMESTAMP, ""), fields[SIGNATURE].lower()
    payload = sent if nonce or sent == UNSIGNED else sent.lower()
    if not _NUMBER.fullmatch(timestamp):
        raise BadSignature(f"{TIMESTAMP} is not a number of seconds since 1970")
    if not _HEX.fullmatch(signature):
        raise BadSignature(f"{SIGNATURE} is not 64 hex digits")
    if not _HEX.fullmatch(payload) and payload not in (TRAILERS if nonce else (UNSIGNED,)):
        raise BadSignature(f"{CONTENT_SHA256} is not the SHA-256 of the body, 64 hex digits")
    if nonce and not _NONCE.fullmatch(nonce):
        raise BadSignature(f"{NONCE} is not 16 to 64 of A-Z, a-z, 0-9, '-' and '_'")
    return Claim(fields.get(ACCESS_KEY, ""), int(timestamp), payload, signature, nonce, sent)


def check_clock(timestamp: int, now: float) -> None:
    """Raise ClockSkewed, with the difference, if a call was signed too long before ``now``, or after it."""
    ahead = timestamp - int(now)
    if abs(ahead) > WINDOW_SECONDS:
        than = "ahead of" if ahead > 0 else "behind"
        raise ClockSkewed(
            f"the clock that signed this call is {_span(abs(ahead))} {than} the clock of the api node; "
            f"at most {WINDOW_SECONDS} seconds are allowed",
            ahead_seconds=ahead,
        )


def is_signed_by(secret: str, claim: Claim, method: str, path: str, query: str, fields: Mapping[str, str]) -> bool:
    """Report whether the signature of a head was made with this secret; in time that does not depend on where it
    differs."""
    return hmac.compare_digest(sign(secret, claim, method, path, query, fields), claim.signature)


def sign(secret: str, claim: Claim, method: str, path: str, query: str, fields: Mapping[str, str]) -> str:
    """Return the signature that ``claim`` should have; ``fields`` are all of the head, with lower-case names."""
    if not claim.nonce:
        return _mac(secret, f"{method}\n{path}\n{query}\n{claim.timestamp}\n{claim.sent_payload or claim.payload}")
    host = fields.get("host", "").lower()
    return _mac(
        secret,
        f"FLARE-SIGN\n{method}\n{path}\n{query}\n{host}\n{claim.access_key}\n{claim.timestamp}\n{claim.nonce}\n"
        f"{claim.payload}\n{_covered_lines(fields)}",
    )


def signed_fields(claim: Claim, signature: str) -> dict[str, str]:
    """Return the fields that a client sends with a claim, and with this signature of it."""
    fields = {ACCESS_KEY: claim.access_key, TIMESTAMP: str(claim.timestamp), CONTENT_SHA256: claim.payload}
    if claim.nonce:
        fields[NONCE] = claim.nonce
    fields[SIGNATURE] = signature
    return fields


def sign_trailer(secret: str, head_signature: str, sha256: str, *, by_chunks: bool = False) -> str:
    """Return the signature of a body's digest that follows the body, below a head with that signature.

    ``by_chunks``: it is that of the digests of its chunks.
    """
    return _mac(secret, f"{'FLARE-CHUNKS' if by_chunks else 'FLARE-TRAILER'}\n{head_signature}\n{sha256}")


def is_trailer_signed_by(
    secret: str, head_signature: str, trailer: Mapping[str, str], sha256: str, *, by_chunks: bool = False
) -> bool:
    """Report whether the fields behind a body say that it has this digest, signed with this secret."""
    said, signature = trailer.get(CONTENT_SHA256, ""), trailer.get(TRAILER_SIGNATURE, "")
    wanted = sign_trailer(secret, head_signature, sha256, by_chunks=by_chunks)
    return hmac.compare_digest(said.encode(), sha256.encode()) and hmac.compare_digest(
        wanted.encode(), signature.encode()
    )


def is_link(query: str) -> bool:
    """Return whether the query claims to be that of a pre-signed link."""
    return f"&{SIGNATURE}=" in query or query.startswith(f"{SIGNATURE}=")


def parse_link(query: str) -> ShareLink:
    """Return the parameters of a pre-signed link: these, in this order, and no others. Raises BadSignature."""
    match = _LINK.fullmatch(query)
    if match is None:
        raise BadSignature("this link was changed: use it exactly as it was handed out")
    return ShareLink(match[1], int(match[2]), match[3], match[4])


def check_link_time(link: ShareLink, now: float) -> None:
    """Raise BadSignature for a link that has expired, or is valid for longer than links may be."""
    if link.expires <= now:
        raise BadSignature("this link has expired; ask for another one")
    if link.expires > now + LINK_SECONDS_MAX + WINDOW_SECONDS:
        raise BadSignature(f"this link is valid for longer than the {LINK_SECONDS_MAX // 86400} days that are allowed")


def sign_link(secret: str, link: ShareLink, path: str) -> str:
    """Return the signature that a link to the object with this path should have. The path may be encoded in any way."""
    place = quote(unquote_to_bytes(path.encode("latin-1")), safe="/")
    return _mac(secret, f"FLARE-LINK\n{link.method}\n{place}\n{link.access_key}\n{link.expires}")


def is_link_signed_by(secret: str, link: ShareLink, method: str, path: str) -> bool:
    """Report whether a link is for this method and path, and was made with this secret."""
    allowed = ("GET", "HEAD") if link.method == "GET" else (link.method,)
    return hmac.compare_digest(sign_link(secret, link, path), link.signature) and method in allowed


def link_query(secret: str, link: ShareLink, path: str) -> str:
    """Return the query that makes a URL with this path a pre-signed link."""
    signature = sign_link(secret, link, path)
    return f"{ACCESS_KEY}={link.access_key}&{EXPIRES}={link.expires}&{METHOD}={link.method}&{SIGNATURE}={signature}"


def _covered_lines(fields: Mapping[str, str]) -> str:
    names = [
        name for name in fields if (name.startswith(_COVERED_PREFIXES) and name != "content-length") or name in _COVERED
    ]
    names.sort()
    return "".join([f"{name}:{fields[name]}\n" for name in names])


def _span(seconds: int) -> str:
    """Return a time in words."""
    for unit, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 3 * unit:
            return f"{seconds // unit} {name}"
    return f"{seconds} seconds"


def _mac(secret: str, text: str) -> str:
    mac = _begin(secret).copy()
    mac.update(text.encode("latin-1"))
    return mac.hexdigest()


@lru_cache(256)
def _begin(secret: str) -> hmac.HMAC:
    """HMAC under this secret, before the text: to be copied, which takes a fifth of beginning anew."""
    return hmac.new(secret.encode(), digestmod="sha256")
