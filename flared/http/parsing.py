"""Heads and chunk lines: bytes to values. Pure.

Every head passes two readers: the patterns here, which refuse all that two HTTP programs might read differently, and
then httptools, which takes the fields apart. The first is there because httptools 0.1 (Debian 12) accepts bare line
feeds, folded lines and spaces before colons, and what is accepted must not depend on the version installed.
For the same reason chunked bodies are decoded by ``messages.ChunkedBody``; httptools never sees a body.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import httptools

from flared.errors import RemoteProtocolError

HEAD_END = b"\r\n\r\n"
METHODS = {name.encode(): name for name in ("GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS")}
"""The usual ones. Any other word of capital letters reaches the handler too, which knows what its paths allow."""
CHUNK_EXTENSION_BYTES_MAX = 256
UNTIL_CLOSE = -1
"""The length of a reply that ends where the connection ends."""

_REQUEST_LINE = re.compile(
    rb"([A-Z]{1,16}) (?:https?://([A-Za-z0-9.:_~%\[\]-]++))?(/[!-\"$->@-~\x80-\xff]*+|\*)"
    rb"(?:\?([!-\"$-~\x80-\xff]*+))? HTTP/1\.([01])\r\n"
)
_match_request_line = _REQUEST_LINE.match
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: [\t -~\x80-\xff]*+)?\r\n")
_FIELD_LINES = re.compile(rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[\t -~\x80-\xff]*+\r\n)*+\r\n")
_FRAMING = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "expect", "upgrade", "proxy-connection", "keep-alive",
     "te", "trailer"}
)  # fmt: skip
"""Fields that decide how a head is read, here or by httptools, so that another value needs the whole head read anew."""
PER_CALL = frozenset(
    {"x-fs-timestamp", "x-fs-nonce", "x-fs-content-sha256", "x-fs-signature", "x-flare-request"}
)  # fmt: skip
"""Fields of signed calls that differ from one to the next, and tell nothing but who makes it."""
_STRAY = re.compile(rb"(?<!\r)\n|\r[^\n]|\0")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;[\t -~\x80-\xff]*)?")
_LENGTH = re.compile(r"[0-9]{1,18}")


class HeadLimits(NamedTuple):
    """Limits on a head, whose sender is not known yet."""

    line_bytes_max: int = 8 * 1024
    """A key has at most 1024 bytes, each of which may be percent-encoded."""
    bytes_max: int = 32 * 1024
    fields_max: int = 100


class HeadRefused(RemoteProtocolError):
    """The head is not one we accept; ``status`` is what HTTP calls the reason."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Fields:
    """The field lines of one head, and what they say about framing. Shared by equal heads: never changed."""

    values: Mapping[str, str]
    """Lower-case names; the values of repeated ones joined by ``, ``."""
    length: int | None
    """The body's length; None if it comes in chunks; 0 (request) or UNTIL_CLOSE (reply) if nothing is said."""
    close: bool
    keep_alive: bool
    expects_continue: bool
    needs_task: bool
    """True if answering needs a task in any case: a body of unknown length, one that waits for 100 Continue, or the
    end of the connection."""
    has_host: bool
    memo: dict[str, object] = field(default_factory=dict, compare=False)
    """Values that handlers have derived, kept for the next equal head of this connection; the handlers bound them.
    Heads that differ only in fields of ``PER_CALL`` share it, too: nothing that depends on those is kept."""


RequestHead = tuple[str, str, str, int, Fields, int]
"""Method, path and query as they were sent, the minor version, the fields, and where the head ends in the data."""


