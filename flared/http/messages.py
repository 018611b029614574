"""The values a handler works with: the Request with its Body, and the Reply it sends."""

from __future__ import annotations

import http
import re
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence

from flared.errors import LocalProtocolError, RemoteProtocolError, TooLarge
from flared.http.eviction import Standing
from flared.http.parsing import UNTIL_CLOSE, parse_chunk_size
from flared.http.stream import JOIN_BYTES_MAX, Buffer, Link

ReplyFields = Sequence[tuple[str, str]] | bytes
"""Field lines; as bytes they are already ``Name: value`` lines, each ending in CRLF, and are sent unchecked."""

CHUNK_LINE_BYTES_MAX = 512
FRAMING_BYTES_MAX = 64 * 1024
"""Total size of a body's chunk extensions and trailers: few are needed."""
DRAIN_BYTES_MAX = 64 * 1024
"""An unwanted body is read up to this size, so that the connection can be kept."""
READ_BYTES = 64 * 1024
"""A body of unknown length is gathered in units of this size."""

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_CLOSE = b"connection: close\r\n"
_FORBIDDEN = re.compile(r"[\0\r\n]")
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in http.HTTPStatus}
_WITHOUT_BODY = frozenset({204, 304})


class Body(ABC):
    """The bytes of a Request or a Response, to be read once, in order, by one task."""

    __slots__ = ("length",)

    length: int | None
    """None for a chunked body, whose length is not known before its end."""

    @abstractmethod
    async def receive_into(self, buffer: memoryview) -> int:
        """Receive the next bytes into ``buffer``; return their number, 0 at the end.

        Raise BodyTruncated if the peer stops before the announced end, ConnectionLost if it is gone,
        RemoteProtocolError if the chunks are broken. Does not wait, nor let other tasks run, while bytes are here.
        """

    @property
    @abstractmethod
    def left(self) -> int | None:
        """Return the number of bytes not read yet; None if it is unknown."""

    @property
    def finished(self) -> bool:
        """Return whether the end was reached, so that the connection can carry the next message."""
        return self.left == 0

    async def read_all(self, limit: int) -> bytes:
        """Return the whole body. Raise TooLarge if it has more than ``limit`` bytes."""
        parts: list[bytes] = []
        size = 0
        with memoryview(bytearray(READ_BYTES)) as view:
            while count := await self.receive_into(view):
                size += count
                if size > limit:
                    raise TooLarge(f"the body is larger than {limit} bytes")
                parts.append(bytes(view[:count]))
        return b"".join(parts)


class EmptyBody(Body):
    __slots__ = ()

    def __init__(self) -> None:
        self.length = 0

    async def receive_into(self, buffer: memoryview) -> int:
        return 0

    @property
    def left(self) -> int:
        return 0

    async def read_all(self, limit: int) -> bytes:
        return b""


EMPTY_BODY = EmptyBody()


class LengthBody(Body):
    """A body of announced length: it goes straight into the caller's buffer, unparsed."""

    __slots__ = ("_left", "_link", "_ready")

    def __init__(self, link: Link, length: int, ready: Callable[[], Awaitable[None]] | None = None) -> None:
        self.length: int = length
        self._left = length
        self._link = link
        self._ready = ready

    async def receive_into(self, buffer: memoryview) -> int:
        left = self._left
        if not left:
            return 0
        if self._ready is not None:
            await self._ready()
            self._ready = None
        count = await self._link.receive_into(buffer if len(buffer) <= left else buffer[:left])
        if not count:
            raise self._link.truncated(f"{left} of the body's {self.length} bytes are missing")
        self._left = left - count
        return count

    @property
    def left(self) -> int | None:
        # Until it receives 100 Continue, the peer may send the body or not.
        return self._left if self._ready is None else None

    async def read_all(self, limit: int) -> bytes:
        left = self._left
        if left > limit:
            raise TooLarge(f"the body has {self.length} bytes; at most {limit} are allowed")
        link = self._link
        if len(link.data) - link.at >= left:
            data = link.data[link.at : link.at + left]
            link.skip(left)
            self._left = 0
            self._ready = None
            return data
        gathered = bytearray(left)
        with memoryview(gathered) as view:
            at = 0
            while at < left:
                at += await self.receive_into(view[at:])
        return bytes(gathered)


