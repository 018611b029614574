"""A call names the same path for every transport, with any characters in a name."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flarectl import calls
from flarectl.errors import NotFound
from flarectl.target import Target
from flared.names import BucketName, parse_bucket

BUCKET: BucketName = parse_bucket("photos")


@given(st.dictionaries(st.from_regex("[a-z]{1,8}", fullmatch=True), st.text(), max_size=4))
def test_parameters_arrive_as_they_were(params: dict[str, str]) -> None:
    url = urlsplit(calls.with_query("/path", params))
    assert url.path == "/path"
    assert {name: found[0] for name, found in parse_qs(url.query, keep_blank_values=True).items()} == params
    assert all(part.isascii() for part in (url.path, url.query))


def test_a_page_asks_for_what_was_given_and_no_more() -> None:
    assert calls.keys(Target(BUCKET, "")).path == "/bucket/photos?limit=1000"
    asked = calls.keys(Target(BUCKET, "2024/&"), delimiter="/", after="2024/a", limit=5)
    assert asked.path == "/bucket/photos?prefix=2024%2F%26&delimiter=%2F&after=2024%2Fa&limit=5"
    assert calls.keys_below(Target(BUCKET, "2024")).path == "/bucket/photos?prefix=2024%2F&limit=1"


@pytest.mark.parametrize(("after", "etag"), [(0, ""), (7, '"e"')])
def test_chunks_are_those_of_one_version(after: int, etag: str) -> None:
    asked = calls.chunks(Target(BUCKET, "a b"), after=after, etag=etag)
    assert asked.path == "/bucket/photos/object/a%20b?chunks&limit=500" + (f"&after={after}" if after else "")
    assert asked.fields == ({"if-match": etag} if etag else {})


def test_an_object_that_came_back_after_a_head_is_still_an_error() -> None:
    asked = calls.why_missing(Target(BUCKET, "a"))
    assert asked.path == "/bucket/photos/object/a?chunks&limit=1"
    assert isinstance(asked.parse({}), NotFound)
