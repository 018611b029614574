from __future__ import annotations

from flared.meta.cache import ENTRY_OVERHEAD_BYTES, VALUE_BYTES_MAX, Cache
from flared.meta.kv import Entry


def entry(number: int, size: int = 10) -> Entry:
    return Entry(bytes(size), number)


def test_the_least_recently_read_goes_first() -> None:
    cache = Cache(3 * (ENTRY_OVERHEAD_BYTES + 11))
    for number, key in enumerate((b"a", b"b", b"c"), 1):
        cache.add(key, entry(number))
    assert cache.get(b"a") == entry(1)
    cache.add(b"d", entry(4))
    assert cache.get(b"b") is None
    assert [cache.get(key) is not None for key in (b"a", b"c", b"d")] == [True] * 3


def test_a_commit_changes_only_what_is_remembered() -> None:
    cache = Cache(10_000)
    cache.add(b"a", entry(1))
    cache.update({b"a": entry(2), b"b": entry(2)})
    assert cache.get(b"a") == entry(2)
    assert cache.get(b"b") is None
    cache.update({b"a": None})
    assert cache.get(b"a") is None


def test_large_values_are_not_remembered_nor_are_their_old_ones() -> None:
    cache = Cache(1_000_000)
    cache.add(b"a", entry(1))
    cache.update({b"a": entry(2, VALUE_BYTES_MAX + 1)})
    assert cache.get(b"a") is None
