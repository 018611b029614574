"""Bodies in signed chunks (aws-chunked): a decoder that is given lines and data, and finds what is wrong. Pure.

    body    = *chunk last *trailer CRLF
    chunk   = size [";chunk-signature=" signature] CRLF data CRLF
    last    = "0" [";chunk-signature=" signature] CRLF
    trailer = name ":" value CRLF            the last one of a signed body: x-amz-trailer-signature

The signature of each chunk covers the one before it; the first, that of the request. So no chunk can be left out,
altered or moved. Source: the S3 API reference, "Signature calculations: transferring payload in multiple chunks" and
"… including trailing headers". What carries the bytes is ``api.s3.bodies``.
"""

from __future__ import annotations

import hmac
import re
from enum import Enum
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from flared.access.sigv4 import SignatureRefused
from flared.access.sigv4_canonical import EMPTY_SHA256, sign
from flared.errors import BadRequest, BodyTruncated

if TYPE_CHECKING:
    from collections.abc import Mapping

CHUNK_BYTES_MAX = 1 << 40
LINE_BYTES_MAX = 1024
"""Of the line before a chunk, and of a trailer."""
TRAILER_BYTES_MAX = 8 * 1024

SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
SIGNED_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
TRAILER_SIGNATURE = "x-amz-trailer-signature"

_CHUNK_LINE = re.compile(rb"([0-9a-fA-F]{1,16})(?:;chunk-signature=([0-9a-f]{64}))?\s*")
_TRAILER = re.compile(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*(.*?)[ \t]*")


class ChunkSeal(NamedTuple):
    """What the signatures of a body are made with."""

    key: bytes
    time: str
    scope: str
    seed: str
    """The signature of the request."""


class Wants(Enum):
    """What the decoder is to be given next."""

    LINE = "a line, without its CRLF"
    DATA = "bytes of a chunk"
    NOTHING = "nothing: the body has ended"


class ChunkDecoder:
    """Decodes one body. ``wants`` says what comes next. A body that it refuses is not the one that was signed."""

    def __init__(self, seal: ChunkSeal | None, *, trailers: bool) -> None:
        """``seal``: None if the chunks are not signed."""
        self._seal = seal
        self._previous = seal.seed if seal is not None else ""
        self._with_trailers = trailers
        self.wants = Wants.LINE
        self.left = 0
        """Bytes of the current chunk still to come."""
        self.size = 0
        """Bytes of data so far."""
        self.trailers: dict[str, str] = {}
        """What came behind the data, when the body has ended. Names in lower case."""
        self._take = self._take_chunk_line
        self._digest = sha256()
        self._signature = ""
        self._trailer_bytes = 0
        self._trailer_text = ""

    def take_line(self, line: bytes) -> None:
        """Take a line. Raises BadRequest, BodyTruncated and SignatureRefused."""
        assert self.wants is Wants.LINE
        self._take(line)

    def take_data(self, data: bytes | memoryview) -> None:
        """Take the next bytes of a chunk, at most ``left``. Raises SignatureRefused at its end if it is not right."""
        assert self.wants is Wants.DATA
        assert len(data) <= self.left
        self.left -= len(data)
        self.size += len(data)
        if self._seal is not None:
            self._digest.update(data)
        if not self.left:
            self._check_chunk(self._digest.hexdigest())
            self.wants, self._take = Wants.LINE, self._take_chunk_end

    def _take_chunk_line(self, line: bytes) -> None:
        match = _CHUNK_LINE.fullmatch(line)
        if match is None or (match[2] is None) != (self._seal is None):
            raise _broken("a chunk does not begin with its size" + (" and signature" if self._seal else ""))
        size = int(match[1], 16)
        if size > CHUNK_BYTES_MAX:
            raise _broken("a chunk is larger than any object")
        self._signature = (match[2] or b"").decode()
        self._digest = sha256()
        self.left = size
        if size:
            self.wants = Wants.DATA
        else:
            self._check_chunk(EMPTY_SHA256)
            self._take = self._take_trailer

    def _take_chunk_end(self, line: bytes) -> None:
        if line:
            raise _broken("a chunk is longer than its size says")
        self._take = self._take_chunk_line

    def _take_trailer(self, line: bytes) -> None:
        self._trailer_bytes += len(line)
        if self._trailer_bytes > TRAILER_BYTES_MAX:
            raise _broken(f"the trailers have more than {TRAILER_BYTES_MAX} bytes")
        if not line:
            return self._end()
        match = _TRAILER.fullmatch(line.decode("latin-1"))
        if match is None or not self._with_trailers:
            raise _broken("behind the last chunk stands what is not a trailer")
        name = match[1].lower()
        if name in self.trailers or TRAILER_SIGNATURE in self.trailers:
            raise _broken(f"the trailer {name[:80]} is given twice, or follows the signature")
        self.trailers[name] = match[2]
        if name != TRAILER_SIGNATURE:
            self._trailer_text += f"{name}:{match[2]}\n"
        return None

    def _end(self) -> None:
        found = self.trailers.pop(TRAILER_SIGNATURE, None)
        if self._seal is not None and self._with_trailers:
            text = self._trailer_text.encode("latin-1")
            self._check("AWS4-HMAC-SHA256-TRAILER", sha256(text).hexdigest(), found or "")
        self.wants = Wants.NOTHING

    def _check_chunk(self, digest: str) -> None:
        if self._seal is not None:
            self._check("AWS4-HMAC-SHA256-PAYLOAD", f"{EMPTY_SHA256}\n{digest}", self._signature)

    def _check(self, kind: str, content: str, signature: str) -> None:
        seal = self._seal
        assert seal is not None
        wanted = sign(seal.key, f"{kind}\n{seal.time}\n{seal.scope}\n{self._previous}\n{content}")
        if not (signature.isascii() and hmac.compare_digest(wanted, signature)):
            raise SignatureRefused(
                "SignatureDoesNotMatch",
                "The request signature we calculated does not match the signature you provided. Check your key and "
                "signing method.",
            )
        self._previous = signature


def decoded_length(fields: Mapping[str, str]) -> int | None:
    """Return the length of the data in a body of chunks; None if nothing, or nothing sensible, is said of it."""
    text = fields.get("x-amz-decoded-content-length", "")
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def ended_early() -> BodyTruncated:
    return BodyTruncated("the body ends before its last chunk")


def _broken(reason: str) -> BadRequest:
    return BadRequest(f"the body is not aws-chunked: {reason}")
