from __future__ import annotations

import base64
import hashlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flared.api.native.headers import (
    check_content_type,
    format_date,
    object_headers,
    parse_date,
    promised_digests,
    range_request,
    read_conditions,
    response_fields,
    write_conditions,
)
from flared.catalog.details import Details
from flared.errors import BadRequest, FlareError, TooLarge
from flared.objects.conditions import ALWAYS, ANY, UNCONDITIONAL
from flared.objects.ranges import RangeRequest


def check_range(value: str, first: int | None, last: int | None) -> None:
    assert range_request({"range": value}) == RangeRequest(first, last)


def test_single_ranges() -> None:
    check_range("bytes=0-0", 0, 0)
    check_range("bytes=5-", 5, None)
    check_range("bytes=-7", None, 7)
    check_range("Bytes= 1 - 2 ", 1, 2)
    check_range("bytes=-0", None, 0)


@pytest.mark.parametrize(
    "value", ["bytes=0-1,3-4", "bytes=-", "bytes=2-1", "lines=1-2", "bytes=a-b", "bytes=", "", "bytes=1", "bytes=--1"]
)
def test_what_is_not_one_range_means_the_whole_object(value: str) -> None:
    assert range_request({"range": value}) is None
    assert range_request({}) is None


def check_if_range(value: str, expected: str | int) -> None:
    wanted = range_request({"range": "bytes=0-1", "if-range": value})
    assert wanted is not None
    assert wanted.if_range == expected


def test_if_range_takes_a_strong_tag_or_a_date() -> None:
    check_if_range('"abc-1"', "abc-1")
    check_if_range("Sat, 21 Nov 2026 09:18:48 GMT", 1795252728)
    for value in ('W/"abc-1"', "abc", ""):
        wanted = range_request({"range": "bytes=0-1", "if-range": value})
        assert wanted is not None
        assert not wanted.applies("abc-1", 0.0)


def test_conditions() -> None:
    assert read_conditions({"host": "x"}) is ALWAYS
    assert write_conditions({"host": "x"}) is UNCONDITIONAL
    when = read_conditions({"if-match": '"a", W/"b", c-1', "if-none-match": 'W/"d", "e"'})
    assert when.if_match == ("a", "c-1")
    assert when.if_none_match == ("d", "e")
    assert write_conditions({"if-none-match": " * "}).if_none_match == (ANY,)
    assert write_conditions({"if-match": '"*"'}).if_match == ()
    assert read_conditions({"if-modified-since": "yesterday"}).if_modified_since is None
    assert read_conditions({"if-unmodified-since": "Thu, 01 Jan 1970 00:00:01 GMT"}).if_unmodified_since == 1


def test_conditions_that_cannot_be_heeded_are_refused() -> None:
    for fields in ({"if-match": "a b"}, {"if-none-match": '"a'}, {"if-unmodified-since": format_date(0)}):
        with pytest.raises(BadRequest):
            write_conditions(fields)


def test_dates_in_all_three_forms() -> None:
    for text in ("Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"):
        assert parse_date(text) == 784111777
    for text in ("", "Sun, 06 Foo 1994 08:49:37 GMT", "1994-11-06T08:49:37Z"):
        assert parse_date(text) is None


@given(st.integers(0, 4_000_000_000))
def test_dates_come_back(seconds: int) -> None:
    text = format_date(seconds)
    assert parse_date(text) == seconds
    assert text == time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(seconds))


def test_digests() -> None:
    md5 = hashlib.md5(b"x").digest()
    digests = promised_digests({"content-md5": base64.b64encode(md5).decode(), "x-flare-content-sha256": "AB" * 32})
    assert (digests.md5, digests.sha256) == (md5, b"\xab" * 32)
    for fields in ({"content-md5": "x"}, {"content-md5": "eA=="}, {"x-flare-content-sha256": "ab"}):
        with pytest.raises(BadRequest):
            promised_digests(fields)


def test_content_types() -> None:
    assert check_content_type(None) == "application/octet-stream"
    assert check_content_type("application/x-www-form-urlencoded") == "application/octet-stream"
    assert check_content_type("text/plain; charset=utf-8") == "text/plain; charset=utf-8"
    with pytest.raises(TooLarge):
        check_content_type("x" * 257)


def check_user(user: dict[str, str], error: type[FlareError] | None) -> None:
    fields = {f"x-flare-meta-{name}": value for name, value in user.items()}
    if error is None:
        assert object_headers(fields).user == user
        return
    with pytest.raises(error):
        object_headers(fields)


def test_user_fields_are_limited_one_by_one_and_together() -> None:
    check_user({}, None)
    check_user({"mtime": "1.5", "a": ""}, None)
    check_user({"a": "x" * 2047}, None)
    check_user({"a": "x" * 2048}, TooLarge)
    check_user(dict.fromkeys("abcd", "x" * 2047), None)
    check_user(dict.fromkeys("abcd", "x" * 2047) | {"e": ""}, TooLarge)
    check_user({"": "x"}, BadRequest)


def test_response_fields_are_kept_and_limited() -> None:
    assert object_headers({"content-type": "a/b"}).details is None
    chosen = {"cache-control": "no-store", "expires": "soon"}
    assert object_headers(chosen | {"x-other": "1", "content-language": ""}).details == Details(chosen)
    assert object_headers({"expires": ""}).details is None
    assert response_fields({"expires": "x" * 2048}) == {"expires": "x" * 2048}
    for fields in ({"expires": "x" * 2049}, dict.fromkeys(("expires", "cache-control"), "x" * 2048)):
        with pytest.raises(TooLarge):
            response_fields(fields)
