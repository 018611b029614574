"""JSON from strangers: every JSON program reads alike what is accepted, and reading it never recurses deeply."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flared.errors import BadRequest
from flared.http.json_body import DEPTH_MAX, parse_json, parse_json_object

PLAIN = st.none() | st.booleans() | st.integers(-(2**63), 2**64) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    PLAIN | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=40
)


@given(VALUES, st.booleans())
def test_what_json_writes_is_read_back(value: object, escaped: bool) -> None:
    assert parse_json(json.dumps(value, ensure_ascii=escaped).encode()) == value


def nested(depth: int) -> bytes:
    return b'{"a":[' * (depth // 2) + b"]}" * (depth // 2)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"[" * 4096, "brackets do not match"),
        (b'{"a":' * 100_000, "brackets do not match"),
        (b"[" * 4096 + b"]" * 4096, "nested more than 32 levels"),
        (b"[" * 2_000_000 + b"]" * 2_000_000, "nested more than 32 levels"),
        (nested(100_000), "nested more than 32 levels"),
        (b"[" + b'"[",' * 40 + b"[" * 40, "brackets do not match"),
        (b"", "not JSON"),
        (b"\0", "not JSON"),
        (b"{", "not JSON"),
        (b'{"a": 1} {}', "not JSON"),
        (b'{"a": 1, "a": 2}', "the name 'a' twice"),
        (b'[{"a": {"b": 1, "b": 1}}]', "the name 'b' twice"),
        (b"NaN", "NaN, which is not a number"),
        (b"[-Infinity]", "-Infinity, which is not a number"),
        (b"1e999", "1e999, which is too large"),
        (b"9" * 25, "more than 24 digits"),
        (b"9" * 5000, "more than 24 digits"),
        (rb'"\ud800"', "half of a surrogate pair"),
        (rb'{"\uDFFF": 1}', "half of a surrogate pair"),
        (b'"\xed\xa0\x80"', "not UTF-8 at byte 1"),
        (b"\xff\xfe1\0", "not UTF-8 at byte 0"),
        ('{"a": 1}'.encode("utf-16-le"), "not JSON"),
        (b"[" * 40 + b'"' + rb"\"" * 1_000_000, "not JSON"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b'"a\nb"', "not JSON"),
    ],
    ids=range(25),
)
def test_what_is_refused_and_why(body: bytes, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        parse_json(body)


def test_brackets_inside_of_texts_do_not_count() -> None:
    text = '[{"' * 1000 + "\\"
    assert parse_json(json.dumps([text, {text: text}]).encode()) == [text, {text: text}]


def test_pairs_of_surrogates_and_the_deepest_that_is_allowed() -> None:
    assert parse_json(rb'"\ud83d\ude00"') == "\U0001f600"
    value = parse_json(b"[" * DEPTH_MAX + b"]" * DEPTH_MAX)
    for _ in range(DEPTH_MAX):
        value = value[0] if isinstance(value, list) and value else None
    assert value is None


@given(st.binary(max_size=300) | st.text('[]{}",:\\ud8019eE.-+ntf', max_size=300).map(str.encode))
def test_no_bytes_break_the_parser(body: bytes) -> None:
    try:
        value = parse_json(body)
    except ValueError:
        return
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


def test_a_body_that_is_not_an_object_is_a_bad_request() -> None:
    assert parse_json_object(b'{"a": 1}', "the form") == {"a": 1}
    for body, sentence in ((b"[]", "the form is not a JSON object"), (b"[", "the form is not JSON: .*")):
        with pytest.raises(BadRequest, match=sentence):
            parse_json_object(body, "the form")
