"""Room: it comes back for good, is held back for deletes, and a full disk refuses puts only."""

from __future__ import annotations

from contextlib import suppress

import pytest
import trio

from flared.data.index import piece_map
from flared.data.index.index import Index
from flared.data.record import SMALL
from flared.data.volume.compact import Compactor
from flared.data.volume.volume import Volume
from flared.data.volume.volumes import Volumes
from flared.errors import NoSuchPiece, VolumeFailed, VolumeFull
from tests.support.engine import MIB, delete, get, names_of, payload_of, piece_of, put, running, settings_for
from tests.support.memory_disk import MemoryDisk

SETTINGS = settings_for("/srv/v1", segment_size=MIB)
INDEX = "/srv/v1/index.db"
NOTHING = 200 * 1024


def only(store: Volumes) -> Volume:
    return store._volumes[0]


async def fill(store: Volumes, count: int, size: int, prefix: str = "") -> list[str]:
    names = [f"{prefix}{number:04}" for number in range(count)]
    for name in names:
        await put(store, name, payload_of(name, size))
    return names


@pytest.mark.parametrize("size", [0, 100, 4096, 60_000, 131_072, 1_000_000])
async def test_an_emptied_volume_is_empty_also_after_a_restart(size: int, autojump_clock: object) -> None:
    disk = MemoryDisk(1)
    async with running(disk, SETTINGS) as store:
        names = await fill(store, 40 if size > 10_000 else 600, size)
        await trio.sleep(1)
        assert await delete(store, names) == [True] * len(names)
        await trio.sleep(60)
        assert disk.used() < NOTHING
    async with running(disk, SETTINGS) as store:
        await trio.sleep(60)
        assert disk.used() < NOTHING
        assert await names_of(store) == []
        assert only(store).used < NOTHING
    disk.lose(INDEX)
    async with running(disk, SETTINGS) as store:
        assert await names_of(store) == []


async def test_a_large_piece_gives_its_room_back_at_once(autojump_clock: object) -> None:
    disk = MemoryDisk(1)
    async with running(disk, settings_for("/srv/v1", segment_size=64 * MIB)) as store:
        names = await fill(store, 10, MIB)
        before = disk.used()
        await delete(store, names[:3])
        await trio.sleep(0.1)
        assert before - disk.used() >= 3 * MIB - 8192
        for name in names[3:]:
            assert await get(store, name) == payload_of(name, MIB)


@pytest.mark.parametrize("size", [3000, 140_000])
async def test_what_lives_outlives_compaction(size: int, autojump_clock: object) -> None:
    disk = MemoryDisk(2)
    async with running(disk, SETTINGS) as store:
        names = await fill(store, 1000 if size < 10_000 else 40, size)
        kept = names[::7]
        await delete(store, [name for name in names if name not in kept])
        used = disk.used()
        await trio.sleep(60)
        assert disk.used() < used
        assert disk.used() < 3 * len(kept) * (size + 4096) + NOTHING
        for name in kept:
            assert await get(store, name) == payload_of(name, size)
    disk.lose(INDEX)
    async with running(disk, SETTINGS) as store:
        assert await names_of(store) == kept
        for name in kept:
            assert await get(store, name) == payload_of(name, size)


async def test_deletes_during_compaction_hold_and_readers_read_on(autojump_clock: object) -> None:
    disk = MemoryDisk(3)
    async with running(disk, SETTINGS) as store:
        names = await fill(store, 1500, 3000)
        kept = names[::5]
        await delete(store, [name for name in names if name not in kept])
        await only(store).roll(1)
        gone: list[str] = []

        async def delete_some() -> None:
            for name in kept[::3]:
                gone.append(name)
                assert await delete(store, [name]) == [True]

        with await store.open(kept[1]) as opened:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(delete_some)
                compactor = Compactor(only(store))
                while await compactor.step():
                    pass
            buffer = memoryview(bytearray(3000))
            assert await opened.read_into(0, buffer, verify=True) == 3000
        left = [name for name in kept if name not in gone]
        assert await names_of(store) == left
    disk.lose(INDEX)
    async with running(disk, SETTINGS) as store:
        assert await names_of(store) == left
        await trio.sleep(100)
        assert await names_of(store) == left


async def test_many_restarts_leave_few_segments(autojump_clock: object) -> None:
    disk = MemoryDisk(4)
    for life in range(40):
        async with running(disk, SETTINGS) as store:
            await put(store, f"{life:02}", b"x" * 100)
            await trio.sleep(20)
    assert len([path for path in disk.paths() if "/segments/" in path]) < 12
    async with running(disk, SETTINGS) as store:
        assert len(await names_of(store)) == 40


async def test_a_full_volume_refuses_puts_reads_and_deletes_go_on(autojump_clock: object) -> None:
    disk = MemoryDisk(5, capacity=64 * MIB)
    async with running(disk, settings_for("/srv/v1", reserve=4 * MIB)) as store:
        names: list[str] = []
        with suppress(VolumeFull):
            while len(names) < 300:
                name = f"{len(names):04}"
                await put(store, name, payload_of(name, 300_000))
                names.append(name)
        assert 150 < len(names) < 220
        (answer,) = await store.put_many([(piece_of("small", bytes(100_000)), bytes(100_000))])
        assert isinstance(answer, (bool, VolumeFull))
        await trio.sleep(10)
        assert store.status().volumes[0].state == "full"
        assert store.status().volumes[0].free < MIB
        for name in names[::20]:
            assert await get(store, name) == payload_of(name, 300_000)
        assert await delete(store, names[:100]) == [True] * 100
        await trio.sleep(30)
        assert store.status().volumes[0].state == "ok"
        assert await put(store, "again", payload_of("again", 300_000))
        assert await get(store, names[-1]) == payload_of(names[-1], 300_000)


