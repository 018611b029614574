"""Bodies that a signature speaks of: a request's body that raises before its end if it is not the one signed.

Both are sources of a body for a put (``chunks.chunker.BodySource``). The last bytes are handed out only when the whole
was seen to be right, so nothing is committed of one that is not.
"""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import TYPE_CHECKING

from flared.access.aws_chunks import LINE_BYTES_MAX, ChunkDecoder, Wants, ended_early
from flared.errors import BadRequest, BodyTruncated, TooLarge
from flared.http.messages import Body

if TYPE_CHECKING:
    from collections.abc import Mapping

WINDOW_BYTES = 4096
"""Read at once where a line is looked for; what follows the line is data, and is copied."""


class WrongPayload(BadRequest):
    """The body does not have the SHA-256 that the signature promises."""

    @property
    def code(self) -> str:
        return "XAmzContentSHA256Mismatch"


class HashedBody(Body):
    """A body whose SHA-256 the signature promises."""

    __slots__ = ("_digest", "digest", "source")

    def __init__(self, source: Body, digest: bytes) -> None:
        self.length = source.length
        self.source = source
        self.digest = digest
        """Who computes it anyhow reads ``source``, and compares."""
        self._digest = sha256()

    async def receive_into(self, buffer: memoryview) -> int:
        count = await self.source.receive_into(buffer)
        self._digest.update(buffer[:count])
        if not count or self.source.left == 0:
            self._check(self._digest.digest())
        return count

    async def read_all(self, limit: int) -> bytes:
        data = await self.source.read_all(limit)
        self._digest.update(data)
        self._check(self._digest.digest())
        return data

    def _check(self, found: bytes) -> None:
        if not hmac.compare_digest(found, self.digest):
            raise wrong_payload()

    @property
    def left(self) -> int | None:
        return self.source.left


class ChunkedPayload(Body):
    """A body in chunks of aws-chunked, whose data has ``length`` bytes."""

    __slots__ = ("_decoder", "_ended", "_pending", "_source", "_undelivered")

    def __init__(self, source: Body, decoder: ChunkDecoder, length: int) -> None:
        self.length: int = length
        self._source = source
        self._decoder = decoder
        self._pending = memoryview(b"")
        """Received, and not looked at yet."""
        self._undelivered = b""
        """The last bytes of the data, while what follows them is still to be checked."""
        self._ended = False

    @property
    def trailers(self) -> Mapping[str, str]:
        """What came behind the data; complete when it has ended."""
        return self._decoder.trailers

    @property
    def left(self) -> int | None:
        return 0 if self._ended and not self._undelivered else None

    async def receive_into(self, buffer: memoryview) -> int:
        decoder = self._decoder
        if not self._undelivered:
            while decoder.wants is Wants.LINE:
                await self._next_line()
            if decoder.wants is Wants.DATA:
                view = buffer[: decoder.left]
                count = await self._receive(view)
                decoder.take_data(view[:count])
                if decoder.size < self.length:
                    return count
                if decoder.size > self.length or decoder.left:
                    raise _other_length()
                # A caller that is cancelled while it awaits the end gets these bytes at the next call.
                self._undelivered = bytes(view[:count])
        if not self._ended:
            await self._check_end()
            self._ended = True
        last, self._undelivered = self._undelivered[: len(buffer)], self._undelivered[len(buffer) :]
        buffer[: len(last)] = last
        return len(last)

    async def read_all(self, limit: int) -> bytes:
        """The same as for any body; one without data is read to its end, too."""
        if self.length > limit:
            raise TooLarge(f"the body has {self.length} bytes; at most {limit} are allowed")
        return await super().read_all(limit)

    async def _check_end(self) -> None:
        """Take what follows the data. Raise unless it ends where it says."""
        decoder = self._decoder
        while decoder.wants is Wants.LINE:
            await self._next_line()
        if decoder.wants is Wants.DATA or decoder.size != self.length:
            raise _other_length()
        if self._pending or await self._source.receive_into(memoryview(bytearray(1))):
            raise BadRequest("the body is not aws-chunked: more follows its end")

    async def _receive(self, view: memoryview) -> int:
        pending = self._pending
        if pending:
            count = min(len(pending), len(view))
            view[:count] = pending[:count]
            self._pending = pending[count:]
            return count
        count = await self._source.receive_into(view)
        if not count:
            raise ended_early()
        return count

    async def _next_line(self) -> None:
        while (end := bytes(self._pending[: LINE_BYTES_MAX + 2]).find(b"\r\n")) < 0:
            if len(self._pending) > LINE_BYTES_MAX:
                raise BadRequest(f"the body is not aws-chunked: a line has more than {LINE_BYTES_MAX} bytes")
            await self._fill()
        line, self._pending = bytes(self._pending[:end]), self._pending[end + 2 :]
        self._decoder.take_line(line)

    async def _fill(self) -> None:
        """Receive more behind what is pending."""
        window = memoryview(bytearray(WINDOW_BYTES))
        count = await self._source.receive_into(window)
        if not count:
            raise ended_early()
        self._pending = memoryview(bytes(self._pending) + window[:count])


def wrong_payload() -> WrongPayload:
    return WrongPayload("The provided 'x-amz-content-sha256' header does not match what was computed.")


def _other_length() -> BodyTruncated:
    return BodyTruncated("the body has another length than x-amz-decoded-content-length says")