class HeadReader:
    """Reads the request heads of one connection.

    Most clients send the same fields with every request, so those of the last one are kept and only compared. Those who
    sign send the same names with a few other values: then only these are read.
    """

    __slots__ = ("_block", "_fields", "_heads", "_limits", "_line_bytes_max", "_lines", "_looked")

    def __init__(self, limits: HeadLimits) -> None:
        self._limits = limits
        self._line_bytes_max = limits.line_bytes_max
        self._block = b""
        self._lines: list[bytes] = []
        """Of the last block."""
        self._heads: list[tuple[bytes, str] | None] = []
        """Of each line, once needed: up to its colon, and its name; empty if another value needs a new reading."""
        self._fields: Fields | None = None
        self._looked = 0

    def read(self, data: bytes, at: int) -> RequestHead | None:
        """The head that begins at ``at``; None if more bytes are needed. Raises HeadRefused."""
        if self._fields is not None and not self._looked:
            match = _match_request_line(data, at)
            if match is not None:
                begin = match.end()
                if data.startswith(self._block, begin):
                    fields = self._fields
                    word, place, path, query, minor = match.groups()
                    # What most requests are, taken apart at once; ``_accept`` has every case.
                    if (
                        minor == b"1"
                        and place is None
                        and path != b"*"
                        and word in METHODS
                        and fields.has_host
                        and begin - at <= self._line_bytes_max
                    ):
                        raw_query = query.decode("latin-1") if query else ""
                        return METHODS[word], path.decode("latin-1"), raw_query, 1, fields, begin + len(self._block)
                    return self._accept(match, at, fields, begin + len(self._block))
        end = find_head_end(data, at, at + self._looked, self._limits)
        if end < 0:
            self._looked = len(data) - at
            return None
        self._looked = 0
        match = _match_request_line(data, at)
        if match is None:
            raise HeadRefused("the request line is not 'METHOD /path HTTP/1.1'")
        block = data[match.end() : end]
        lines = block.split(b"\r\n")
        read = self._read_changes(lines)
        if read is None:
            read = parse_request_fields(block, self._limits)
            self._heads = [None] * len(lines)
        self._block, self._lines, self._fields = block, lines, read
        return self._accept(match, at, read, end)

    def _read_changes(self, lines: list[bytes]) -> Fields | None:
        """Return the fields of a block of these lines, if it has those of the last one and other values for some that
        do not matter to framing; None for any other. It is what reading the whole block would give."""
        known, heads = self._fields, self._heads
        if known is None or len(lines) != len(self._lines):
            return None
        values, memo = dict(known.values), known.memo
        for number, (old, line) in enumerate(zip(self._lines, lines, strict=True)):
            if old == line:
                continue
            prefix, name = heads[number] or _head_of(old, known)
            heads[number] = prefix, name
            if not name or not line.startswith(prefix) or not line.isascii():
                return None
            value = line[len(prefix) :].decode()
            if not value.isprintable():
                return None
            values[name] = value.strip(" ")
            if name not in PER_CALL:
                memo = {}
        return Fields(
            values, known.length, known.close, known.keep_alive, known.expects_continue, known.needs_task,
            known.has_host, memo,
        )  # fmt: skip

    def _accept(self, match: re.Match[bytes], at: int, fields: Fields, end: int) -> RequestHead:
        word, place, path, query, minor = match.groups()
        method = METHODS.get(word) or word.decode()
        if match.end() - at > self._limits.line_bytes_max:
            raise HeadRefused(f"the request line is longer than {self._limits.line_bytes_max} bytes", 414)
        if path == b"*" and method != "OPTIONS":
            raise HeadRefused("only OPTIONS can be asked for *")
        if place is not None and place.decode().lower() != fields.values.get("host", "").lower():
            # RFC 9112, 3.2.2 prefers the target's; a proxy before us may have checked the other.
            raise HeadRefused("the target names another host than the Host field")
        if minor == b"1":
            if not fields.has_host:
                raise HeadRefused("HTTP/1.1 needs a Host field")
            return method, path.decode("latin-1"), query.decode("latin-1") if query else "", 1, fields, end
        if fields.length is None:
            raise HeadRefused("HTTP/1.0 knows no Transfer-Encoding")
        return method, path.decode("latin-1"), query.decode("latin-1") if query else "", 0, fields, end


def _head_of(line: bytes, fields: Fields) -> tuple[bytes, str]:
    """Return a line of a head up to its colon, and its name: empty if that decides about framing, or is repeated."""
    raw_name, _, raw = line.partition(b":")
    name = raw_name.decode("latin-1").lower()
    alone = fields.values.get(name) == raw.decode("latin-1").strip(" \t")  # several are joined by commas
    return raw_name + b":", name if alone and name not in _FRAMING else ""


class StatusLine(NamedTuple):
    status: int
    minor: int