class ChunkedBody(Body):
    """A body in chunks; extensions are read and ignored, and the fields behind the last chunk kept."""

    __slots__ = ("_between", "_finished", "_framing", "_left", "_link", "_ready", "trailer")

    def __init__(self, link: Link, ready: Callable[[], Awaitable[None]] | None = None) -> None:
        self.length = None
        self._link = link
        self._ready = ready
        self._left = 0
        self._between = False
        self._finished = False
        self._framing = 0
        self.trailer: dict[str, str] = {}
        """Complete when the body has ended. Lower-case names, latin-1 values; of a repeated one the last."""

    async def receive_into(self, buffer: memoryview) -> int:
        if self._ready is not None:
            await self._ready()
            self._ready = None
        if not self._left and not self._finished:
            await self._next_chunk()
        if self._finished:
            return 0
        count = await self._link.receive_into(buffer[: self._left])
        if not count:
            raise self._link.truncated("the connection ended inside a chunk")
        self._left -= count
        return count

    @property
    def left(self) -> int | None:
        return 0 if self._finished else None

    async def _next_chunk(self) -> None:
        if self._between and await self._link.read_line(0):
            raise RemoteProtocolError("a chunk is longer than its size says")
        self._between = True
        line = await self._link.read_line(CHUNK_LINE_BYTES_MAX)
        self._left = parse_chunk_size(line)
        self._count_framing(len(line) - 16)
        while not self._left and not self._finished:
            trailer = await self._link.read_line(CHUNK_LINE_BYTES_MAX)
            self._count_framing(len(trailer) + 2)
            self._finished = not trailer
            name, colon, value = trailer.decode("latin-1").partition(":")
            if colon:
                self.trailer[name.lower()] = value.strip(" \t")

    def _count_framing(self, count: int) -> None:
        self._framing += max(count, 0)
        if self._framing > FRAMING_BYTES_MAX:
            raise RemoteProtocolError(f"more than {FRAMING_BYTES_MAX} bytes of chunk extensions and trailers")


class UntilCloseBody(Body):
    """The body of an old server's reply: it ends with the connection."""

    __slots__ = ("_link",)

    def __init__(self, link: Link) -> None:
        self.length = None
        self._link = link

    async def receive_into(self, buffer: memoryview) -> int:
        return await self._link.receive_into(buffer)

    @property
    def left(self) -> None:
        return None


def open_body(link: Link, length: int | None, ready: Callable[[], Awaitable[None]] | None = None) -> Body:
    """Return the body for a head with this ``Fields.length``; ``ready`` is awaited before the first receive."""
    if length == 0:
        return EMPTY_BODY
    if length is None:
        return ChunkedBody(link, ready)
    if length == UNTIL_CLOSE:
        return UntilCloseBody(link)
    return LengthBody(link, length, ready)


class Request:
    """One request whose body is not read yet."""

    __slots__ = ("about", "body", "caller", "fields", "method", "once", "path", "peer", "query", "secure")

    def __init__(self, method: str, path: str, query: str, fields: Mapping[str, str], body: Body, peer: str) -> None:
        self.method = method
        self.path = path
        """As it was sent, still percent-encoded (bytes as latin-1), up to the ``?``."""
        self.query = query
        """The part after the ``?``, as it was sent."""
        self.fields = fields
        """Lower-case names, latin-1 values; repeated ones are joined by ``, ``. Read-only: equal heads share it."""
        self.body = body
        """Who identifies the caller may put a wrapper around it."""
        self.peer = peer
        self.caller: object = None
        """The caller, as the handler has found it; kept here for what it calls."""
        self.secure = False
        """The connection is encrypted."""
        self.about = ""
        """What a handler says that the request is about, where neither path nor query does."""
        self.once: object = None
        """What a signed write records before it is carried out, so that it is not carried out twice."""


