"""RecentChunks: bounded, verified at every hit, a shadow that nothing depends on."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from flared.chunks.recent import ENTRY_OVERHEAD_BYTES, SIZE_MAX, RecentChunks
from flared.names import chunk_id
from tests.support.cluster import Cluster

if TYPE_CHECKING:
    from flared.names import ChunkId


def chunk_of(plain: bytes) -> ChunkId:
    return chunk_id(hashlib.sha256(plain).digest(), 1, 1)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 40), st.integers(0, 3000))), st.integers(0, 20_000))
def test_it_never_holds_more_than_its_limit_nor_tells_anything_wrong(
    steps: list[tuple[bool, int, int]], limit: int
) -> None:
    recent = RecentChunks(limit)
    for adds, seed, size in steps:
        plain = bytes([seed]) * size
        if adds:
            recent.add(chunk_of(plain), plain)
        assert recent.find(chunk_of(plain)) in (plain, None)
        held = recent.statistics()
        assert held.bytes <= limit
        assert (held.bytes == 0) == (held.chunks == 0)


def test_who_was_asked_for_stays_longest() -> None:
    recent = RecentChunks(2 * (ENTRY_OVERHEAD_BYTES + 10))
    first, second, third = [bytes([number]) * 10 for number in range(3)]
    recent.add(chunk_of(first), first)
    recent.add(chunk_of(second), second)
    assert recent.find(chunk_of(first)) == first
    recent.add(chunk_of(third), third)
    assert recent.find(chunk_of(second)) is None
    assert recent.find(chunk_of(first)) == first
    recent.resize(ENTRY_OVERHEAD_BYTES + 10)
    assert recent.find(chunk_of(third)) is None
    recent.resize(0)
    assert recent.statistics().bytes == 0


def test_large_ones_are_not_kept() -> None:
    recent = RecentChunks(1 << 30)
    plain = bytes(SIZE_MAX + 1)
    recent.add(chunk_of(plain), plain)
    assert recent.statistics().chunks == 0


def test_memory_that_rotted_is_forgotten() -> None:
    recent = RecentChunks(1 << 20)
    plain = b"good"
    recent.add(chunk_of(plain), plain)
    recent._chunks[chunk_of(plain)] = b"gooe"
    assert recent.find(chunk_of(plain)) is None
    assert recent.statistics().bytes == 0
    recent.add(chunk_of(plain), plain)
    assert recent.find(chunk_of(plain)) == plain


async def test_a_node_is_asked_once_and_a_new_version_is_another_chunk(autojump_clock: object) -> None:
    cluster = Cluster(cache=1 << 20)
    async with cluster.running():
        await cluster.put("a", b"first")
        for _ in range(3):
            assert await cluster.get("a") == b"first"
        held = cluster.store.chunks.recent.statistics()
        assert (held.hits, held.misses) == (2, 1)
        await cluster.put("a", b"second")
        assert await cluster.get("a") == b"second"
        for member in cluster.members.values():
            member.down = True
        assert await cluster.get("a") == b"second"
