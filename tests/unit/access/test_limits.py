from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flared.access.limits import RateLimit


def test_a_burst_and_then_the_rate() -> None:
    limit = RateLimit(rate=2, burst=4)
    assert [limit.take("a", 100.0) for _ in range(4)] == [0.0] * 4
    assert limit.take("a", 100.0) == 0.5
    assert limit.take("a", 100.25) == 0.25
    assert limit.take("a", 100.5) == 0.0
    assert limit.take("a", 100.5) > 0
    assert [limit.take("a", 200.0) for _ in range(5)] == [0.0] * 4 + [0.5], "no more than a burst is saved up"


def test_one_name_costs_another_nothing() -> None:
    limit = RateLimit(rate=1, burst=1)
    assert (limit.take("a", 0.0), limit.take("a", 0.0) > 0, limit.take("b", 0.0)) == (0.0, True, 0.0)


def test_state_is_bounded_and_the_least_recently_used_goes() -> None:
    limit = RateLimit(rate=1, burst=1, names_max=3)
    for name in ("a", "b", "c", "a", "d"):
        limit.take(name, 0.0)
    assert len(limit) == 3
    assert limit.take("a", 0.0) > 0, "it was used just now"
    assert limit.take("b", 0.0) == 0.0, "it was forgotten"


def test_a_clock_that_stands_gives_nothing() -> None:
    limit = RateLimit(rate=5, burst=1)
    assert limit.take("a", 10.0) == 0.0
    assert limit.take("a", 9.0) > 0


@given(st.floats(0.1, 1000), st.integers(1, 50), st.lists(st.floats(0, 2), max_size=200))
def test_never_more_than_burst_and_rate_allow(rate: float, burst: int, gaps: list[float]) -> None:
    limit, now, let_in = RateLimit(rate, burst), 0.0, 0
    for gap in gaps:
        now += gap
        wait = limit.take("a", now)
        let_in += not wait
        assert wait <= 1 / rate + 1e-9
        assert let_in <= burst + now * rate + 1e-6
