"""What a handler holds: the Request with its Body, and the Reply it sends."""

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
"""Chunk extensions and trailers of one body in all: they are ignored, so nobody needs many."""
DRAIN_BYTES_MAX = 64 * 1024
"""A body that nobody wanted is read up to here, so that the connection can be kept."""
READ_BYTES = 64 * 1024
"""A body of unknown length is gathered in units of this."""

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_CLOSE = b"connection: close\r\n"
_FORBIDDEN = re.compile(r"[\0\r\n]")
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in http.HTTPStatus}
_WITHOUT_BODY = frozenset({204, 304})


class Body(ABC):
    """The bytes of a Request or a Response, to be read once, in order, by one task."""

    __slots__ = ("length",)

    length: int | None
    """None: it comes in chunks, its length is not known before its end."""

    @abstractmethod
    async def receive_into(self, buffer: memoryview) -> int:
        """The next 1 to len(buffer) bytes; 0 at the end.

        BodyTruncated if the peer stops before the end it promised, ConnectionLost if it is gone,
        RemoteProtocolError if the chunks are broken. Does not wait, nor let others run, while bytes are there.
        """

    @property
    @abstractmethod
    def left(self) -> int | None:
        """The bytes that were not taken yet; None if that cannot be known."""

    @property
    def finished(self) -> bool:
        """Whether the end was reached, so that the connection can carry the next message."""
        return self.left == 0

    async def read_all(self, limit: int) -> bytes:
        """The whole body; TooLarge if it has more than ``limit`` bytes."""
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
    """A body whose length was announced: nothing parses it, it goes straight into the caller's buffer."""

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
            raise self._link.truncated(f"{left} of the body's {self.length} bytes did not come")
        self._left = left - count
        return count

    @property
    def left(self) -> int | None:
        # Until it was told to continue, the peer may send the body or leave it.
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
    """A body in chunks; extensions and trailers are read and ignored."""

    __slots__ = ("_between", "_finished", "_framing", "_left", "_link", "_ready")

    def __init__(self, link: Link, ready: Callable[[], Awaitable[None]] | None = None) -> None:
        self.length = None
        self._link = link
        self._ready = ready
        self._left = 0
        self._between = False
        self._finished = False
        self._framing = 0

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

    def _count_framing(self, count: int) -> None:
        self._framing += max(count, 0)
        if self._framing > FRAMING_BYTES_MAX:
            raise RemoteProtocolError(f"more than {FRAMING_BYTES_MAX} bytes of chunk extensions and trailers")


class UntilCloseBody(Body):
    """The body of an old server's reply: it ends where the connection ends."""

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
    """The body of a head whose ``Fields.length`` this is; ``ready`` is awaited before the first byte is taken."""
    if length == 0:
        return EMPTY_BODY
    if length is None:
        return ChunkedBody(link, ready)
    if length == UNTIL_CLOSE:
        return UntilCloseBody(link)
    return LengthBody(link, length, ready)


class Request:
    """One request, its body not yet read."""

    __slots__ = ("body", "fields", "method", "path", "peer", "query")

    def __init__(self, method: str, path: str, query: str, fields: Mapping[str, str], body: Body, peer: str) -> None:
        self.method = method
        self.path = path
        """As it was sent, still percent-encoded (bytes as latin-1), up to the ``?``."""
        self.query = query
        """What follows the ``?``, as it was sent."""
        self.fields = fields
        """Lower-case names, latin-1 values, repeated ones joined by ``, ``. Not to be changed: equal heads share it."""
        self.body = body
        self.peer = peer


class Reply:
    """The one reply to a request: either ``send``, or ``start`` and then ``write`` until its length is reached."""

    # Defaults stand on the class: a reply is made for every request, and most never change them.
    started = False
    """Whether bytes of the final reply are out. Until then ``send`` may still replace what ``start`` announced."""
    status = 0
    body: Body = EMPTY_BODY
    """The request's: what is left unread of it decides whether the connection can be kept."""
    ending = b""
    """A field line that goes with a connection kept open."""
    finished = False
    """Whether the reply is out, to its last byte."""
    _head = b""
    _left = 0
    _writing = False

    def __init__(self, link: Link, mute: bool, close: bool) -> None:
        """``mute`` for HEAD: no body leaves."""
        self._link = link
        self._mute = mute
        self.close = close
        """Whether the connection ends with this reply; may be set by the handler before the reply starts."""

    def prove(self, standing: Standing) -> None:
        """The handler found that the client has proved so much, for this connection and as long as it lasts."""
        self._link.raise_standing(standing)

    async def send(self, status: int, fields: ReplyFields, body: Buffer = b"") -> None:
        """The whole reply, in one send of the socket if it is small. ConnectionLost if the peer is gone."""
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
        """Announce a body of ``length`` bytes. The head leaves with the first write."""
        if self.started:
            raise LocalProtocolError("this request was answered already")
        self._head = self._make_head(status, fields, length)
        self._left = 0 if self._mute else length
        if not self._left:
            self.started = True
            await self._link.send(self._head)
            self.finished = True

    async def write(self, data: Buffer) -> None:
        """The next bytes of the body; when this returns ``data`` may be reused. ConnectionLost if the peer is gone.

        Cancelled half-way the reply can neither be continued nor finished.
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
        """Like ``write``, for about ``seconds`` at most: how many of the bytes went. The rest is to be written next."""
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
        """Tell a client that waits with its body that we want it."""
        if not self.started:
            await self._link.send(_CONTINUE)

    def _make_head(self, status: int, fields: ReplyFields, length: int) -> bytes:
        self.status = status
        lines = fields if isinstance(fields, bytes) else encode_fields(fields)
        if self.body is not EMPTY_BODY:
            left = self.body.left
            if left is None or left > DRAIN_BYTES_MAX:
                self.close = True
        return pack_head(status, lines, _CLOSE if self.close else self.ending, length)


Handler = Callable[[Request, Reply], Awaitable[None]]
"""Answers one request. What it raises before the reply started becomes a 500; afterwards the connection is cut."""


def pack_head(status: int, lines: bytes, ending: bytes, length: int) -> bytes:
    """The head of a reply whose body has ``length`` bytes. ``ending``: a field line about the connection, or empty."""
    line = _STATUS_LINES.get(status) or status_line(status)
    if status in _WITHOUT_BODY:
        return b"%b%b%b\r\n" % (line, lines, ending)
    return b"%b%b%bcontent-length: %d\r\n\r\n" % (line, lines, ending, length)


def status_line(status: int) -> bytes:
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d Status\r\n" % status


def encode_fields(fields: Sequence[tuple[str, str]]) -> bytes:
    """Field lines as they travel; LocalProtocolError if one would break the head."""
    text = "".join([f"{name}: {value}\r\n" for name, value in fields])
    if len(_FORBIDDEN.findall(text)) != 2 * len(fields):
        raise LocalProtocolError("a field holds CR, LF or NUL")
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError as error:
        raise LocalProtocolError("a field holds a character beyond latin-1") from error