class Reply:
    """The one reply to a request: either ``send``, or ``start`` and then ``write`` until its length is reached."""

    # Defaults are class attributes: every request creates a reply, and most never change them.
    started = False
    """True once bytes of the final reply were sent.

    Until then ``send`` may still replace what ``start`` announced.
    """
    status = 0
    body: Body = EMPTY_BODY
    """The request's body: how much of it is unread decides whether the connection can be kept."""
    ending = b""
    """A field line for a connection that is kept open."""
    finished = False
    """True once the whole reply was sent."""
    extra = b""
    """Field lines that any reply gets, an error, too."""
    _head = b""
    _left = 0
    _writing = False

    def __init__(self, link: Link, mute: bool, close: bool) -> None:
        """``mute``: send no body, as HEAD requires."""
        self._link = link
        self._mute = mute
        self.close = close
        """True if the connection ends with this reply; the handler may set it before the reply starts."""

    def prove(self, standing: Standing) -> None:
        """Record how much the client has proved, for the lifetime of this connection."""
        self._link.raise_standing(standing)

    async def send(self, status: int, fields: ReplyFields, body: Buffer = b"") -> None:
        """Send the whole reply, a small one in one call. Raise ConnectionLost if the peer is gone."""
        if self.started:
            raise LocalProtocolError("this request was answered already")
        head = self._make_head(status, fields, len(body))
        self.started = True
        link = self._link
        if self._mute or status in _WITHOUT_BODY:
            await link.send(head)
        elif len(body) > JOIN_BYTES_MAX:
            await link.send_parts((head, body))
        else:
            data = b"".join((head, body))
            sent = link.stream.send_nowait(data)
            if sent != len(data):
                await link.send_rest(data, sent)
        self.finished = True

    async def start(self, status: int, fields: ReplyFields, length: int) -> None:
        """Announce a body of ``length`` bytes. The head is sent with the first write."""
        if self.started:
            raise LocalProtocolError("this request was answered already")
        self._head = self._make_head(status, fields, length)
        self._left = 0 if self._mute else length
        if not self._left:
            self.started = True
            await self._link.send(self._head)
            self.finished = True

    async def write(self, data: Buffer) -> None:
        """Send the next bytes of the body. When this returns, ``data`` may be reused. Raise ConnectionLost.

        After a cancellation in the middle, the reply can neither be continued nor finished.
        """
        if self._mute:
            return
        if self._writing or len(data) > self._left:
            raise LocalProtocolError("a write was cancelled" if self._writing else "the body is longer than announced")
        self._writing = True
        if self.started:
            await self._link.send(data)
        else:
            self.started = True
            await self._link.send_parts((self._head, data))
        self._writing = False
        self._left -= len(data)
        self.finished = not self._left

    async def write_some(self, data: Buffer, seconds: float) -> int:
        """Like ``write``, for about ``seconds`` at most. Return how many bytes were sent; write the rest next."""
        if self._mute:
            return len(data)
        if self._writing or len(data) > self._left:
            raise LocalProtocolError("a write was cancelled" if self._writing else "the body is longer than announced")
        self._writing = True
        link, count = self._link, 0
        if not self.started:
            self.started = True
            head = self._head
            count = link.stream.send_parts_nowait((head, data)) - len(head)
            if count < 0:
                await link.send_rest(head, len(head) + count)
                count = 0
        count = await link.send_some(data, count, seconds)
        self._writing = False
        self._left -= count
        self.finished = not self._left
        return count

    async def send_continue(self) -> None:
        """Send 100 Continue to a client that waits with its body."""
        if not self.started:
            await self._link.send(_CONTINUE)

    def _make_head(self, status: int, fields: ReplyFields, length: int) -> bytes:
        self.status = status
        lines = fields if isinstance(fields, bytes) else encode_fields(fields)
        if self.extra:
            lines += self.extra
        if self.body is not EMPTY_BODY:
            left = self.body.left
            if left is None or left > DRAIN_BYTES_MAX:
                self.close = True
        return pack_head(status, lines, _CLOSE if self.close else self.ending, length)


Handler = Callable[[Request, Reply], Awaitable[None]]
"""Answers one request. An exception before the reply has started becomes a 500; later it cuts the connection."""


def pack_head(status: int, lines: bytes, ending: bytes, length: int) -> bytes:
    """Return the head of a reply with a body of ``length`` bytes. ``ending``: the Connection field line, or empty."""
    line = _STATUS_LINES.get(status) or status_line(status)
    if status in _WITHOUT_BODY:
        return b"%b%b%b\r\n" % (line, lines, ending)
    return b"%b%b%bcontent-length: %d\r\n\r\n" % (line, lines, ending, length)


def status_line(status: int) -> bytes:
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d Status\r\n" % status


def encode_fields(fields: Sequence[tuple[str, str]]) -> bytes:
    """Return encoded field lines. Raise LocalProtocolError if one would break the head."""
    text = "".join([f"{name}: {value}\r\n" for name, value in fields])
    if len(_FORBIDDEN.findall(text)) != 2 * len(fields):
        raise LocalProtocolError("a field contains CR, LF or NUL")
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError as error:
        raise LocalProtocolError("a field contains a character beyond latin-1") from error