async def test_a_disk_without_any_room_loses_nothing(autojump_clock: object) -> None:
    """Others fill the disk, our reserve included: puts fail as full, nothing acknowledged is lost."""
    disk = MemoryDisk(6, capacity=64 * MIB)
    async with running(disk, settings_for("/srv/v1", reserve=0)) as store:
        names = await fill(store, 20, 5000)
        other = disk.create("/other", direct=False)
        other.allocate(0, disk.capacity - disk.used() & -4096)
        for name in ("a", "b"):
            with pytest.raises(VolumeFull):
                await put(store, name, bytes(20_000))
        other.truncate(0)
        assert await put(store, "a", bytes(20_000))
        for name in names:
            assert await get(store, name) == payload_of(name, 5000)
    async with running(disk, settings_for("/srv/v1")) as store:
        assert await names_of(store) == [*names, "a"]


async def test_a_failed_sync_stops_writes_until_the_next_start(autojump_clock: object) -> None:
    disk = MemoryDisk(7)
    async with running(disk, SETTINGS) as store:
        await put(store, "before", b"x")
        disk.fail_syncs = 1
        with pytest.raises(VolumeFailed):
            await put(store, "during", b"x")
        for name in ("after", "large"):
            with pytest.raises((VolumeFailed, VolumeFull)):
                await put(store, name, bytes(10 if name == "after" else 200_000))
        with pytest.raises(VolumeFailed):
            await delete(store, ["before"])
        assert store.status().volumes[0].state == "readonly"
        assert await get(store, "before") == b"x"
    async with running(disk, SETTINGS) as store:
        assert await get(store, "before") == b"x"
        assert await put(store, "after", b"y")


async def test_a_failed_write_ends_the_segment_and_writing_goes_on(autojump_clock: object) -> None:
    disk = MemoryDisk(8)
    async with running(disk, SETTINGS) as store:
        for turn in range(4):
            size = 200_000 if turn % 2 else 2000
            assert await put(store, f"before{turn}", bytes(size))
            disk.fail_writes = 1
            with pytest.raises(VolumeFailed):
                await put(store, f"bad{turn}", bytes(size))
            assert await put(store, f"good{turn}", bytes(size))
        with pytest.raises(NoSuchPiece):
            await store.open("bad0")
    async with running(disk, SETTINGS) as store:
        assert await names_of(store) == sorted(f"{word}{turn}" for turn in range(4) for word in ("before", "good"))


async def test_buffers_that_rest_are_given_back(autojump_clock: object) -> None:
    async with running(MemoryDisk(9), SETTINGS) as store:
        await put(store, "large", bytes(3 * MIB))
        await put(store, "again", bytes(3 * MIB))
        assert len(store.buffers._free) == 1
        await trio.sleep(20)
        assert store.buffers._free == []
        assert store.buffers.leased_bytes == 0


async def test_an_emptied_index_gives_its_pages_back(autojump_clock: object) -> None:
    async with running(MemoryDisk(10), SETTINGS) as store:
        items = [(piece_of(f"{number:0100}", b"x"), b"x") for number in range(6000)]
        await store.put_many(items)
        await store.list("", 1)
        full = await only(store).piece_map.ask(pages)
        await delete(store, [piece.name for piece, _ in items])
        await trio.sleep(60)
        assert await only(store).piece_map.ask(pages) < full // 2


def pages(index: Index) -> int:
    (count,) = index._reader.execute("PRAGMA page_count").fetchone()
    return int(count)


async def test_calls_wait_for_an_index_that_lags(autojump_clock: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(piece_map, "CROWD", 50)
    monkeypatch.setattr(piece_map, "MEMTABLE_MAX", 400)
    async with running(MemoryDisk(11), SETTINGS) as store, trio.open_nursery() as nursery:

        async def put_many(first: int) -> None:
            for start in range(first, first + 1000, 100):
                items = [(piece_of(f"{number:05}", b"x"), b"x") for number in range(start, start + 100)]
                assert await store.put_many(items) == [True] * 100

        for first in (0, 1000, 2000):
            nursery.start_soon(put_many, first)


async def test_a_roll_alone_reaches_the_index(autojump_clock: object) -> None:
    """Else a segment that was sealed last of all would never be compacted."""
    async with running(MemoryDisk(12), SETTINGS) as store:
        await put(store, "a", bytes(5000))
        await store.list("", 1)
        await only(store).roll(SMALL)
        await only(store).piece_map.flush()
        (row,) = await only(store).piece_map.ask(Index.segments)
        assert row.sealed


async def test_the_index_keeps_learning_after_any_flush(autojump_clock: object) -> None:
    async with running(MemoryDisk(13), SETTINGS) as store:
        for name in ("a", "b", "c"):
            await put(store, name, b"x")
            await trio.sleep(0.1)
            await only(store).piece_map.flush()
            await put(store, f"{name}2", b"x")
            await trio.sleep(1)
            assert await only(store).piece_map.ask(lambda index, name=name: index.find(f"{name}2"))  # type: ignore[misc]
