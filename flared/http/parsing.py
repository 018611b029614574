"""Heads and chunk lines: bytes to values. Pure.

What a head may look like is said by the patterns here, which refuse all that two HTTP programs might read differently:
bare line feeds, folded lines, spaces before colons. What they have proved is taken apart by splitting it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from flared.errors import RemoteProtocolError

HEAD_END = b"\r\n\r\n"
METHODS = {name.encode(): name for name in ("GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS")}
"""The usual ones. Any other word of capital letters reaches the handler too, which knows what its paths allow."""
CHUNK_EXTENSION_BYTES_MAX = 256
KEPT_MAX = 3
"""Sets of fields that a connection keeps parsed: a client that puts, gets and deletes in turns sends as many."""
KEPT_BYTES_MAX = 1024
"""Of each of them but the newest: thousands of connections must not hold thousands of long heads."""
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
"""Fields that decide how a head is read, so that another value needs the whole head read anew."""
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
    ignores_expectations: bool = False
    """An Expect other than 100-continue is ignored, as S3 does; else it is refused (RFC 9110, 10.1.1 allows both)."""


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

    Most clients send the same few sets of fields with every request, so the last ones are kept and only compared. Those
    who sign send the same names with a few other values: then only these are read.
    """

    __slots__ = ("_heads", "_known", "_limits", "_line_bytes_max", "_lines", "_looked")

    def __init__(self, limits: HeadLimits) -> None:
        self._limits = limits
        self._line_bytes_max = limits.line_bytes_max
        self._known: list[tuple[bytes, Fields]] = []
        """The newest first; a long one only as the newest."""
        self._lines: list[bytes] = []
        """Of the newest."""
        self._heads: list[tuple[bytes, str] | None] = []
        """Of each line, once needed: up to its colon, and its name; empty if another value needs a new reading."""
        self._looked = 0

    def read(self, data: bytes, at: int) -> RequestHead | None:
        """The head that begins at ``at``; None if more bytes are needed. Raises HeadRefused."""
        if self._known and not self._looked:
            match = _match_request_line(data, at)
            if match is not None:
                begin = match.end()
                for block, fields in self._known:
                    if not data.startswith(block, begin):
                        continue
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
                        return METHODS[word], path.decode("latin-1"), raw_query, 1, fields, begin + len(block)
                    return self._accept(match, at, fields, begin + len(block))
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
        short = [known for known in self._known if len(known[0]) <= KEPT_BYTES_MAX]
        self._known, self._lines = [(block, read), *short[: KEPT_MAX - 1]], lines
        return self._accept(match, at, read, end)

    def _read_changes(self, lines: list[bytes]) -> Fields | None:
        """Return the fields of a block of these lines, if it has those of the last one and other values for some that
        do not matter to framing; None for any other. It is what reading the whole block would give."""
        if len(lines) != len(self._lines):
            return None
        known, heads = self._known[0][1], self._heads
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
    values = _split(block, limits)
    expect = values.get("expect")
    continues = expect is not None and expect.lower() == "100-continue"
    if expect is not None and not continues and not limits.ignores_expectations:
        raise HeadRefused("only 'Expect: 100-continue' can be met", 417)
    return _fields(values, 0, expects_continue=continues)


def parse_reply_fields(block: bytes, limits: HeadLimits) -> Fields:
    """The same for a reply."""
    return _fields(_split(block, limits), UNTIL_CLOSE, expects_continue=False)


def parse_chunk_size(line: bytes) -> int:
    """The size in a chunk's first line (without CRLF); raises RemoteProtocolError."""
    match = _CHUNK_LINE.fullmatch(line)
    if match is None or len(line) > len(match[1]) + CHUNK_EXTENSION_BYTES_MAX:
        raise RemoteProtocolError("bad chunk size or chunk extension")
    return int(match[1], 16)


def _split(block: bytes, limits: HeadLimits) -> dict[str, str]:
    """Return the fields by their lower-case names; the values of repeated ones joined."""
    if not _FIELD_LINES.fullmatch(block):
        raise HeadRefused("a field line is not 'Name: value' and CRLF, is folded, or holds a control character")
    if block.count(b"\n") > limits.fields_max + 1:
        raise HeadRefused(f"more than {limits.fields_max} fields", 431)
    values: dict[str, str] = {}
    for line in block.decode("latin-1").split("\r\n")[:-2]:
        name, _, value = line.partition(":")
        name, value = name.lower(), value.strip(" \t")
        if name in values:
            if name == "host":
                raise HeadRefused("more than one Host field")
            value = f"{values[name]}, {value}"
        values[name] = value
    return values


def _fields(values: dict[str, str], unsaid: int, *, expects_continue: bool) -> Fields:
    connection = values.get("connection")
    options = {option.strip(" \t") for option in connection.lower().split(",")} if connection else ()
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
