"""Cut the power anywhere: nothing acknowledged is lost, nothing deleted comes back, nothing wrong is read."""

from __future__ import annotations

import random

import pytest
import trio

from flared.data.volume.volumes import Volumes
from flared.errors import Busy, FlareError, NoSuchPiece
from tests.support.engine import delete, get, names_of, payload_of, put, running, settings_for
from tests.support.memory_disk import MemoryDisk, PowerCut

SETTINGS = settings_for("/srv/v1", segment_size=1 << 20)
SIZES = [0, 100, 4096, 5000, 70_000, 131_072, 300_000]


class Ledger:
    """The acknowledged changes, and those in flight when the power failed."""

    def __init__(self, number: int) -> None:
        self.random = random.Random(number)
        self.stored: dict[str, bytes] = {}
        self.deleted: set[str] = set()
        self.unsure: dict[str, bytes | None] = {}
        self.count = 0

    async def put_one(self, store: Volumes, size: int) -> None:
        """A new name, or now and then one that was deleted before."""
        again = sorted(self.deleted - set(self.unsure))
        if again and self.random.random() < 0.2:
            name = self.random.choice(again)
        else:
            self.count += 1
            name = f"{self.random.randrange(1000):03}.{self.count}"
        payload = payload_of(f"{name}{self.count}", size)
        self.unsure[name] = payload
        assert await put(store, name, payload)
        self.stored[name] = payload
        self.deleted.discard(name)
        del self.unsure[name]

    async def delete_some(self, store: Volumes, share: float) -> None:
        names = [name for name in sorted(self.stored) if name not in self.unsure and self.random.random() < share]
        self.unsure.update((name, self.stored[name]) for name in names)
        assert await delete(store, names) == [True] * len(names)
        for name in names:
            del self.stored[name]
            del self.unsure[name]
        self.deleted.update(names)

    async def work(self, store: Volumes, rounds: int) -> None:
        for _ in range(rounds):
            async with trio.open_nursery() as nursery:
                for _ in range(self.random.randrange(1, 6)):
                    nursery.start_soon(self.put_one, store, self.random.choice(SIZES))
            if self.random.random() < 0.4:
                await self.delete_some(store, self.random.choice((0.1, 0.5, 0.95)))
            if self.random.random() < 0.3:
                await trio.sleep(self.random.choice((0.6, 6.0)))  # the index is flushed; segments are compacted

    async def check(self, store: Volumes) -> None:
        """Then settle what was unsure: it is there whole or not at all, and stays as it is found."""
        found = set(await names_of(store))
        expected = set(self.stored) - set(self.unsure)
        assert expected <= found, f"lost: {expected - found}"
        assert found <= expected | set(self.unsure), f"came back: {found - expected - set(self.unsure)}"
        for name in sorted(found):
            payload = await get(store, name)
            allowed = [self.stored.get(name), self.unsure.get(name)]
            assert payload in allowed, name
            self.stored[name] = payload
        for name in sorted(self.deleted - found):
            with pytest.raises(NoSuchPiece):
                await get(store, name)
        for name in self.unsure:
            if name not in found:
                self.stored.pop(name, None)
                self.deleted.add(name)
            else:
                self.deleted.discard(name)
        self.unsure = {}
        assert store.status().pieces == len(found)
        assert store.take_damage() == []


async def live(disk: MemoryDisk, ledger: Ledger, rounds: int) -> None:
    """One life of the node: check, work, and stop in order unless the power is cut."""
    try:
        async with running(disk, SETTINGS) as store:
            await ledger.check(store)
            await ledger.work(store, rounds)
    except* (PowerCut, Busy):  # waiting callers learn that the volume stopped
        assert disk.dead


@pytest.mark.parametrize("number", range(6))
async def test_power_cut_at_every_sync(number: int, autojump_clock: object) -> None:
    for cut in range(1, 60, 2):
        disk, ledger = MemoryDisk(number * 1000 + cut, capacity=256 << 20), Ledger(number)
        disk.cut_at_sync = cut
        await live(disk, ledger, 12)
        disk.restart()
        await live(disk, ledger, 0)


@pytest.mark.parametrize("number", range(12))
async def test_many_power_cuts_and_kills_one_after_the_other(number: int, autojump_clock: object) -> None:
    disk, ledger = MemoryDisk(number, capacity=256 << 20), Ledger(number)
    for _ in range(12):
        disk.cut_at_sync = disk.syncs + ledger.random.randrange(1, 60)
        await live(disk, ledger, 10)
        ledger.random.choice((disk.restart, disk.revive))()
        if ledger.random.random() < 0.3:
            disk.lose("/srv/v1/index.db")
    await live(disk, ledger, 0)


@pytest.mark.parametrize("number", range(8))
async def test_lives_without_a_crash_and_without_their_index(number: int, autojump_clock: object) -> None:
    disk, ledger = MemoryDisk(number, capacity=256 << 20), Ledger(number)
    for life in range(6):
        await live(disk, ledger, 15)
        if life % 2:
            disk.lose("/srv/v1/index.db")
    await live(disk, ledger, 0)


@pytest.mark.parametrize("number", range(8))
async def test_failed_writes_and_syncs_lose_nothing(number: int, autojump_clock: object) -> None:
    """A failed write fails its group and ends the segment; a failed sync ends all writing until the next start."""
    disk, ledger = MemoryDisk(number, capacity=256 << 20), Ledger(number)
    chance = random.Random(number)
    for _ in range(8):
        disk.fail_writes = disk.fail_syncs = 0
        async with running(disk, SETTINGS) as store:
            await ledger.check(store)
            try:
                await ledger.work(store, 5)
                disk.fail_writes, disk.fail_syncs = chance.choice(((1, 0), (0, 1), (2, 1)))
                await ledger.work(store, 10)
            except* FlareError:
                pass
            if store.status().volumes[0].state != "readonly":
                await ledger.work(store, 0)
            disk.fail_writes = disk.fail_syncs = 0
            await _still_reads(store, ledger)
        if chance.random() < 0.3:
            disk.restart()


async def _still_reads(store: Volumes, ledger: Ledger) -> None:
    for name, payload in ledger.stored.items():
        if name not in ledger.unsure:
            assert await get(store, name) == payload
