"""A walk ends, however fast new chunks come in behind all others, and misses none that was there when it began."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from flared.catalog.chunks import ChunkRecord, create_chunk
from flared.names import ChunkId, NodeName, chunk_id, chunk_time
from flared.upkeep.walk import BEYOND, PAGE, Walk, find_horizon
from tests.support.cluster import Cluster
from tests.support.old_ids import old_chunk_id

if TYPE_CHECKING:
    from collections.abc import Iterable

    import trio.testing

DAY_MS = 24 * 3600 * 1000


class Chunks:
    """Records of chunks without pieces, made at a time of the caller's choice."""

    def __init__(self, cluster: Cluster) -> None:
        self._kv = cluster.kv
        self._made = 0

    def name(self, now_ms: int | None) -> ChunkId:
        self._made += 1
        digest = hashlib.sha256(b"%d" % self._made).digest()
        return old_chunk_id(digest, self._made) if now_ms is None else chunk_id(digest, now_ms, self._made)

    async def make(self, times_ms: Iterable[int | None]) -> set[ChunkId]:
        """None: with an id of the older form."""
        chunks = [self.name(now_ms) for now_ms in times_ms]
        for chunk in chunks:
            record = ChunkRecord(chunk, 1, 1, 0, "replica:1", 1, (NodeName("data1"),))
            await self._kv.transact(lambda tx, record=record: create_chunk(tx, record))  # type: ignore[misc]
        return set(chunks)


def now_ms(cluster: Cluster) -> int:
    return int(cluster.store.now() * 1000)


async def test_a_walk_ends_although_more_is_put_than_it_reads(autojump_clock: trio.testing.MockClock) -> None:
    cluster = Cluster()
    chunks = Chunks(cluster)
    await cluster.store.totals.fill()
    now = now_ms(cluster)
    # Some from before format 2, some of this minute, some of a day when the clock was wrong.
    there = await chunks.make([*[None] * PAGE, *range(now - 300, now), *[now + DAY_MS] * 7])
    walk = Walk()
    seen: set[ChunkId] = set()
    shares = []
    for turn in range(20):
        page = await walk.read_page(cluster.store)
        assert page == await walk.read_page(cluster.store), "the same one until it moves on"
        seen.update(record.id for record in page)
        walk.move_on(page)
        shares.append(walk.share(cluster.store))
        if walk.ended:
            break
        cluster.clock_ahead += DAY_MS / 1000
        await chunks.make([now_ms(cluster) + DAY_MS + turn] * PAGE)
    assert walk.ended
    assert there <= seen
    assert shares == sorted(shares)
    assert shares[-1] == 1 > shares[-2]


async def find(cluster: Cluster, names: list[str]) -> tuple[str, int]:
    """The horizon of these names, and how often they were asked."""
    asked = 0

    async def holds_from(name: str) -> bool:
        nonlocal asked
        asked += 1
        return any(other > name for other in names)

    return await find_horizon(cluster.store, holds_from), asked


async def test_the_horizon_is_near_unless_something_lies_behind_it(autojump_clock: trio.testing.MockClock) -> None:
    cluster = Cluster()
    chunks = Chunks(cluster)
    now = now_ms(cluster)
    past = [chunks.name(None), chunks.name(0), chunks.name(now)]
    assert await find(cluster, past) == (chunk_time(now + 1000), 1)
    ahead = chunks.name(now + DAY_MS)
    horizon, asked = await find(cluster, [*past, ahead])
    assert ahead < horizon <= chunk_time(now + 2 * DAY_MS)
    assert asked < 20
    never = chunks.name(1 << 60)
    horizon, asked = await find(cluster, [*past, never])
    assert never < horizon == BEYOND
    assert asked < 50
