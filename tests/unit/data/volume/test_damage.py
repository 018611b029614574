"""Rot: found by any read, reported once, never returned, and healed by putting the piece again."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio

from flared.data.index.index import IndexCorrupt
from flared.data.volume import volume as volumes_file
from flared.data.volume.scrub import Scrubber
from flared.data.volume.values import DataSettings
from flared.data.volume.volumes import Volumes
from flared.errors import Busy, NoSuchPiece, PieceCorrupt
from flared.http.turns import open_turns
from tests.support.engine import (
    MIB,
    delete,
    get,
    names_of,
    open_inline,
    payload_of,
    piece_of,
    put,
    running,
    settings_for,
)
from tests.support.memory_disk import MemoryDisk

SETTINGS = settings_for("/srv/v1", segment_size=64 * MIB)


def rot(disk: MemoryDisk, store: Volumes, name: str, *, header: bool = False, cached: bool = False) -> None:
    volume = store._volumes[0]
    location = volume.piece_map.find(name)
    assert location
    path = volume.segments.known[location.segment].path
    disk.flip(
        path,
        location.offset + 40 if header else location.offset + location.length - max(8, location.size // 2),
        cached=cached,
    )


@pytest.mark.parametrize("header", [False, True])
@pytest.mark.parametrize("size", [4096, 400_000])
async def test_rot_is_found_reported_once_and_healed(size: int, header: bool, autojump_clock: object) -> None:
    disk = MemoryDisk(1)
    payload = payload_of("b", size)
    async with running(disk, SETTINGS) as store:
        for name in ("a", "b", "c"):
            await put(store, name, payload_of(name, size))
        rot(disk, store, "b", header=header)
        for _ in range(2):
            with pytest.raises(PieceCorrupt):
                await get(store, "b")
        if size < 100_000:
            answers = await store.read_many(["a", "b", "c"])
            assert [type(answer) for answer in answers] == [tuple, PieceCorrupt, tuple]
        assert store.take_damage() == ["b"]
        assert store.take_damage() == []
        assert await put(store, "b", payload)
        assert await get(store, "b") == payload
        assert await names_of(store) == ["a", "b", "c"]
        assert store.status().pieces == 3
    disk.lose("/srv/v1/index.db")
    async with running(disk, SETTINGS) as store:
        assert await get(store, "b") == payload
        assert await delete(store, ["b"]) == [True]
    disk.lose("/srv/v1/index.db")
    async with running(disk, SETTINGS) as store:
        assert await names_of(store) == ["a", "c"]


async def test_more_damage_than_is_remembered_is_reported_in_turns(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volumes_file, "DAMAGED_MAX", 2)
    disk = MemoryDisk(6)
    names = ["a", "b", "c", "d", "e"]
    async with running(disk, SETTINGS) as store:
        for name in names:
            await put(store, name, payload_of(name, 4096))
        for name in names:
            rot(disk, store, name)
        healed: list[str] = []
        while len(healed) < len(names):
            for name in names:
                if name not in healed:
                    with pytest.raises(PieceCorrupt):
                        await get(store, name)
            reported = store.take_damage()
            assert 0 < len(reported) <= 2
            for name in reported:  # as heal does
                await delete(store, [name])
                assert await put(store, name, payload_of(name, 4096))
            healed += reported
        for name in names:
            assert await get(store, name) == payload_of(name, 4096)


async def test_scrub_finds_rot_in_unread_pieces(autojump_clock: object) -> None:
    disk = MemoryDisk(2)
    async with running(disk, SETTINGS) as store:
        for number in range(200):
            await put(store, f"{number:03}", payload_of(f"{number}", 3000 if number % 10 else 300_000))
        for name in ("007", "100", "150"):
            rot(disk, store, name, header=name == "150")
        await delete(store, ["150", "003"])
        scrubber = Scrubber(store._volumes[0], 3600.0)
        for _ in range(6):
            assert not await scrubber.step()
        assert scrubber.verified == 200 - 4
        assert store.take_damage() == ["007", "100"]


@pytest.mark.parametrize("size", [3000, 300_000])
async def test_scrub_finds_rot_that_the_page_cache_hides(size: int, autojump_clock: object) -> None:
    disk = MemoryDisk(4)
    async with running(disk, SETTINGS) as store:
        await put(store, "a", payload_of("a", size))
        await put(store, "b", payload_of("b", size))
        rot(disk, store, "b", cached=True)
        assert await get(store, "a") == payload_of("a", size)
        await trio.sleep(60)  # the index learns of them
        scrubber = Scrubber(store._volumes[0], 3600.0)
        for _ in range(2):
            await scrubber.step()
        assert store.take_damage() == ["b"]


@pytest.mark.parametrize("direct", [True, False])
async def test_a_large_piece_is_read_past_the_page_cache_once(direct: bool, autojump_clock: object) -> None:
    """Shown by rot that only the disk has: a repeated read comes out of the page cache."""
    disk = MemoryDisk(5)
    payload = payload_of("a", 300_000)
    async with running(disk, replace(SETTINGS, direct=direct)) as store:
        await put(store, "a", payload)
        rot(disk, store, "a", cached=True)
        assert (await get(store, "a", verify=False) == payload) is not direct
        assert await get(store, "a", verify=False) == payload


async def test_the_scrub_keeps_its_pace_and_its_place(autojump_clock: object) -> None:
    disk = MemoryDisk(3)
    async with running(disk, SETTINGS) as store:
        for number in range(200):
            await put(store, f"{number:03}", bytes(3000))
        scrubber = Scrubber(store._volumes[0], 3600.0)
        await scrubber.step()
        started = trio.current_time()
        while scrubber.verified < 130:
            await scrubber.step()
            await scrubber.wait()
        assert 1200 < trio.current_time() - started < 3600
    async with running(disk, SETTINGS) as store:
        again = Scrubber(store._volumes[0], 3600.0)
        await again.step()
        await again.step()
        assert again.verified == 200 - scrubber.verified


async def test_a_place_that_went_stale_is_no_damage(autojump_clock: object) -> None:
    disk = MemoryDisk(4)
    async with running(disk, SETTINGS) as store:
        await put(store, "l", payload_of("l", 400_000))
        with await store.open("l") as opened:
            await delete(store, ["l"])
            await trio.sleep(1)  # its payload is a hole now
            with pytest.raises(NoSuchPiece):
                await opened.read_into(0, memoryview(bytearray(400_000)), verify=True)
        assert store.take_damage() == []


async def test_unreadable_bytes_are_damage(autojump_clock: object) -> None:
    disk = MemoryDisk(5)
    async with running(disk, SETTINGS) as store:
        await put(store, "a", b"x" * 5000)
        disk.fail_reads = 100
        with pytest.raises(PieceCorrupt):
            await get(store, "a")
        disk.fail_reads = 0
        assert store.take_damage() == ["a"]


async def test_compaction_keeps_rot_recognizable(autojump_clock: object) -> None:
    disk = MemoryDisk(6)
    async with running(disk, settings_for("/srv/v1", segment_size=MIB)) as store:
        names = [f"{number:04}" for number in range(600)]
        for name in names:
            await put(store, name, payload_of(name, 3000))
        rot(disk, store, "0100")
        rot(disk, store, "0300", header=True)
        await delete(store, [name for name in names if name not in ("0100", "0200", "0300", "0599")])
        await trio.sleep(100)
        assert await names_of(store) == ["0100", "0200", "0300", "0599"]
        assert await get(store, "0200") == payload_of("0200", 3000)
        for name in ("0100", "0300"):
            with pytest.raises(PieceCorrupt):
                await get(store, name)


async def test_a_corrupt_index_is_made_again_while_the_answer_is_busy(autojump_clock: object) -> None:
    disk = MemoryDisk(7)
    async with running(disk, SETTINGS) as store:
        for number in range(50):
            await put(store, f"{number:02}", payload_of(f"{number}", 1000 if number % 5 else 200_000))
        await store.list("", 1)
        volume = store._volumes[0]
        volume.piece_map.mark_corrupt(IndexCorrupt("malformed"))
        with pytest.raises(Busy):
            await put(store, "no", b"x")
        await trio.sleep(1)
        assert store.status().volumes[0].state == "ok"
        assert await get(store, "00") == payload_of("0", 200_000)
        assert await put(store, "yes", b"x")
        assert len(await names_of(store)) == 51


async def test_several_volumes_are_one_store(autojump_clock: object) -> None:
    disk = MemoryDisk(8)
    both = settings_for("/srv/v1", "/srv/v2")
    async with running(disk, settings_for("/srv/v1")) as store:
        await put(store, "one", b"1")
    async with running(disk, settings_for("/srv/v2")) as store:
        await put(store, "two", b"2")
        await put(store, "three", bytes(200_000))
    async with running(disk, both) as store:
        assert await names_of(store) == ["one", "three", "two"]
        assert not await put(store, "two", b"2")
        assert not await put(store, "three", bytes(200_000))
        assert await get(store, "one") == b"1"
        volume = store._volumes[1]
        volume.state, volume.reason, index = "failed", "broken", volume.piece_map._index
        volume.piece_map.use(None)
        for name in ("two", "none"):
            with pytest.raises(Busy):
                await store.open(name)
            (answer,) = await store.read_many([name])
            assert isinstance(answer, Busy)
        assert await get(store, "one") == b"1"
        assert await put(store, "four", b"4")
        assert await store.delete_many(["four", "none"]) == [True, False]
        volume.piece_map.use(index)


async def test_while_the_index_is_made_again_nothing_is_called_absent(autojump_clock: object) -> None:
    disk = MemoryDisk(9)
    async with running(disk, SETTINGS) as store:
        for number in range(6000):
            await store.put_many([(piece_of(f"{number:04}", b"x"), b"x")])
    disk.lose("/srv/v1/index.db")
    seen = set()
    async with open_turns() as turns, trio.open_nursery() as nursery:
        store = await open_inline(turns, disk, SETTINGS)
        nursery.start_soon(store.run)
        volume = store._volumes[0]
        while not volume.piece_map.complete:
            for name in ("0001", "5999", "none"):
                try:
                    await get(store, name)
                    seen.add((name, "found"))
                except Busy:
                    seen.add((name, "busy"))
                except NoSuchPiece:
                    assert volume.piece_map.complete
                (answer,) = await store.read_many([name])
                assert volume.piece_map.complete or isinstance(answer, (tuple, Busy))
            for refused in (store.delete_many(["none"]), store.put_many([(piece_of("none", b""), b"")])):
                (refusal,) = await refused
                assert volume.piece_map.complete or isinstance(refusal, Busy)
            await trio.lowlevel.checkpoint()
        assert seen >= {("0001", "busy"), ("0001", "found"), ("5999", "busy"), ("none", "busy")}
        assert len(await names_of(store)) >= 6000
        nursery.cancel_scope.cancel()


async def test_an_empty_mount_point_is_refused_and_nothing_is_written_into_it(autojump_clock: object) -> None:
    settings = DataSettings("data1", ("/srv/v1", "/srv/v2"), new_volumes=False)
    disk = MemoryDisk(9)
    async with running(disk, DataSettings("data1", ("/srv/v1",))):
        pass
    disk.make_directory("/srv/v2")
    async with running(disk, settings) as store:
        states = {volume.path: volume.state for volume in store.status().volumes}
        assert states == {"/srv/v1": "ok", "/srv/v2": "failed"}
        assert "its disk is not mounted" in store.status().volumes[1].reason
        assert await put(store, "a", b"1")
        with pytest.raises(Busy):
            await get(store, "none")
    assert disk.list("/srv/v2") == []
