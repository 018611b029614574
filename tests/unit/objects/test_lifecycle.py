"""Lifecycle rules: what goes when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flared.objects.lifecycle import (
    DAY_MS,
    Rule,
    decode_rules,
    encode_rules,
    find_expiry,
    find_marker_rule,
    find_noncurrent_expiry,
    find_upload_expiry,
)

NOON = 20_000 * DAY_MS + DAY_MS // 2
"""Of some day."""
NO_TAGS: dict[str, str] = {}


@pytest.mark.parametrize(("written", "midnight"), [(NOON, 20_008), (20_000 * DAY_MS, 20_007), (NOON - 1, 20_008)])
def test_an_object_goes_at_the_first_midnight_after_its_days(written: int, midnight: int) -> None:
    expiry = find_expiry([Rule("week", days=7)], "a", 1, NO_TAGS, written)
    assert expiry == (midnight * DAY_MS, "week")


def test_the_first_moment_counts() -> None:
    rules = [Rule("month", days=30), Rule("date", at_ms=NOON + 5), Rule("week", days=7)]
    assert find_expiry(rules, "a", 1, NO_TAGS, NOON) == (NOON + 5, "date")
    assert find_expiry(rules[::2], "a", 1, NO_TAGS, NOON) == (20_008 * DAY_MS, "week")
    assert find_expiry([], "a", 1, NO_TAGS, NOON) is None


@pytest.mark.parametrize(
    ("rule", "meant"),
    [
        (Rule("r", days=1), True),
        (Rule("r", days=1, enabled=False), False),
        (Rule("r", days=1, prefix="logs/"), True),
        (Rule("r", days=1, prefix="log/"), False),
        (Rule("r", days=1, tags={"class": "old"}), True),
        (Rule("r", days=1, tags={"class": "old", "more": ""}), False),
        (Rule("r", days=1, tags={"class": "new"}), False),
        (Rule("r", days=1, larger_than=99), True),
        (Rule("r", days=1, larger_than=100), False),
        (Rule("r", days=1, smaller_than=101), True),
        (Rule("r", days=1, smaller_than=100), False),
        (Rule("r", noncurrent_days=1, upload_days=1, lone_markers=True), False),
    ],
)
def test_a_rule_is_about_what_meets_all_of_it(rule: Rule, meant: bool) -> None:
    assert (find_expiry([rule], "logs/today", 100, {"class": "old"}, NOON) is not None) is meant


def test_old_versions_go_after_they_were_replaced_but_for_the_newest() -> None:
    rules = [Rule("old", noncurrent_days=3, newer_kept=2)]
    assert find_noncurrent_expiry(rules, "a", 1, NO_TAGS, NOON, newer=1) is None
    assert find_noncurrent_expiry(rules, "a", 1, NO_TAGS, NOON, newer=2) == (20_004 * DAY_MS, "old")
    assert find_expiry(rules, "a", 1, NO_TAGS, NOON) is None


def test_a_lone_delete_marker_goes_by_its_own_rule_or_by_days() -> None:
    assert find_marker_rule([Rule("markers", lone_markers=True)], "a", NOON, NOON) == "markers"
    assert find_marker_rule([Rule("other", lone_markers=True, prefix="b")], "a", NOON, NOON) is None
    assert find_marker_rule([Rule("days", days=1)], "a", NOON, 20_002 * DAY_MS - 1) is None
    assert find_marker_rule([Rule("days", days=1)], "a", NOON, 20_002 * DAY_MS) == "days"


def test_unfinished_uploads_go() -> None:
    assert find_upload_expiry([Rule("up", prefix="a/", upload_days=2)], "a/b", NOON) == (20_003 * DAY_MS, "up")
    assert find_upload_expiry([Rule("up", prefix="a/", upload_days=2)], "b", NOON) is None


numbers = st.none() | st.integers(1, 1 << 40)
any_rules = st.builds(
    Rule,
    st.text(max_size=5),
    st.booleans(),
    st.text(max_size=5),
    st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=3),
    st.none() | st.integers(0, 1 << 40),
    numbers,
    numbers,
    numbers,
    st.booleans(),
    numbers,
    st.integers(0, 100),
    numbers,
)


@given(st.lists(any_rules, max_size=4))
def test_a_document_has_all_of_its_rules(rules: list[Rule]) -> None:
    assert decode_rules(encode_rules(rules)) == tuple(rules)
