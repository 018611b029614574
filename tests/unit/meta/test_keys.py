from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flared.meta import keys

texts = st.text(max_size=20).filter(lambda text: "\0" not in text)


@given(texts, texts)
def test_objects_order_by_the_utf8_bytes_of_their_keys(one: str, other: str) -> None:
    assert (keys.object_("b", one) < keys.object_("b", other)) == (one.encode() < other.encode())


@given(texts, texts)
def test_under_a_prefix_is_what_begins_with_it(prefix: str, key: str) -> None:
    start, end = keys.under(keys.object_("b", prefix))
    assert (start <= keys.object_("b", key) < end) == key.startswith(prefix)


def test_buckets_do_not_mix() -> None:
    start, end = keys.under(keys.object_("ab", ""))
    assert not start <= keys.object_("abc", "x") < end
    assert not start <= keys.object_("ab-", "x") < end


@given(st.integers(0, 10**14), st.integers(0, 10**14))
def test_times_order_as_numbers(due: int, now: int) -> None:
    start, end = keys.timed("garbage", now)
    assert (start <= keys.garbage(due, "chunk", "x") < end) == (due <= now)
