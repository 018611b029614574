from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path
from unittest.mock import patch

import pytest
import trio

from flared.catalog import totals as module
from flared.catalog.totals import Totals
from flared.meta.kv import KV
from flared.meta.open import open_kv
from flared.names import BucketName, ObjectKey, ObjectName
from tests.support.checkers import recount
from tests.unit.catalog.support import LittleStore, object_name


@pytest.fixture(params=["memory", "sqlite"])
async def kv(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[KV]:
    with patch.object(module, "PAGE_KEYS", 7):
        async with open_kv("memory:" if request.param == "memory" else str(tmp_path / "meta.db")) as kv:
            yield kv


async def change_things(store: LittleStore, seed: int, turns: int) -> None:
    chance = random.Random(seed)
    for turn in range(turns):
        name = object_name(f"{chance.randrange(60):02}")
        if chance.random() < 0.6:
            await store.put_small(name, b"%d/%d" % (seed, turn))
        else:
            await store.delete(name)


async def test_the_totals_are_exact_though_everything_changes_while_they_are_counted(kv: KV) -> None:
    store = LittleStore(kv)
    await store.open()
    await change_things(store, 0, 80)
    totals = Totals(kv)
    assert not totals.now().exact
    async with trio.open_nursery() as nursery:
        for seed in range(1, 9):
            nursery.start_soon(change_things, store, seed, 40)
        await totals.fill()
    assert totals.now().objects > 0
    assert await recount(kv, totals) == []
    await change_things(store, 99, 20)
    store.now_ms += 10_000
    for item in await store.due():
        await store.sweep_item(item)
    assert await recount(kv, totals) == []


async def test_nothing_is_nothing(kv: KV) -> None:
    totals = Totals(kv)
    await totals.fill()
    assert totals.now() == module.TotalsNow(0, 0, 0, 0, True)


async def test_each_bucket_is_counted_and_those_beyond_the_limit_together(kv: KV) -> None:
    with patch.object(module, "BUCKETS_MAX", 2):
        store = LittleStore(kv)
        for bucket in ("aaa", "bbb", "ccc", "ddd"):
            await store.open(BucketName(bucket))
        first = {bucket: ObjectName(BucketName(bucket), ObjectKey("x")) for bucket in ("aaa", "bbb", "ccc")}
        for bucket, name in first.items():
            await store.put_small(name, bucket.encode() * 10)
        totals = Totals(kv)
        await totals.fill()
        assert await recount(kv, totals) == []
        assert {bucket.bucket for bucket in totals.buckets()[0]} == {"aaa", "bbb"}
        assert totals.buckets()[1].objects == 1
        await store.put_small(first["aaa"], b"the only one, replaced")
        await store.put_small(ObjectName(BucketName("ddd"), ObjectKey("y")), b"another one without a place")
        await store.delete(first["bbb"])
        await store.delete(first["ccc"])
        await store.put_small(first["bbb"], b"again")
        assert await recount(kv, totals) == []
        assert {bucket.bucket for bucket in totals.buckets()[0]} == {"aaa", "bbb"}
