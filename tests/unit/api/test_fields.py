from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flared.api.fields import format_date, parse_date, range_request
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
