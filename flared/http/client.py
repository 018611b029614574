"""The client's end of one connection: send a request, read its reply into the caller's buffers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from flared.errors import ConnectionLost, LocalProtocolError, RemoteProtocolError
from flared.http.messages import EMPTY_BODY, Body, encode_fields, open_body
from flared.http.parsing import Fields, HeadLimits, HeadRefused, find_head_end, parse_reply_fields, parse_status_line
from flared.http.stream import Buffer, Link, Stream

_TARGET = re.compile(r"/[!-\"$-~]*")
_STATUSES_WITHOUT_BODY = frozenset({204, 304})


class BodyProducer(Protocol):
    """A request's body that is produced while it is sent."""

    length: int | None
    """None if unknown: the body is then sent in chunks."""

    async def next(self) -> Buffer | None:
        """Return the next bytes, never empty; None at the end. They are sent before the next call."""


@runtime_checkable
class WithTrailer(Protocol):
    """A producer whose body of unknown length has fields behind its end."""

    def trailer(self) -> Sequence[tuple[str, str]]:
        """Return them, once ``next`` has returned None."""


class Response:
    """A reply whose body is not read yet."""

    __slots__ = ("body", "fields", "status")

    def __init__(self, status: int, fields: Mapping[str, str], body: Body) -> None:
        self.status = status
        self.fields = fields
        """Lower-case names, latin-1 values; repeated ones are joined by ``, ``. Read-only."""
        self.body = body


class ClientConnection:
    """One keep-alive connection, used for one request at a time."""

    def __init__(self, stream: Stream, host: str, limits: HeadLimits, stall_seconds: float) -> None:
        self.stream = stream
        self._link = Link(stream, stall_seconds=stall_seconds)
        self._host = f" HTTP/1.1\r\nhost: {host}\r\n"
        self._limits = limits
        self._body: Body = EMPTY_BODY
        self._keep = True
        self._known_block = b""
        self._known_fields: Fields | None = None

    async def exchange(
        self, method: str, target: str, fields: Sequence[tuple[str, str]] | bytes, body: Sequence[Buffer] | BodyProducer
    ) -> Response:
        """Send the request and return its reply. Raise ConnectionLost and RemoteProtocolError.

        If the peer answers before it has the whole body, the rest is not sent.
        """
        self._keep = False
        head = self._make_head(method, target, fields)
        try:
            sent = await self._send(head, method, body)
        except ConnectionLost:
            # The peer may have sent its reason before it stopped reading.
            if not self._answered():
                raise
            sent = False
        status, minor, read = await self._receive_head()
        # After an early reply, or a body that ends with the connection, no other request can follow.
        self._keep = sent and not read.close and bool(minor or read.keep_alive)
        if method == "HEAD" or status in _STATUSES_WITHOUT_BODY:
            self._body = EMPTY_BODY
        else:
            self._body = open_body(self._link, read.length)
        return Response(status, read.values, self._body)

    @property
    def reusable(self) -> bool:
        """Return whether the last exchange is over and another may follow."""
        return self._keep and self._body.finished

    def is_quiet(self) -> bool:
        """Return False if the peer has closed the idle connection or sent bytes without a request."""
        if self._link.data:
            return False
        try:
            return self.stream.receive_nowait(1) is None
        except ConnectionLost:
            return False

    async def drain(self, limit: int) -> None:
        """Read the rest of the reply's body, if it has at most ``limit`` bytes."""
        left = self._body.left
        if self._keep and left and left <= limit:
            await self._body.read_all(limit)

    def close(self) -> None:
        self._keep = False
        self.stream.close()

    def _make_head(self, method: str, target: str, fields: Sequence[tuple[str, str]] | bytes) -> bytes:
        if not _TARGET.fullmatch(target):
            raise LocalProtocolError(f"{target!r} is not valid in a request line")
        lines = fields if isinstance(fields, bytes) else encode_fields(fields)
        return b"%b%b%b" % (f"{method} {target}".encode(), self._host.encode(), lines)

    async def _send(self, head: bytes, method: str, body: Sequence[Buffer] | BodyProducer) -> bool:
        """Send head and body; return False if the peer answered before all of it was sent."""
        if not isinstance(body, Sequence):
            return await self._send_source(head, body)
        length = sum(map(len, body))
        if length or method in ("PUT", "POST", "PATCH"):
            head += b"content-length: %d\r\n" % length
        await self._link.send_parts((head, b"\r\n", *body))
        return True

    async def _send_source(self, head: bytes, source: BodyProducer) -> bool:
        length = source.length
        if length is None:
            head += b"transfer-encoding: chunked\r\n\r\n"
        else:
            head += b"content-length: %d\r\n\r\n" % length
        # The head leaves with the first bytes of the body, in one call. A source that does not keep to its length
        # must not end as a whole request.
        sent = 0
        while (data := await source.next()) is not None:
            if self._answered():
                return False
            sent += len(data)
            if length is None:
                await self._link.send_parts((head, b"%x\r\n" % len(data), data, b"\r\n"))
            elif sent > length:
                raise LocalProtocolError(f"the body is longer than its {length} bytes")
            else:
                await self._link.send_parts((head, data))
            head = b""
        if length is not None and sent != length:
            raise LocalProtocolError(f"the body ended {length - sent} bytes early")
        if length is None:
            head += b"0\r\n%b\r\n" % (encode_fields(source.trailer()) if isinstance(source, WithTrailer) else b"")
        await self._link.send(head)
        return True

    def _answered(self) -> bool:
        """Return whether bytes of a reply have arrived."""
        try:
            return self._link.refill_nowait()
        except ConnectionLost:
            return False

    async def _receive_head(self) -> tuple[int, int, Fields]:
        """Return the head of the final reply; skip interim ones (1xx)."""
        link = self._link
        while True:
            end = await self._find_head_end()
            data, at = link.data, link.at
            line_end = data.index(b"\n", at) + 1
            status, minor = parse_status_line(data[at:line_end])
            fields = self._parse_fields(data[line_end:end])
            link.skip(end - at)
            if status == 101:
                raise RemoteProtocolError("the peer switched protocols without being asked")
            if status >= 200:
                return status, minor, fields

    def _parse_fields(self, block: bytes) -> Fields:
        # Replies of one size to one kind of request have equal fields: parse those only once.
        if self._known_fields is None or block != self._known_block:
            self._known_fields = parse_reply_fields(block, self._limits)
            self._known_block = block
        return self._known_fields

    async def _find_head_end(self) -> int:
        link = self._link
        looked = 0
        while True:
            try:
                end = find_head_end(link.data, link.at, link.at + looked, self._limits)
            except HeadRefused as error:
                raise RemoteProtocolError(f"the reply: {error}") from error
            if end >= 0:
                return end
            looked = len(link.data) - link.at
            if not await link.refill():
                raise ConnectionLost(f"{self.stream.peer} closed the connection without a reply")
