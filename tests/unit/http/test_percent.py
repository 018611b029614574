"""Percent-encoding in paths and queries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flared.errors import BadRequest
from flared.http.percent import decode, encode_key, parse_query


@pytest.mark.parametrize(
    ("raw", "decoded"),
    [
        ("a/../b//c/.", "a/../b//c/."),
        ("a%2Fb%2520+c", "a/b%20+c"),
        ("%00", "\0"),
        ("%C3%A4\xc3\xb6", "äö"),
    ],
)
def test_paths_are_decoded_once(raw: str, decoded: str) -> None:
    assert decode(raw) == decoded


@pytest.mark.parametrize("raw", ["%", "%4", "%zz", "a%", "%ff", "%C3", "\xff"])
def test_bad_encodings_are_refused(raw: str) -> None:
    with pytest.raises(BadRequest):
        decode(raw)


def test_queries() -> None:
    assert parse_query("") == {}
    assert parse_query("chunks", "chunks") == {"chunks": ""}
    assert parse_query("a=b%3Dc&d=e+f%2Bg&&g=h=i", "a", "d", "g") == {"a": "b=c", "d": "e f+g", "g": "h=i"}


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("b=1", "unknown query parameter 'b'; known here: a, c"),
        ("a=1&b", "unknown query parameter 'b'"),
        ("=", "unknown query parameter ''"),
        ("a=1&a=1", "the query parameter 'a' is given twice"),
        ("a&%61=2", "the query parameter 'a' is given twice"),
        ("a=%f", "two hex digits"),
        ("%ff=a", "not UTF-8"),
    ],
)
def test_queries_that_would_be_ignored_in_part_are_refused(query: str, sentence: str) -> None:
    with pytest.raises(BadRequest, match=sentence):
        parse_query(query, "a", "c")


@given(st.text())
def test_an_encoded_key_is_decoded_again_and_never_resolved(key: str) -> None:
    encoded = encode_key(key.encode("utf-8", "replace").decode())
    assert decode(encoded) == key.encode("utf-8", "replace").decode()
    assert not {".", ".."} & set(encoded.split("/"))
    assert encoded.isascii()
