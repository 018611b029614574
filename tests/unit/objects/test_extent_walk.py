"""The extent of any byte and of any chunk, through parents, against counting them one by one; and what that reads."""

from __future__ import annotations

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from flared.catalog.extents import seal
from flared.catalog.manifest import ExtentId, ExtentRef
from flared.catalog.parents import PAGE_CHILDREN, Child, append_page, open_parent
from flared.meta.kv import Entry
from flared.meta.memory import MemoryKV
from flared.objects.extent_walk import BYTES, CHUNKS, ExtentWalk

PARTS_MAX = 10_000


class CountingKV(MemoryKV):
    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    async def get(self, key: bytes) -> Entry | None:
        self.reads += 1
        return await super().get(key)


async def parent_of(kv: MemoryKV, children: list[ExtentRef]) -> ExtentRef:
    parent = ExtentId("p" * 32)
    await kv.transact(lambda tx: open_parent(tx, parent, "u" * 32, 1))
    for start in range(0, len(children), PAGE_CHILDREN):
        page = [Child(child, start + number) for number, child in enumerate(children[start : start + PAGE_CHILDREN], 1)]
        await kv.transact(lambda tx, page=page: append_page(tx, parent, page))
    return await kv.transact(lambda tx: seal(tx, parent))


sizes = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=20)


@settings(deadline=None)
@given(sizes, st.integers(0, 3))
def test_every_byte_and_chunk_is_found(held: list[tuple[int, int]], copies: int) -> None:
    """Also pages that are jumped to, and extents of nothing."""

    async def main() -> None:
        kv = MemoryKV()
        children = [
            ExtentRef(ExtentId(str(at)), size, chunks, 5) for at, (size, chunks) in enumerate(held * 2**copies * 4)
        ]
        first = ExtentRef(ExtentId("first"), 2, 1, 5)
        top = [first, await parent_of(kv, children)]
        for measure in (BYTES, CHUNKS):
            expected = []
            for extent in [first, *children]:
                start = len(expected)
                expected += [(extent, start)] * measure.of_extent(extent)
            walk = ExtentWalk(kv, top, measure)
            assert [await walk.find(position) for position in range(len(expected))] == expected
            backwards = range(len(expected) - 1, -1, -1)
            assert [await walk.find(position) for position in backwards] == expected[::-1]

    trio.run(main)


async def test_a_range_in_ten_thousand_parts_reads_one_record_and_one_page() -> None:
    kv = CountingKV()
    size = 512 * 1024 * 1024
    children = [ExtentRef(ExtentId(f"{number:032x}"), size, 64, size // 64) for number in range(PARTS_MAX)]
    parent = await parent_of(kv, children)
    assert parent.size == PARTS_MAX * size
    record = await kv.get(b"extent/" + parent.id.encode())
    assert record is not None
    assert len(record.value) < 1024
    for number in (0, 5000, PARTS_MAX - 1):
        kv.reads = 0
        walk = ExtentWalk(kv, [parent], BYTES)
        assert await walk.find(number * size + 7) == (children[number], number * size)
        assert kv.reads <= 2
