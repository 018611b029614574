"""Many changes go in bounded transactions, in order; an error leaves whole batches done."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from flared.errors import Busy
from flared.meta.kv import Transaction
from flared.meta.memory import MemoryKV
from flared.upkeep.batches import BATCH, transact_each


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 3 * BATCH + 1))
def test_every_item_is_changed_once_and_in_order(count: int) -> None:
    def change(tx: Transaction, item: int) -> int:
        tx.put(b"k%d" % item, b"v")
        return 2 * item

    async def main() -> None:
        kv = MemoryKV()
        assert await transact_each(kv, range(count), change) == [2 * item for item in range(count)]
        assert len(await kv.scan(b"k", b"l", 10_000)) == count

    trio.run(main)


async def test_an_error_leaves_whole_batches(autojump_clock: trio.testing.MockClock) -> None:
    def change(tx: Transaction, item: int) -> None:
        if item == BATCH + 5:
            raise Busy("now")
        tx.put(b"k%03d" % item, b"v")

    kv = MemoryKV()
    with pytest.raises(Busy):
        await transact_each(kv, range(3 * BATCH), change)
    assert len(await kv.scan(b"k", b"l", 10_000)) == BATCH
