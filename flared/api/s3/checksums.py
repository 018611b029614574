"""Checksums of a body, as S3's fields promise and return them. Pure.

``Content-MD5``, ``x-amz-checksum-ALGORITHM`` and what stands behind a body in chunks (``x-amz-trailer``) are promises.
``x-amz-sdk-checksum-algorithm`` alone asks for nothing: its sender has put the value in one of those fields.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import replace
from typing import TYPE_CHECKING

from flared.api.s3.bodies import ChunkedPayload, HashedBody, wrong_payload
from flared.api.s3.errors import S3Error
from flared.api.s3.xml import element
from flared.objects.digests import CHECKSUMS, MD5, SHA256, SIZES, Digests, Tag

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flared.catalog.manifest import Manifest
    from flared.chunks.chunker import BodySource
    from flared.errors import BadDigest, FlareError
    from flared.http.messages import Body

PREFIX = "x-amz-checksum-"
NAMES = {PREFIX + algorithm: algorithm for algorithm in CHECKSUMS}
ONLY_ETAG = Digests(etag=Tag.MD5)
FULL, COMPOSITE = "FULL_OBJECT", "COMPOSITE"


def take_digests(fields: Mapping[str, str], body: Body) -> tuple[BodySource, Digests]:
    """Return the body as a put reads it, and what is promised of it. Raises S3Error.

    The SHA-256 that a signature promises is compared by the put itself: it computes the digests of a body in threads.
    """
    late = _late(fields, body) if isinstance(body, ChunkedPayload) else ()
    digests = promised_digests(fields)
    if len(digests.checksums or ()) + len(late) > 1:
        raise _several()
    if isinstance(body, HashedBody):
        return body.source, replace(digests, sha256=body.digest)
    if isinstance(body, ChunkedPayload) and late:
        return body, replace(digests, wanted=late, late=lambda: _trailing(body, late))
    return body, digests


def promised_digests(fields: Mapping[str, str]) -> Digests:
    """Return what the head promises of a body whose ETag is its MD5. Raises S3Error."""
    promised = promised_checksums(fields)
    if len(promised) > 1:
        raise _several()
    md5 = promised_md5(fields)
    if not promised and md5 is None:
        return ONLY_ETAG
    return Digests(md5=md5, checksums=promised or None, etag=Tag.MD5)


def promised_md5(fields: Mapping[str, str]) -> bytes | None:
    """Return the digest in Content-MD5. Raises S3Error."""
    value = fields.get("content-md5")
    if value is None:
        return None
    digest = _decode(value, 16)
    if digest is None:
        raise S3Error("InvalidDigest", "The Content-MD5 you specified was invalid.")
    return digest


def promised_checksums(fields: Mapping[str, str]) -> dict[str, bytes]:
    """Return the checksums in the head, raw, by algorithm. Raises S3Error."""
    found: dict[str, bytes] = {}
    for name, value in fields.items():
        if not name.startswith(PREFIX) or name in (PREFIX + "mode", PREFIX + "type", PREFIX + "algorithm"):
            continue
        algorithm = NAMES.get(name)
        digest = _decode(value, SIZES[algorithm]) if algorithm else None
        if algorithm is None or digest is None:
            raise S3Error("InvalidRequest", f"Value for {name[:80]} header is invalid.")
        found[algorithm] = digest
    return found


def wanted_checksum(fields: Mapping[str, str]) -> str:
    """Return the algorithm of the checksum that a copy is asked for; empty for none. Raises S3Error."""
    asked = fields.get(PREFIX + "algorithm", "").lower()
    if asked and asked not in CHECKSUMS:
        raise S3Error("InvalidRequest", "Checksum algorithm provided is unsupported.")
    return asked


def explain_digest(error: BadDigest, digests: Digests) -> FlareError:
    """Return the error in S3's words: for the digest that a signature promised it has one of its own."""
    if error.algorithm == SHA256 and digests.sha256 is not None and SHA256 not in (digests.checksums or ()):
        return wrong_payload()
    if error.algorithm == MD5:
        return S3Error("BadDigest", "The Content-MD5 you specified did not match what we received.")
    name = error.algorithm.upper()
    return S3Error("BadDigest", f"The {name} you specified did not match the calculated checksum.")


def checksum_lines(manifest: Manifest) -> bytes:
    """Return the field lines with the checksums that are stored of an object."""
    details = manifest.details
    if details is None or not details.checksums:
        return b""
    text = "".join([f"{PREFIX}{algorithm}: {value}\r\n" for algorithm, value in details.checksums.items()])
    return f"{text}{PREFIX}type: {COMPOSITE if details.composite else FULL}\r\n".encode()


def checksum_elements(manifest: Manifest) -> list[str]:
    """Return the same as elements of XML."""
    details = manifest.details
    if details is None or not details.checksums:
        return []
    found = [element(f"Checksum{algorithm.upper()}", value) for algorithm, value in details.checksums.items()]
    return [*found, element("ChecksumType", COMPOSITE if details.composite else FULL)]


def _several() -> S3Error:
    return S3Error(
        "InvalidRequest", "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed."
    )


def _late(fields: Mapping[str, str], body: ChunkedPayload) -> tuple[str, ...]:
    """Return the algorithms whose checksums come behind the body. Raises S3Error."""
    names = [name.strip().lower() for name in fields.get("x-amz-trailer", "").split(",")]
    algorithms = []
    for name in filter(None, names):
        if name.startswith(PREFIX):
            if name not in NAMES:
                raise S3Error("InvalidRequest", "The value specified in the x-amz-trailer header is not supported")
            algorithms.append(NAMES[name])
    return tuple(algorithms)


def _trailing(body: ChunkedPayload, algorithms: tuple[str, ...]) -> dict[str, bytes]:
    """Return what came behind the body. Raises S3Error for a checksum that was announced and did not come."""
    found = {}
    for algorithm in algorithms:
        digest = _decode(body.trailers.get(PREFIX + algorithm, ""), SIZES[algorithm])
        if digest is None:
            raise S3Error("MalformedTrailerError", "The request contained trailing data that was not well-formed")
        found[algorithm] = digest
    return found


def _decode(value: str, size: int) -> bytes | None:
    try:
        digest = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return None
    return digest if len(digest) == size else None
