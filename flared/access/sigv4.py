"""AWS Signature Version 4 for S3: what a request says of its signature, and whether it is right. Pure.

A signature stands in the Authorization field, or in the query of a pre-signed URL. Source: the S3 API reference,
"Authenticating Requests (AWS Signature Version 4)". Errors carry the words that AWS has for them (``code``), because
clients branch on them: a wrong clock or region is found and corrected by many.
"""

from __future__ import annotations

import calendar
import hmac
import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote_to_bytes

from flared.access.sigv4_canonical import (
    ALGORITHM,
    QUERY_SIGNATURE,
    SERVICE,
    TERMINAL,
    canonical_request,
    sign,
    signing_key,
    string_to_sign,
)
from flared.errors import Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SKEW_SECONDS = 15 * 60
EXPIRES_SECONDS_MAX = 7 * 86400
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
SHOWN_CHARS_MAX = 8192

_USUAL = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/,\s]+)/([0-9]{8})/([^/,\s]+)/([^/,\s]+)/([^/,\s]+), ?"
    r"SignedHeaders=([^,\s]+), ?Signature=([0-9a-f]{64})"
)
"""An Authorization field as nearly all clients write it; the patterns below take all others."""
_AUTHORIZATION = re.compile(r"AWS4-HMAC-SHA256\s+(.*)", re.DOTALL)
_PARTS = re.compile(r"\s*([A-Za-z]+)=([^,]*?)\s*(?:,|$)")
_TIME = re.compile(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z")
_HEX = re.compile(r"[0-9a-fA-F]{64}")

QUERY_NAMES = ("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders")

_MISSING = (
    "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, "
    "X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters."
)


class SignatureRefused(Unauthenticated):
    """A signature, or what stands around it, is not one that we accept. ``details`` are names and values for its
    sender, of nothing but what was sent and of our clock."""

    def __init__(self, code: str, message: str, details: Mapping[str, str] | None = None) -> None:
        super().__init__(message, lacking=f"signature ({code})")
        self._code = code
        self.details = details or {}

    @property
    def code(self) -> str:
        return self._code


class Credential(NamedTuple):
    """``FL…/20260131/us-east-1/s3/aws4_request``"""

    access_key_id: str
    date: str
    region: str
    service: str
    terminal: str

    @property
    def scope(self) -> str:
        return f"{self.date}/{self.region}/{self.service}/{self.terminal}"


class Signature(NamedTuple):
    """What a request says of its signature."""

    credential: Credential
    time: str
    """``20260131T235959Z``"""
    signed: tuple[str, ...]
    """Names of fields, in lower case."""
    value: str
    payload: str
    """What the signature says of the body: UNSIGNED_PAYLOAD, a SHA-256 in hex, or one of ``streaming``'s words."""
    expires: int = -1
    """Of a pre-signed URL, in seconds from ``time``; -1: it stands in the Authorization field."""

    @property
    def is_presigned(self) -> bool:
        return self.expires >= 0


def find_signature(query: str, fields: Mapping[str, str]) -> Signature | None:
    """Return what the request says of its signature; None if it has none. Raises SignatureRefused."""
    authorization = fields.get("authorization")
    in_query = "X-Amz-" in query and any(
        part.partition("=")[0] in ("X-Amz-Algorithm", "X-Amz-Signature", "X-Amz-Credential")
        for part in query.split("&")
    )
    if authorization:
        if in_query:
            raise SignatureRefused(
                "InvalidArgument",
                "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string "
                "parameter or the Authorization header should be specified",
            )
        return parse_authorization(authorization, fields)
    if in_query:
        return parse_presigned(query, fields)
    if "AWSAccessKeyId=" in query:
        raise _old_version()
    return None


def parse_authorization(text: str, fields: Mapping[str, str]) -> Signature:
    """Return the signature in an Authorization field. Raises SignatureRefused."""
    usual = _USUAL.fullmatch(text)
    if usual is not None:
        credential = Credential(*usual.group(1, 2, 3, 4, 5))
        return Signature(credential, _find_time(fields), tuple(usual[6].split(";")), usual[7], _find_payload(fields))
    match = _AUTHORIZATION.fullmatch(text)
    if match is None:
        if text.startswith("AWS ") and ":" in text:
            raise _old_version()
        raise SignatureRefused("InvalidArgument", "Unsupported Authorization Type")
    parts = dict(_PARTS.findall(match[1]))
    for name in ("Credential", "SignedHeaders", "Signature"):
        if not parts.get(name):
            raise _malformed(f"{name} is missing" if name not in parts else f"{name} is empty")
    credential = parse_credential(parts["Credential"], _malformed)
    signed = tuple(parts["SignedHeaders"].split(";"))
    return Signature(credential, _find_time(fields), signed, parts["Signature"], _find_payload(fields))


def parse_presigned(query: str, fields: Mapping[str, str]) -> Signature:
    """Return the signature in the query of a pre-signed URL. Raises SignatureRefused."""
    values = {name: value for name, value in map(_decode_pair, query.split("&")) if name.startswith("X-Amz-")}
    if any(not values.get(name) for name in (*QUERY_NAMES, QUERY_SIGNATURE)):
        raise _bad_query(_MISSING)
    if values["X-Amz-Algorithm"] != ALGORITHM:
        raise _bad_query('X-Amz-Algorithm only supports "AWS4-HMAC-SHA256"')
    credential = parse_credential(values["X-Amz-Credential"], _bad_query)
    time = values["X-Amz-Date"]
    if _TIME.fullmatch(time) is None:
        raise _bad_query("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"")
    expires = _parse_expires(values["X-Amz-Expires"])
    payload = fields.get("x-amz-content-sha256") or values.get("X-Amz-Content-Sha256") or UNSIGNED_PAYLOAD
    signed = tuple(values["X-Amz-SignedHeaders"].split(";"))
    return Signature(credential, time, signed, values[QUERY_SIGNATURE], payload, expires)


def check_scope(signature: Signature, region: str) -> None:
    """Raise SignatureRefused unless the signature is for its own day, and for S3 in our region."""
    credential, day = signature.credential, signature.time[:8]
    refuse = _bad_query if signature.is_presigned else _malformed
    if credential.date != day:
        raise refuse(f'Invalid credential date "{credential.date}". This date is not the same as X-Amz-Date: "{day}".')
    if credential.region != region:
        raise refuse(f"the region '{credential.region[:40]}' is wrong; expecting '{region}'", {"Region": region})
    if credential.service != SERVICE:
        raise refuse(f'incorrect service "{credential.service[:40]}". This endpoint belongs to "{SERVICE}".')
    if credential.terminal != TERMINAL:
        raise refuse(f'incorrect terminal "{credential.terminal[:40]}". This endpoint uses "{TERMINAL}".')


def check_time(signature: Signature, now: float) -> None:
    """Raise SignatureRefused unless the signature is of this time. ``now``: seconds since 1970."""
    made = parse_time(signature.time)
    if made is None:
        raise _no_date()
    if not signature.is_presigned:
        if abs(now - made) > SKEW_SECONDS:
            raise SignatureRefused(
                "RequestTimeTooSkewed",
                "The difference between the request time and the current time is too large.",
                {
                    "RequestTime": signature.time,
                    "ServerTime": format_time(now),
                    "MaxAllowedSkewMilliseconds": str(SKEW_SECONDS * 1000),
                },
            )
        return
    if made - now > SKEW_SECONDS:
        raise SignatureRefused("AccessDenied", "Request is not yet valid", {"ServerTime": format_time(now)})
    if now > made + signature.expires:
        raise SignatureRefused(
            "AccessDenied",
            "Request has expired",
            {
                "X-Amz-Expires": str(signature.expires),
                "Expires": format_time(made + signature.expires),
                "ServerTime": format_time(now),
            },
        )


def check_signature(
    signature: Signature, secret: str, method: str, path: str, query: str, fields: Mapping[str, str]
) -> None:
    """Raise SignatureRefused unless the secret's holder has signed this request. Path and query are as they were sent;
    ``fields`` have lower-case names and latin-1 values."""
    check_signed_fields(signature, fields)
    canonical = canonical_request(
        method, path, query, fields, signature.signed, signature.payload, presigned=signature.is_presigned
    )
    to_sign = string_to_sign(signature.time, signature.credential.scope, canonical)
    credential = signature.credential
    key = signing_key(secret, credential.date, credential.region)
    wanted = sign(key, to_sign)
    if _is_same(wanted, signature.value):
        return
    if not canonical.isascii():
        # A field's value is signed as UTF-8 by clients that send it as latin-1, botocore's among them.
        other = string_to_sign(signature.time, credential.scope, canonical.decode("latin-1").encode())
        if _is_same(sign(key, other), signature.value):
            return
    raise SignatureRefused(
        "SignatureDoesNotMatch",
        "The request signature we calculated does not match the signature you provided. Check your key and signing "
        "method.",
        {
            "AWSAccessKeyId": credential.access_key_id,
            "StringToSign": to_sign[:SHOWN_CHARS_MAX],
            "SignatureProvided": signature.value[:128],
            "CanonicalRequest": canonical.decode("utf-8", "replace")[:SHOWN_CHARS_MAX],
        },
    )


def _is_same(wanted: str, shown: str) -> bool:
    return shown.isascii() and hmac.compare_digest(wanted, shown)


def check_signed_fields(signature: Signature, fields: Mapping[str, str]) -> None:
    """Raise SignatureRefused unless the signature covers the host and every field that says what is to be done."""
    signed = signature.signed
    missing = [name for name in fields if name.startswith("x-amz-") and name not in signed]
    if "host" not in signed:
        missing.append("host")
    if signature.is_presigned and "x-amz-content-sha256" in missing:
        missing.remove("x-amz-content-sha256")  # it stands in the canonical request itself
    if missing:
        raise SignatureRefused(
            "AccessDenied",
            "There were headers present in the request which were not signed",
            {"HeadersNotSigned": ", ".join(sorted(missing))[:1000]},
        )


@lru_cache(64)  # those who call at once write the same second
def parse_time(text: str) -> int | None:
    """Return seconds since 1970; None if it is not such a time."""
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = map(int, match.groups())
    if not (year >= 1970 and 1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second < 61):
        return None
    return calendar.timegm((year, month, day, hour, minute, second))


def format_time(seconds: float) -> str:
    """Return ``2026-01-31T23:59:59Z``."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def is_sha256(text: str) -> bool:
    return _HEX.fullmatch(text) is not None


def _find_time(fields: Mapping[str, str]) -> str:
    time = fields.get("x-amz-date", "")
    if parse_time(time) is None:
        raise _no_date()
    return time


def _find_payload(fields: Mapping[str, str]) -> str:
    payload = fields.get("x-amz-content-sha256")
    if payload is None:
        raise SignatureRefused("InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
    return payload


def parse_credential(text: str, refuse: Callable[[str], SignatureRefused]) -> Credential:
    parts = text.split("/")
    if len(parts) < 5 or len(parts[-4]) != 8 or not parts[-4].isdigit():
        raise refuse('the Credential is mal-formed; expecting "<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request".')
    return Credential("/".join(parts[:-4]), *parts[-4:])


def _parse_expires(text: str) -> int:
    if not re.fullmatch(r"-?\d{1,12}", text):
        raise _bad_query("X-Amz-Expires should be a number")
    if int(text) < 0:
        raise _bad_query("X-Amz-Expires must be non-negative")
    if int(text) > EXPIRES_SECONDS_MAX:
        raise _bad_query(
            "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than "
            f"{EXPIRES_SECONDS_MAX} seconds"
        )
    return int(text)


def _decode_pair(part: str) -> tuple[str, str]:
    name, _, value = part.replace("+", "%20").partition("=")
    return _decode(name), _decode(value)


def _decode(text: str) -> str:
    return unquote_to_bytes(text.encode("latin-1", "replace")).decode("utf-8", "replace")


def _malformed(reason: str, details: Mapping[str, str] | None = None) -> SignatureRefused:
    return SignatureRefused("AuthorizationHeaderMalformed", f"The authorization header is malformed; {reason}", details)


def _bad_query(reason: str, details: Mapping[str, str] | None = None) -> SignatureRefused:
    return SignatureRefused("AuthorizationQueryParametersError", reason, details)


def _no_date() -> SignatureRefused:
    return SignatureRefused("AccessDenied", "AWS authentication requires a valid Date or x-amz-date header")


def _old_version() -> SignatureRefused:
    return SignatureRefused(
        "InvalidRequest",
        "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.",
    )
