"""Heads: what is accepted, what is refused, and that neither depends on how the bytes arrive."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flared.errors import RemoteProtocolError
from flared.http.parsing import (
    KEPT_BYTES_MAX,
    KEPT_MAX,
    UNTIL_CLOSE,
    Fields,
    HeadLimits,
    HeadReader,
    HeadRefused,
    parse_chunk_size,
    parse_reply_fields,
    parse_status_line,
)

LIMITS = HeadLimits()


def read(data: bytes, limits: HeadLimits = LIMITS) -> tuple[str, str, str, int]:
    head = HeadReader(limits).read(data, 0)
    assert head is not None
    assert head[5] == len(data)
    return head[:4]


@pytest.mark.parametrize(
    ("line", "method", "path", "query"),
    [
        (b"GET / HTTP/1.1", "GET", "/", ""),
        (b"PUT /object/a%2Fb+c HTTP/1.1", "PUT", "/object/a%2Fb+c", ""),
        (b"GET /a?b=c?d HTTP/1.1", "GET", "/a", "b=c?d"),
        (b"GET /a? HTTP/1.1", "GET", "/a", ""),
        (b"GET /../a//./b HTTP/1.1", "GET", "/../a//./b", ""),
        (b"GET http://h/a?b HTTP/1.1", "GET", "/a", "b"),
        (b"GET https://H/a HTTP/1.1", "GET", "/a", ""),
        (b"GET /\xc3\xa4 HTTP/1.1", "GET", "/\xc3\xa4", ""),
        (b"OPTIONS * HTTP/1.1", "OPTIONS", "*", ""),
        (b"BREW /pot HTTP/1.1", "BREW", "/pot", ""),
    ],
)
def test_request_lines(line: bytes, method: str, path: str, query: str) -> None:
    assert read(line + b"\r\nHost: h\r\n\r\n") == (method, path, query, 1)


def test_fields_are_joined_and_trimmed() -> None:
    head = HeadReader(LIMITS).read(b"GET / HTTP/1.1\r\nHost:h\r\nX-A: \t1 \t\r\nx-a:2\r\nEmpty:\r\nL: \xe4\r\n\r\n", 0)
    assert head is not None
    assert dict(head[4].values) == {"host": "h", "x-a": "1, 2", "empty": "", "l": "\xe4"}


def read_in_steps(data: bytes, step: int) -> None:
    reader = HeadReader(LIMITS)
    for end in range(step, len(data) + step, step):
        assert reader.read(data[:end], 0) is None


OK = b"POST / HTTP/1.1\r\nHost: h\r\n"
SMUGGLED = [
    b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n",
    b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
    b"Content-Length: 5, 5\r\n\r\n",
    b"Content-Length: +5\r\n\r\n",
    b"Content-Length: -5\r\n\r\n",
    b"Content-Length: 5 5\r\n\r\n",
    b"Content-Length: 0x5\r\n\r\n",
    b"Content-Length: 5_0\r\n\r\n",
    b"Content-Length: \xb2\r\n\r\n",
    b"Content-Length:\r\n\r\n",
    b"Content-Length: 9999999999999999999999\r\n\r\n",
    b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"Transfer-Encoding: chunked, identity\r\n\r\n",
    b"Transfer-Encoding: identity\r\n\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n\r\n",
    b"Transfer-Encoding: xchunked\r\n\r\n",
    b"Transfer-Encoding: \x0bchunked\r\n\r\n",
    b"Transfer-Encoding : chunked\r\n\r\n",
    b"Transfer-Encoding\t: chunked\r\n\r\n",
    b" Transfer-Encoding: chunked\r\n\r\n",
    b"Transfer-Encoding:\r\n chunked\r\n\r\n",
    b"X: a\r\n b\r\n\r\n",
    b"X: a\r\n\tb\r\n\r\n",
    b"X: a\nY: b\r\n\r\n",
    b"X: a\rY: b\r\n\r\n",
    b"X: a\r\r\n\r\n",
    b"X: a\0b\r\n\r\n",
    b"X: a\x7fb\r\n\r\n",
    b"X\0: a\r\n\r\n",
    b"X\r\n\r\n",
    b": a\r\n\r\n",
    b"X y: a\r\n\r\n",
    b"X(): a\r\n\r\n",
    b"\xc3\xa4: a\r\n\r\n",
    b"Host: again\r\n\r\n",
    b"X: a\n\n",
    b"\n",
    b"Expect: tea\r\n\r\n",
]
BAD_LINES = [
    b"GET / HTTP/2.0\r\n",
    b"GET / HTTP/1.2\r\n",
    b"GET / HTTP/1.1 \r\n",
    b"GET /\r\n",
    b"GET  / HTTP/1.1\r\n",
    b"GET /  HTTP/1.1\r\n",
    b"GET\t/ HTTP/1.1\r\n",
    b" GET / HTTP/1.1\r\n",
    b"\r\nGET / HTTP/1.1\r\n",
    b"get / HTTP/1.1\r\n",
    b"G@T / HTTP/1.1\r\n",
    b"A1 / HTTP/1.1\r\n",
    b"CONNECT h:80 HTTP/1.1\r\n",
    b"GET a HTTP/1.1\r\n",
    b"GET * HTTP/1.1\r\n",
    b"GET /a b HTTP/1.1\r\n",
    b"GET /a#b HTTP/1.1\r\n",
    b"GET /a\0b HTTP/1.1\r\n",
    b"GET /a\x7f HTTP/1.1\r\n",
    b"GET http://user@host/ HTTP/1.1\r\n",
    b"GET http://other/ HTTP/1.1\r\n",
    b"GET http://h:80/ HTTP/1.1\r\n",
    b"GET http://[::1]/ HTTP/1.1\r\n",
    b"GET / http/1.1\r\n",
    b"GET / HTTP/1.1\n",
    b"\0",
]
CORPUS = (
    [OK + fields for fields in SMUGGLED]
    + [line + b"Host: h\r\n\r\n" for line in BAD_LINES]
    + [b"GET / HTTP/1.1\r\n\r\n"]
)


@pytest.mark.parametrize("head", CORPUS, ids=repr)
@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_what_two_programs_might_read_differently_is_refused(head: bytes, step: int) -> None:
    with pytest.raises(HeadRefused):
        read_in_steps(head, step)


NAMES = [
    b"Host",
    b"A",
    b"B",
    b"b",
    b"Connection",
    b"Content-Length",
    b"Transfer-Encoding",
    b"Expect",
    b"Upgrade",
    b"T E",
]
VALUES = [
    b"",
    b" 1",
    b"1 ",
    b"\t2",
    b"1, 1",
    b"h",
    b"close",
    b"chunked",
    b"100-continue",
    b"\xe4",
    b"a\nb",
    b"a\rb",
    b"\0",
    b"x:y",
]
blocks = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)), max_size=5)


@given(blocks, st.lists(st.tuples(st.integers(0, 4), st.sampled_from(VALUES)), max_size=3), st.booleans())
def test_what_changes_from_head_to_head_is_read_as_if_it_were_the_first(
    lines: list[tuple[bytes, bytes]], changes: list[tuple[int, bytes]], twice: bool
) -> None:
    changed = list(lines)
    for at, value in changes:
        if at < len(changed):
            changed[at] = changed[at][0], value
    heads = [
        b"GET / HTTP/1.1\r\n" + b"".join(name + b":" + value + b"\r\n" for name, value in found) + b"\r\n"
        for found in (lines, lines if twice else changed, changed)
    ]
    reader = HeadReader(LIMITS)
    for head in heads:
        try:
            wanted = HeadReader(LIMITS).read(head, 0)
        except HeadRefused as error:
            with pytest.raises(HeadRefused, match=re.escape(str(error))):
                reader.read(head, 0)
            return
        found = reader.read(head, 0)
        assert found == wanted


def test_refused_also_when_the_fields_before_were_the_same() -> None:
    reader = HeadReader(LIMITS)
    assert reader.read(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", 0)
    with pytest.raises(HeadRefused):
        reader.read(b"GET / HTTP/1.3\r\nHost: h\r\n\r\n", 0)
    with pytest.raises(HeadRefused):
        reader.read(b"CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n", 0)
    chunked = b"Host: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert reader.read(b"PUT / HTTP/1.1\r\n" + chunked, 0)
    with pytest.raises(HeadRefused):
        reader.read(b"PUT / HTTP/1.0\r\n" + chunked, 0)


def test_fields_that_alternate_are_parsed_once_and_keep_what_was_made_of_them() -> None:
    reader = HeadReader(LIMITS)
    heads = [b"%b / HTTP/1.1\r\nHost: h\r\nX: %d\r\n\r\n" % (b"PUT", number) for number in range(KEPT_MAX + 1)]

    def fields_of(head: bytes) -> Fields:
        found = reader.read(head, 0)
        assert found is not None
        assert found[5] == len(head)
        return found[4]

    kept = [fields_of(head) for head in heads[:KEPT_MAX]]
    assert [fields.values["x"] for fields in kept] == [str(number) for number in range(KEPT_MAX)]
    for _ in range(2):
        assert all(fields_of(head) is fields for head, fields in zip(heads, kept, strict=False))
    fields_of(heads[KEPT_MAX])
    assert fields_of(heads[1]) is kept[1]
    assert fields_of(heads[0]) is not kept[0], "the oldest went"


def test_of_long_heads_only_the_newest_is_kept() -> None:
    reader = HeadReader(LIMITS)
    long = [b"GET / HTTP/1.1\r\nHost: h\r\nX: %b\r\n\r\n" % (letter * KEPT_BYTES_MAX) for letter in (b"a", b"b")]
    first = reader.read(long[0], 0)
    assert first is not None
    again = reader.read(long[0], 0)
    assert again is not None
    assert again[4] is first[4]
    assert reader.read(long[1], 0)
    again = reader.read(long[0], 0)
    assert again is not None
    assert again[4] is not first[4]


@given(
    st.lists(
        st.tuples(
            st.from_regex(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,9}", fullmatch=True).filter(
                lambda name: name.lower() != "host"
            ),
            st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=9).map(
                lambda value: "".join(letter for letter in value if letter >= " " and not "\x7f" <= letter < "\x80")
            ),
        ),
        max_size=6,
    )
)
def test_fields_are_what_stands_in_their_lines(lines: list[tuple[str, str]]) -> None:
    """Nothing but the colon, the blanks around a value and the end of a line means anything."""
    block = "".join(f"{name}: {value}\r\n" for name, value in lines)
    values: dict[str, list[str]] = {}
    for name, value in lines:
        values.setdefault(name.lower(), []).append(value.strip(" \t"))
    try:
        fields = parse_reply_fields(f"{block}\r\n".encode("latin-1"), LIMITS)
    except HeadRefused:
        assert values.keys() & {"content-length", "transfer-encoding"}
        return
    assert fields.values == {name: ", ".join(all_of_it) for name, all_of_it in values.items()}


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /" + b"a" * LIMITS.line_bytes_max + b" HTTP/1.1\r\nHost: h\r\n\r\n", 414),
        (b"GET /" + b"a" * LIMITS.line_bytes_max, 414),
        (b"GET / HTTP/1.1\r\nHost: " + b"h" * LIMITS.bytes_max + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: " + b"h" * LIMITS.bytes_max, 431),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * (LIMITS.fields_max + 1) + b"\r\n", 431),
    ],
    ids=range(5),
)
def test_limits(head: bytes, status: int) -> None:
    with pytest.raises(HeadRefused) as refused:
        HeadReader(LIMITS).read(head, 0)
    assert refused.value.status == status


@given(st.lists(st.integers(1, 30), max_size=12))
def test_in_pieces_is_the_same_as_at_once(cuts: list[int]) -> None:
    data = b"PUT /a?b HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nX: y\r\n\r\n"
    whole = HeadReader(LIMITS).read(data, 0)
    reader = HeadReader(LIMITS)
    at = 0
    for cut in cuts:
        at += cut
        if at >= len(data):
            break
        assert reader.read(data[:at], 0) is None
    assert reader.read(data + b"abc", 0) == whole


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    try:
        head = HeadReader(LIMITS).read(b"GET / HTTP/1.1\r\nHost: h\r\n" + data + b"\r\n\r\n", 0)
    except HeadRefused:
        return
    assert head is not None
    assert all("\n" not in value and "\0" not in value for value in head[4].values.values())


@pytest.mark.parametrize(("line", "size"), [(b"0", 0), (b"1F", 31), (b"00a", 10), (b"5;name=value", 5), (b"5;", 5)])
def test_chunk_sizes(line: bytes, size: int) -> None:
    assert parse_chunk_size(line) == size


@pytest.mark.parametrize(
    "line", [b"", b"-1", b"+1", b"0x1", b" 1", b"1 ", b"g", b"1\0", b"1_0", b"1" * 16, b"1;" + b"x" * 300, b"1;\0"]
)
def test_bad_chunk_sizes(line: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_chunk_size(line)


def test_replies() -> None:
    assert parse_status_line(b"HTTP/1.1 200 OK\r\n") == (200, 1)
    assert parse_status_line(b"HTTP/1.0 404\r\n") == (404, 0)
    assert parse_reply_fields(b"\r\n", LIMITS).length == UNTIL_CLOSE
    assert parse_reply_fields(b"Transfer-Encoding: chunked\r\n\r\n", LIMITS).length is None
    for line in (b"HTTP/1.1 20 OK\r\n", b"HTTP/2 200 OK\r\n", b"HTTP/1.1 200OK\r\n", b"ICY 200 OK\r\n"):
        with pytest.raises(HeadRefused):
            parse_status_line(line)
    with pytest.raises(HeadRefused):
        parse_reply_fields(b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", LIMITS)


def test_signed_heads_share_what_handlers_derive_from_the_rest() -> None:
    def head(nonce: str, kind: str) -> bytes:
        return f"PUT /a HTTP/1.1\r\nhost: h\r\nx-fs-nonce: {nonce}\r\ncontent-type: {kind}\r\n\r\n".encode()

    reader = HeadReader(LIMITS)
    memos = []
    for nonce, kind in (("1", "a"), ("2", "a"), ("2", "b"), ("3", "b"), ("3", "a")):
        found = reader.read(head(nonce, kind), 0)
        assert found
        assert (found[4].values["x-fs-nonce"], found[4].values["content-type"]) == (nonce, kind)
        memos.append(found[4].memo)
    assert memos[0] is memos[1]
    assert memos[2] is memos[3]
    assert memos[1] is not memos[2]
    assert memos[4] is not memos[0]
