"""A piece on two volumes of a node becomes one piece again, and never none."""

from __future__ import annotations

import random

import pytest
import trio

from flared.data.volume.volumes import Volumes
from tests.support.engine import MIB, delete, get, names_of, payload_of, put, running, settings_for
from tests.support.memory_disk import MemoryDisk

SETTINGS = settings_for("/srv/v1", "/srv/v2", segment_size=MIB)
SOON = 120.0


async def put_on(store: Volumes, number: int, name: str, payload: bytes) -> None:
    """Return the pieces of this volume only."""
    others, store._volumes[:] = list(store._volumes), [store._volumes[number]]
    await put(store, name, payload)
    store._volumes[:] = others


def copies(store: Volumes, name: str) -> int:
    return sum(volume.piece_map.find(name) is not None for volume in store._volumes)


@pytest.mark.parametrize("size", [3000, 300_000])
async def test_what_lies_on_two_volumes_keeps_one_copy(autojump_clock: object, size: int) -> None:
    names = [f"{number:04}" for number in range(1200 if size == 3000 else 5)]
    disk = MemoryDisk(1)
    async with running(disk, SETTINGS) as store:
        for number, name in enumerate(names):
            await put_on(store, number % 2, name, payload_of(name, size))
            if number % 3 == 0:
                await put_on(store, 1 - number % 2, name, payload_of(name, size))
        await trio.sleep(SOON)
        assert [copies(store, name) for name in names] == [1] * len(names)
        assert store.duplicates is not None
        assert store.duplicates.removed == len(names[::3])
        for name in names[::7]:
            assert await get(store, name) == payload_of(name, size)
        await put_on(store, 0, "later", b"x")
        await put_on(store, 1, "later", b"x")
        for _ in range(3):
            await store.duplicates.step()
        assert copies(store, "later") == 1
    async with running(disk, SETTINGS) as store:
        assert await names_of(store) == [*names, "later"]


@pytest.mark.parametrize("bad", [0, 1])
async def test_the_good_copy_is_kept(autojump_clock: object, bad: int) -> None:
    disk = MemoryDisk(1)
    async with running(disk, SETTINGS) as store:
        for number in (0, 1):
            await put_on(store, number, "a", payload_of("a", 3000))
        location = store._volumes[bad].piece_map.find("a")
        assert location
        disk.flip(store._volumes[bad].segments.known[location.segment].path, location.offset + location.length - 100)
        await trio.sleep(SOON)
        assert await get(store, "a") == payload_of("a", 3000)
        assert store._volumes[1 - bad].piece_map.find("a") is not None


async def test_two_bad_copies_stay_for_a_later_repair(autojump_clock: object) -> None:
    disk = MemoryDisk(1)
    async with running(disk, SETTINGS) as store:
        for number in (0, 1):
            await put_on(store, number, "a", payload_of("a", 3000))
            volume = store._volumes[number]
            location = volume.piece_map.find("a")
            assert location
            disk.flip(volume.segments.known[location.segment].path, location.offset + location.length - 100)
        await trio.sleep(SOON)
        assert copies(store, "a") == 2
        assert "a" in store.take_damage()


@pytest.mark.parametrize("chance", range(30))
async def test_changes_at_the_same_time_lose_nothing(autojump_clock: object, chance: int) -> None:
    """A piece that is put again while its old copies are compared is there afterwards."""
    rng = random.Random(chance)
    names = [f"{number:03}" for number in range(20)]
    async with running(MemoryDisk(chance), SETTINGS) as store:
        assert store.duplicates is not None
        store.duplicates._begun = True
        for name in names:
            for number in (0, 1):
                await put_on(store, number, name, payload_of(name, 3000))
        kept: set[str] = set()

        async def change(name: str) -> None:
            for _ in range(rng.randrange(30)):
                await trio.lowlevel.checkpoint()
            await delete(store, [name])
            if rng.random() < 0.7:
                assert await put(store, name, payload_of(name, 3000))
                kept.add(name)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.duplicates.step)
            for name in names:
                nursery.start_soon(change, name)
        await trio.sleep(1)
        assert await names_of(store) == sorted(kept)
