from __future__ import annotations

import pytest

from flared.access.sigv4_canonical import canonical_path, canonical_query


@pytest.mark.parametrize(
    ("path", "canonical"),
    [
        ("/a/b-c_d.e~f", "/a/b-c_d.e~f"),
        ("/a b", "/a%20b"),
        ("/a%20b+c", "/a%20b%2Bc"),
        ("/%7e%41", "/~A"),
        ("/a//b/../c", "/a//b/../c"),
        ("/%2F", "//"),
        ("/\xc3\xbc", "/%C3%BC"),
        ("/%c3%bc", "/%C3%BC"),
        ("/a%2525", "/a%2525"),
    ],
)
def test_paths_are_encoded_as_aws_does_it(path: str, canonical: str) -> None:
    assert canonical_path(path) == canonical


@pytest.mark.parametrize(
    ("query", "canonical"),
    [
        ("b=2&a=1", "a=1&b=2"),
        ("acl", "acl="),
        ("a=b=c", "a=b%3Dc"),
        ("a=x+y&a=x%20x", "a=x%20x&a=x%20y"),
        ("a=%7e&&b", "a=~&b="),
        ("a-=1&a=2", "a=2&a-=1"),
        ("X-Amz-Signature=1&a", "X-Amz-Signature=1&a="),
    ],
)
def test_queries_are_sorted_and_encoded(query: str, canonical: str) -> None:
    assert canonical_query(query, presigned=False) == canonical
    assert "Signature" not in canonical_query(query, presigned=True)
