"""Percent-encoding in paths and queries."""

from __future__ import annotations

import pytest

from flared.errors import BadRequest
from flared.http.percent import decode, parse_query


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
    assert parse_query("chunks") == {"chunks": ""}
    assert parse_query("a=b%3Dc&d=e+f%2Bg&&a=h=i") == {"a": "h=i", "d": "e f+g"}
