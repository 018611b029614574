"""multipart/form-data (RFC 7578) as a stream: one file out of a form, never held as a whole, and its other fields.

``FormParser`` is pure: bytes in, in pieces of any size, events out. ``FormFile`` puts it in front of a body.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from flared.errors import BadRequest, TooLarge

BOUNDARY_BYTES_MAX = 70  # RFC 2046, section 5.1.1
PART_HEAD_BYTES_MAX = 16 * 1024
OTHER_BYTES_MAX = 64 * 1024
"""Preamble, other fields and epilogue in all."""
PADDING_BYTES_MAX = 64
WINDOW_BYTES = 64 * 1024

_PARAMETER = re.compile(r';\s*([\w!#$%&\'*+.^`|~-]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^\s;"]*)\s*')
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{1,70}")
_BOUNDARY_END = re.compile(rb"--|[ \t]*\r\n")
_BOUNDARY_END_BEGUN = re.compile(rb"-|[ \t]*\r?")
_ESCAPED = re.compile(r'\\(["\\])')
_FIELD_VALUE = re.compile(r"[\t\x20-\x7e]*")


@dataclass(frozen=True, slots=True)
class Part:
    """The head of one part of a form."""

    name: str
    filename: str | None
    content_type: str | None


class Mark(Enum):
    NEED_DATA = "need data"
    PART_END = "part end"
    END = "end"


class State(Enum):
    PREAMBLE = "preamble"
    HEAD = "head"
    BODY = "body"
    EPILOGUE = "epilogue"


class FormParser:
    """Splits a form into parts. ``next_event`` until NEED_DATA, then ``receive`` more."""

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\r\n--" + boundary
        # The first boundary may begin the body: with this in front it looks like all others.
        self._buffer = bytearray(b"\r\n")
        self._state = State.PREAMBLE

    def receive(self, data: bytes | memoryview) -> None:
        self._buffer += data

    def next_event(self) -> Part | bytes | Mark:
        """A part's head, some of its bytes, its end, the end of the form, or NEED_DATA.

        Bytes before the first part come as bytes too. Raises BadRequest if this is not a form.
        """
        if self._state is State.HEAD:
            return self._next_head()
        if self._state is State.EPILOGUE:
            self._buffer.clear()
            return Mark.END
        return self._next_body()

    def _next_head(self) -> Part | Mark:
        buffer = self._buffer
        # A part without any field begins with the empty line at once.
        end = 0 if buffer.startswith(b"\r\n") else buffer.find(b"\r\n\r\n") + 2
        if end == 1 or len(buffer) < 2:
            if len(buffer) > PART_HEAD_BYTES_MAX:
                raise BadRequest(f"the head of a part of the form is longer than {PART_HEAD_BYTES_MAX} bytes")
            return Mark.NEED_DATA
        head = bytes(buffer[:end])
        del buffer[: end + 2]
        self._state = State.BODY
        return parse_part_head(head)

    def _next_body(self) -> Part | bytes | Mark:
        start, end, last = self._find_delimiter()
        if start:
            data = bytes(self._buffer[:start])
            del self._buffer[:start]
            return data
        if not end:
            return Mark.NEED_DATA
        del self._buffer[:end]
        ended = self._state is State.BODY
        self._state = State.EPILOGUE if last else State.HEAD
        return Mark.PART_END if ended else self.next_event()

    def _find_delimiter(self) -> tuple[int, int, bool]:
        """Up to where the buffer is surely body; where the delimiter behind that ends, 0 if unknown; is it the last?"""
        buffer, delimiter = self._buffer, self._delimiter
        looked = 0
        while (start := buffer.find(delimiter, looked)) >= 0:
            after = start + len(delimiter)
            match = _BOUNDARY_END.match(buffer, after, after + PADDING_BYTES_MAX)
            if match:
                return start, match.end(), match[0] == b"--"
            if len(buffer) < after + PADDING_BYTES_MAX and _BOUNDARY_END_BEGUN.fullmatch(buffer, after):
                return start, 0, False
            looked = start + 1  # the boundary goes on: it is body that looks like one
        # The end may be the beginning of a delimiter, which begins with a CR.
        begun = buffer.find(b"\r", max(0, len(buffer) - len(delimiter) + 1))
        return (len(buffer) if begun < 0 else begun), 0, False


class Source(Protocol):
    """The body of a request, as a form is read from it."""

    async def receive_into(self, buffer: memoryview) -> int: ...


def has_filename(part: Part) -> bool:
    """Return whether a browser or curl -F took the part from a file."""
    return part.filename is not None


class FormFile:
    """The one file of a form, as a body of unknown length. ``open`` it first.

    ``is_file`` says which part it is. Parts before it are kept in ``fields``, by name in lower case; of a name that
    comes twice the first one. What comes behind it is read and not kept.
    """

    length: int | None = None

    def __init__(self, body: Source, boundary: bytes, is_file: Callable[[Part], bool] = has_filename) -> None:
        self.fields: dict[str, bytes] = {}
        self._is_file = is_file
        self._body = body
        self._parser = FormParser(boundary)
        self._window = memoryview(bytearray(WINDOW_BYTES))
        self._ready = memoryview(b"")
        self._finished = False
        self._ignored = 0

    async def open(self) -> Part:
        """The head of the part that holds the file; raises BadRequest if there is none."""
        while (event := await self._next_event()) is not Mark.END:
            if isinstance(event, Part):
                if self._is_file(event):
                    return event
                await self._keep_field(event.name.lower())
            elif isinstance(event, bytes):
                self._ignore(len(event))
        await self._drain()
        raise BadRequest("the form holds no file (curl: -F file=@NAME)")

    async def receive_into(self, buffer: memoryview) -> int:
        """The next bytes of the file; 0 at its end, and only after the whole form was seen to be right."""
        if not self._ready and not self._finished:
            await self._advance()
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    async def read_all(self, limit: int) -> bytes:
        """The whole file; TooLarge if it has more than ``limit`` bytes."""
        content = bytearray()
        buffer = memoryview(bytearray(WINDOW_BYTES))
        while count := await self.receive_into(buffer):
            content += buffer[:count]
            if len(content) > limit:
                raise TooLarge(f"the file is larger than {limit} bytes")
        return bytes(content)

    async def _advance(self) -> None:
        event = await self._next_event()
        if isinstance(event, bytes):
            self._ready = memoryview(event)
            return
        while (event := await self._next_event()) is not Mark.END:
            if isinstance(event, Part) and self._is_file(event):
                raise BadRequest("the form holds more than one file; send one a request")
            if isinstance(event, bytes):
                self._ignore(len(event))
        await self._drain()
        self._finished = True

    async def _keep_field(self, name: str) -> None:
        value = bytearray()
        while isinstance(event := await self._next_event(), bytes):
            self._ignore(len(event))
            value += event
        self.fields.setdefault(name, bytes(value))

    async def _drain(self) -> None:
        while count := await self._body.receive_into(self._window):
            self._ignore(count)

    async def _next_event(self) -> Part | bytes | Mark:
        while (event := self._parser.next_event()) is Mark.NEED_DATA:
            count = await self._body.receive_into(self._window)
            if not count:
                raise BadRequest("the form ends before its last boundary")
            self._parser.receive(self._window[:count])
        return event

    def _ignore(self, count: int) -> None:
        self._ignored += count
        if self._ignored > OTHER_BYTES_MAX:
            raise BadRequest(f"the form holds more than {OTHER_BYTES_MAX} bytes beside its file")


def parse_boundary(content_type: str) -> bytes:
    """The boundary in the Content-Type of a form; raises BadRequest if it is none."""
    kind, parameters = _parse_value(content_type)
    if kind != "multipart/form-data":
        raise BadRequest(
            "POST takes a form (multipart/form-data, curl: -F file=@NAME); to send the bytes as they are, use PUT"
        )
    boundary = parameters.get("boundary", "")
    if not _BOUNDARY.fullmatch(boundary) or boundary.endswith(" "):
        raise BadRequest(f"the form's Content-Type names no boundary of 1 to {BOUNDARY_BYTES_MAX} characters")
    return boundary.encode()


def parse_part_head(head: bytes) -> Part:
    """The fields in front of a part's body; raises BadRequest."""
    try:
        lines = head.decode().split("\r\n")
    except UnicodeDecodeError:
        raise BadRequest("a field of the form is not UTF-8") from None
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    kind, parameters = _parse_value(fields.get("content-disposition", ""))
    if kind != "form-data":
        raise BadRequest("a part of the form has no 'Content-Disposition: form-data'")
    content_type = fields.get("content-type")
    if content_type is not None and not _FIELD_VALUE.fullmatch(content_type):
        raise BadRequest("the Content-Type of a part of the form is not ASCII")
    return Part(parameters.get("name", ""), parameters.get("filename"), content_type)


def _parse_value(value: str) -> tuple[str, dict[str, str]]:
    """``kind; name=value; name="value"``."""
    kind, semicolon, rest = value.partition(";")
    parameters: dict[str, str] = {}
    position, text = 0, (semicolon + rest).strip()
    while position < len(text):
        match = _PARAMETER.match(text, position)
        if not match:
            raise BadRequest("a field of the form cannot be parsed")
        parameters.setdefault(match[1].lower(), _unquote(match[2]))
        position = match.end()
    return kind.strip().lower(), parameters


def _unquote(value: str) -> str:
    """Browsers and curl write a quote as %22 (WHATWG), curl before 7.81 as a backslash and a quote."""
    if not value.startswith('"'):
        return value
    plain = _ESCAPED.sub(r"\1", value[1:-1])
    return plain.replace("%22", '"').replace("%0D", "\r").replace("%0A", "\n")
