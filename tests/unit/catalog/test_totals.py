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
