from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flared.errors import BadRange, NotModified, PreconditionFailed
from flared.objects.conditions import Conditions, ReadConditions, check_read, check_write
from flared.objects.ranges import RangeRequest, resolve


@given(st.binary(max_size=50), st.integers(0, 60), st.integers(0, 60) | st.none())
def test_a_range_names_the_bytes_of_a_slice(data: bytes, first: int, last: int | None) -> None:
    if last is not None and last < first:
        first, last = last, first
    if first >= len(data):
        with pytest.raises(BadRange) as caught:
            resolve(RangeRequest(first, last), len(data))
        assert caught.value.size == len(data)
        return
    start, length = resolve(RangeRequest(first, last), len(data))
    assert data[start : start + length] == data[first : None if last is None else last + 1]


@given(st.binary(max_size=50), st.integers(0, 60))
def test_a_suffix_range_names_the_last_bytes(data: bytes, count: int) -> None:
    if not data or not count:
        with pytest.raises(BadRange):
            resolve(RangeRequest(None, count), len(data))
        return
    start, length = resolve(RangeRequest(None, count), len(data))
    assert data[start : start + length] == data[-count:]


@pytest.mark.parametrize(
    ("when", "etag", "holds"),
    [
        (Conditions(if_none_match=("*",)), None, True),
        (Conditions(if_none_match=("*",)), "a", False),
        (Conditions(if_none_match=("a", "b")), "b", False),
        (Conditions(if_none_match=("a",)), "c", True),
        (Conditions(if_match=("*",)), None, False),
        (Conditions(if_match=("*",)), "a", True),
        (Conditions(if_match=("a",)), "b", False),
        (Conditions(if_match=("a",)), "a", True),
        (Conditions(), None, True),
    ],
)
def test_write_conditions(when: Conditions, etag: str | None, holds: bool) -> None:
    if holds:
        check_write(when, etag)
    else:
        with pytest.raises(PreconditionFailed):
            check_write(when, etag)


@pytest.mark.parametrize(
    ("when", "outcome"),
    [
        (ReadConditions(if_none_match=("e",)), NotModified),
        (ReadConditions(if_none_match=("f",)), None),
        (ReadConditions(if_match=("f",)), PreconditionFailed),
        (ReadConditions(if_match=("e",), if_unmodified_since=0), None),  # If-Match decides, the date is not looked at
        (ReadConditions(if_unmodified_since=99), PreconditionFailed),
        (ReadConditions(if_unmodified_since=100), None),
        (ReadConditions(if_modified_since=100), NotModified),
        (ReadConditions(if_modified_since=99), None),
        (ReadConditions(if_none_match=("f",), if_modified_since=100), None),
    ],
)
def test_read_conditions_follow_the_order_of_rfc_9110(when: ReadConditions, outcome: type[Exception] | None) -> None:
    if outcome is None:
        check_read(when, "e", 100.7)
    else:
        with pytest.raises(outcome):
            check_read(when, "e", 100.7)


@pytest.mark.parametrize(
    ("if_range", "applies"), [(None, True), ("e", True), ("f", False), (100, True), (99, False), (101, False)]
)
def test_if_range_asks_for_the_whole_object_when_it_is_another_one(if_range: str | int | None, applies: bool) -> None:
    assert RangeRequest(0, 1, if_range).applies("e", 100.2) is applies