def find_head_end(data: bytes, at: int, looked: int, limits: HeadLimits) -> int:
    """Where the head that begins at ``at`` ends, behind its empty line; -1 if more bytes are needed.

    Bytes before ``looked`` were looked at by an earlier call. Raises HeadRefused as soon as this cannot become a head.
    """
    end = data.find(HEAD_END, max(at, looked - 3))
    if end >= 0 and end + 4 - at <= limits.bytes_max:
        return end + 4
    if _STRAY.search(data, max(at, looked - 1)):
        raise HeadRefused("a bare CR or LF, or a NUL byte, in the head")
    if len(data) - at > limits.line_bytes_max and data.find(b"\r\n", at, at + limits.line_bytes_max) < 0:
        raise HeadRefused(f"the request line is longer than {limits.line_bytes_max} bytes", 414)
    if end >= 0 or len(data) - at > limits.bytes_max:
        raise HeadRefused(f"the head is longer than {limits.bytes_max} bytes", 431)
    return -1


def parse_status_line(line: bytes) -> StatusLine:
    """``line`` with its CRLF; raises HeadRefused."""
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise HeadRefused("the status line is not 'HTTP/1.1 200 …'")
    return StatusLine(int(match[2]), int(match[1]))


def parse_request_fields(block: bytes, limits: HeadLimits) -> Fields:
    """``block`` is everything after the request line, up to and with the empty line; raises HeadRefused."""
    pairs = _split(block, httptools.HttpRequestParser, b"POST / HTTP/1.1\r\n", limits)
    if sum(name == "host" for name, _ in pairs) > 1:
        raise HeadRefused("more than one Host field")
    values = _join(pairs)
    expect = values.get("expect")
    if expect is not None and expect.lower() != "100-continue":
        raise HeadRefused("only 'Expect: 100-continue' can be met", 417)
    return _fields(values, 0, expects_continue=expect is not None)


def parse_reply_fields(block: bytes, limits: HeadLimits) -> Fields:
    """The same for a reply."""
    pairs = _split(block, httptools.HttpResponseParser, b"HTTP/1.1 200 OK\r\n", limits)
    return _fields(_join(pairs), UNTIL_CLOSE, expects_continue=False)


def parse_chunk_size(line: bytes) -> int:
    """The size in a chunk's first line (without CRLF); raises RemoteProtocolError."""
    match = _CHUNK_LINE.fullmatch(line)
    if match is None or len(line) > len(match[1]) + CHUNK_EXTENSION_BYTES_MAX:
        raise RemoteProtocolError("bad chunk size or chunk extension")
    return int(match[1], 16)


class _Sink:
    """The callbacks of httptools for each field."""

    def __init__(self) -> None:
        self.pairs: list[tuple[str, str]] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.pairs.append((name.decode("ascii").lower(), value.decode("latin-1").strip(" \t")))


def _split(
    block: bytes,
    parser: Callable[[_Sink], httptools.HttpRequestParser | httptools.HttpResponseParser],
    line: bytes,
    limits: HeadLimits,
) -> list[tuple[str, str]]:
    if not _FIELD_LINES.fullmatch(block):
        raise HeadRefused("a field line is not 'Name: value' and CRLF, is folded, or holds a control character")
    if block.count(b"\n") > limits.fields_max + 1:
        raise HeadRefused(f"more than {limits.fields_max} fields", 431)
    sink = _Sink()
    try:
        parser(sink).feed_data(line + block)
    except httptools.HttpParserUpgrade:
        pass  # An offer to switch protocols may be ignored (RFC 9110, 7.8).
    except httptools.HttpParserError as error:
        raise HeadRefused(f"the head cannot be parsed: {error}") from error
    return sink.pairs


def _join(pairs: list[tuple[str, str]]) -> dict[str, str]:
    values: dict[str, str] = {}
    for name, value in pairs:
        before = values.get(name)
        values[name] = value if before is None else f"{before}, {value}"
    return values


def _fields(values: dict[str, str], unsaid: int, *, expects_continue: bool) -> Fields:
    options = {option.strip(" \t") for option in values.get("connection", "").lower().split(",")}
    length, close = _length(values, unsaid), "close" in options
    needs_task = length is None or close or expects_continue
    return Fields(values, length, close, "keep-alive" in options, expects_continue, needs_task, "host" in values)


def _length(values: dict[str, str], unsaid: int) -> int | None:
    coding = values.get("transfer-encoding")
    length = values.get("content-length")
    if coding is not None:
        if length is not None:
            raise HeadRefused("both Content-Length and Transfer-Encoding")
        if coding.lower() != "chunked":
            raise HeadRefused("the only Transfer-Encoding known here is 'chunked'")
        return None
    if length is None:
        return unsaid
    if not _LENGTH.fullmatch(length):
        raise HeadRefused("Content-Length is not one number")
    return int(length)
