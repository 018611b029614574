"""The brake: what it lets go within 24 hours never exceeds its limit, unless an operator or a week allows it."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from flared.catalog.orphans import HOURS_MAX, OrphanRecord
from flared.upkeep.deletion.brake import (
    HELD_MS,
    HOUR_MS,
    PIECES_MIN,
    SHARE,
    Found,
    count_deleted,
    decide,
    deleted_lately,
    limit_of,
)

NOW = 500_000 * HOUR_MS
counts = st.integers(0, 5000)
hours = st.integers(NOW // HOUR_MS - 2 * HOURS_MAX, NOW // HOUR_MS)
records = st.builds(
    OrphanRecord,
    st.dictionaries(hours, st.integers(1, 5000), max_size=HOURS_MAX).map(lambda found: tuple(sorted(found.items()))),
    counts,
)


def found(orphans: int, pieces: int = 0, confirmed: int | None = None) -> Found:
    return Found(pieces, orphans, 10 * orphans, ("a",), orphans if confirmed is None else confirmed)


@given(st.integers(0, 10**9))
def test_the_limit_is_a_share_and_never_below_the_least(pieces: int) -> None:
    assert limit_of(pieces) == max(PIECES_MIN, pieces // SHARE)


@given(records, counts, st.integers(0, 1_000_000))
def test_orphans_go_only_within_the_limit(record: OrphanRecord, orphans: int, pieces: int) -> None:
    after = decide(record, found(orphans, pieces), now_ms=NOW, ran_ms=0)
    allowed = min(record.allowed, orphans)
    within = orphans == 0 or deleted_lately(record, NOW) + orphans - allowed <= limit_of(pieces)
    if orphans:
        assert bool(after.held_since_ms) != within
    if after.held_since_ms:
        assert (after.held, after.held_bytes, after.sample) == (orphans, 10 * orphans, ("a",))
    assert after.allowed == allowed, "no more is allowed than the operator can have seen"


@given(records, counts)
def test_counting_what_was_not_deleted_after_all_takes_it_back(record: OrphanRecord, count: int) -> None:
    record = replace(record, allowed=0)
    after = count_deleted(record, count, NOW)
    assert deleted_lately(after, NOW) == deleted_lately(record, NOW) + count
    assert deleted_lately(count_deleted(after, -count, NOW), NOW) == deleted_lately(record, NOW)


@given(records, counts)
def test_what_an_operator_allowed_is_used_up_first(record: OrphanRecord, count: int) -> None:
    after = count_deleted(record, count, NOW)
    used = record.allowed - after.allowed
    assert used == min(count, record.allowed)
    assert deleted_lately(after, NOW) == deleted_lately(record, NOW) + count - used


@given(records)
def test_after_a_day_nothing_counts(record: OrphanRecord) -> None:
    assert deleted_lately(record, NOW + 24 * HOUR_MS) == 0
    assert count_deleted(record, 0, NOW + 24 * HOUR_MS).deleted == ()


def test_an_hour_ahead_counts_after_a_clock_was_set_back() -> None:
    assert deleted_lately(OrphanRecord(((NOW // HOUR_MS + 5, 7),)), NOW) == 7


def test_held_orphans_go_after_a_week_in_which_a_node_ran_and_not_after_a_clock_that_jumped() -> None:
    many = found(PIECES_MIN + 1)
    held = decide(OrphanRecord(), many, now_ms=NOW, ran_ms=0)
    assert held.held_since_ms == NOW
    jumped = decide(held, many, now_ms=NOW + 10 * HELD_MS, ran_ms=1000)
    assert (jumped.held_since_ms, jumped.waited_ms) == (NOW, 1000)
    assert decide(jumped, many, now_ms=NOW, ran_ms=HELD_MS - 1000).held_since_ms == 0


def test_nothing_is_held_before_one_could_go_and_what_is_held_stays_so_after_a_restart() -> None:
    unconfirmed = found(PIECES_MIN + 1, confirmed=0)
    assert decide(OrphanRecord(), unconfirmed, now_ms=NOW, ran_ms=0) == OrphanRecord()
    held = decide(OrphanRecord(), found(PIECES_MIN + 1), now_ms=NOW, ran_ms=0)
    assert decide(held, unconfirmed, now_ms=NOW, ran_ms=0).held_since_ms == NOW
