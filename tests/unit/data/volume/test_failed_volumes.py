"""One disk of several fails: its volume is left out, the others go on, and what it holds is there when it is back."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, TypeVarTuple

import pytest
import trio

from flared.data.volume.values import DataSettings
from flared.data.volume.volumes import Volumes
from flared.errors import Busy, ConfigError, FlareError, PieceCorrupt, VolumeFailed
from flared.http.turns import Turns
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
from tests.support.threads import InlineThreads

if TYPE_CHECKING:
    from collections.abc import Callable

    from flared.data.disk.disk import Space

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

SETTINGS = settings_for("/srv/v1", "/srv/v2", segment_size=MIB)
NAMES = [f"{number:03}" for number in range(40)]


def held_by(store: Volumes, number: int) -> list[str]:
    return sorted(store._volumes[number].piece_map.find_many(NAMES))


def break_reads(disk: MemoryDisk, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the disk of this volume cannot be read past the page cache."""
    probe = disk.probe

    def fail(probed: str) -> None:
        if probed.startswith(path):
            raise VolumeFailed(f"{probed}: Input/output error")
        probe(probed)

    monkeypatch.setattr(disk, "probe", fail)


async def fill(store: Volumes) -> None:
    for name in NAMES:
        await put(store, name, payload_of(name, 3000))
        store._volumes[0].free -= int(name) % 2 * MIB  # as if something else took room: the next one goes elsewhere
        store._volumes[1].free -= (1 - int(name) % 2) * MIB


async def fail_volume(store: Volumes, disk: MemoryDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk of the first volume dies under the running node."""
    break_reads(disk, "/srv/v1", monkeypatch)
    store._volumes[0].stop_writes("Input/output error")
    await trio.sleep(30)
    assert store._volumes[0].state == "failed"


async def test_a_disk_that_answers_nothing_fails_its_volume(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = MemoryDisk(1)
    async with running(disk, SETTINGS) as store:
        await fill(store)
        store._volumes[0].stop_writes("Input/output error")
        await trio.sleep(60)
        assert store._volumes[0].state == "readonly", "what can be read is read"
        break_reads(disk, "/srv/v1", monkeypatch)
        await trio.sleep(6)
        assert store._volumes[0].state == "readonly", "once is not always"
        await trio.sleep(30)
        first, second = store.status().volumes
        assert (first.state, second.state) == ("failed", "ok")
        assert first.reason == "the disk cannot be read: /srv/v1/volume.toml: Input/output error"
        assert 0 < first.state_seconds < 40
        assert await put(store, "later", b"on the other one")
        assert await get(store, "later") == b"on the other one"


class HangingThreads(InlineThreads):
    """Like threads in the kernel: who waits for a disk that hangs cannot be called back."""

    def __init__(self) -> None:
        self.hanging = ""
        self.answer = trio.Event()

    async def run(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        disk_and_path = [str(argument) for argument in arguments]
        if self.hanging and any(text.startswith(self.hanging) for text in disk_and_path):
            with trio.CancelScope(shield=True):
                await self.answer.wait()
        return await super().run(function, *arguments)


async def test_a_disk_that_hangs_fails_its_volume(autojump_clock: object) -> None:
    disk, threads = MemoryDisk(1), HangingThreads()
    async with running(disk, SETTINGS, threads=threads) as store:
        await fill(store)
        threads.hanging = "/srv/v1"
        try:
            await trio.sleep(100)
            assert store._volumes[0].state == "ok", "it may only be slow"
            await trio.sleep(30)
            first, second = store.status().volumes
            assert (first.state, second.state) == ("failed", "ok")
            assert first.reason == "the disk has not answered for 120 s"
            assert await put(store, "later", b"on the other one")
            assert await get(store, "later") == b"on the other one"
        finally:
            threads.answer.set()  # or the volume would never end, and this test neither
        await trio.sleep(60)
        assert store._volumes[0].state == "failed", "until the node is started again"
    async with running(disk, SETTINGS) as store:
        assert await names_of(store) == sorted([*NAMES, "later"])


async def test_an_unused_disk_is_probed(autojump_clock: object, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = MemoryDisk(1)
    async with running(disk, SETTINGS) as store:
        await fill(store)
        with monkeypatch.context() as faults:
            break_reads(disk, "/srv/v1/volume.toml", faults)
            await trio.sleep(60)
            assert [volume.state for volume in store.status().volumes] == ["ok", "ok"], "one bad spot"
        with monkeypatch.context() as faults:
            break_reads(disk, "/srv/v1", faults)
            for _ in range(30):
                if not store._volumes[0].watch.probe.failures:
                    await trio.sleep(1)
            await trio.sleep(4)
        await trio.sleep(60)
        assert [volume.state for volume in store.status().volumes] == ["ok", "ok"], "only for a moment"
        break_reads(disk, "/srv/v1", monkeypatch)
        await trio.sleep(60)
        assert [volume.state for volume in store.status().volumes] == ["failed", "ok"]


async def test_what_lies_below_a_disk_that_was_unmounted_is_no_room(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mount point tells of the file system below it, as large as it may be."""
    disk = MemoryDisk(1)
    space = disk.space

    def tell_apart(path: str) -> Space:
        return space(path)._replace(file_system=1)

    def tell_of_another(path: str) -> Space:
        return space(path)._replace(capacity=1 << 50, file_system=2) if path == "/srv/v1" else tell_apart(path)

    monkeypatch.setattr(disk, "space", tell_apart)
    async with running(disk, SETTINGS) as store:
        await fill(store)
        monkeypatch.setattr(disk, "space", tell_of_another)
        break_reads(disk, "/srv/v1", monkeypatch)
        await trio.sleep(60)
        first, second = store.status().volumes
        assert first.state == "failed"
        assert (first.capacity, first.file_system) == (second.capacity, 1)
        assert first.free == 0, "nothing can be written there"
        assert first.reason == "the disk cannot be read: /srv/v1/volume.toml: Input/output error"


async def test_a_bug_in_one_volume_ends_that_one_only(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(MemoryDisk(1), SETTINGS) as store:

        def break_down(*_: object) -> None:
            raise ZeroDivisionError("a bug")

        monkeypatch.setattr(store._volumes[0].puncher, "_punch", break_down)
        await put(store, "a", bytes(100_000))
        for volume in store._volumes:
            await volume.writer.delete_many(["a"])
        await put(store, "b", b"b")
        await trio.sleep(10)
        assert sorted(volume.state for volume in store.status().volumes) == ["failed", "ok"]
        assert await put(store, "c", b"c")
    assert "event=volume_failed" in caplog.text


async def test_the_inventory_says_which_volumes_it_covers(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = MemoryDisk(1)
    async with running(disk, SETTINGS) as store:
        await fill(store)
        mine, others = held_by(store, 0), held_by(store, 1)
        assert mine
        assert others
        assert await store.list_working("", 1000) == ([(name, 3000) for name in NAMES], ())
        await fail_volume(store, disk, monkeypatch)
        assert await store.list_working("", 1000) == ([(name, 3000) for name in others], ("/srv/v1",))
        with pytest.raises(Busy):
            await store.list("", 1000)
        with pytest.raises(Busy):
            await get(store, mine[0])
        assert await get(store, others[0]) == payload_of(others[0], 3000)


async def test_a_volume_that_replays_is_waited_for(autojump_clock: object) -> None:
    async with running(MemoryDisk(1), SETTINGS) as store:
        await fill(store)
        store._volumes[0].piece_map.complete = False
        with pytest.raises(Busy):
            await store.list_working("", 1000)


async def test_deletes_go_on_and_what_failed_is_seen_again(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = MemoryDisk(1)
    async with running(disk, SETTINGS) as store:
        await fill(store)
        mine, others = held_by(store, 0), held_by(store, 1)
        with monkeypatch.context() as faults:
            await fail_volume(store, disk, faults)
            assert await delete(store, [mine[0], others[0]]) == [False, True]
            assert await put(store, mine[1], payload_of(mine[1], 3000)), "made again on the volume that works"
    async with running(disk, SETTINGS) as store:
        assert await names_of(store) == sorted({*NAMES} - {others[0]}), "what was deleted meanwhile is an orphan now"
        assert await get(store, mine[1]) == payload_of(mine[1], 3000)
        assert await delete(store, [mine[1]]) == [True]
        assert mine[1] not in await names_of(store), "on both volumes"


async def test_what_a_volume_learned_right_before_it_failed_is_no_copy(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in memory only, because the index of a dead disk takes nothing more."""
    disk = MemoryDisk(1)
    async with running(disk, SETTINGS) as store:
        first, second = store._volumes
        for name, payload in (("small", b"on the first"), ("large", bytes(300_000))):
            first.free, second.free = 900 * MIB, 100 * MIB
            assert await put(store, name, payload)
            assert first.piece_map.recent(name)
        monkeypatch.setattr(first.piece_map, "_in_thread", _raise_failed)
        await fail_volume(store, disk, monkeypatch)
        assert isinstance((await store.read_many(["small"]))[0], Busy)
        with pytest.raises(Busy):
            await store.head("large")
        for name, payload in (("small", b"on the first"), ("large", bytes(300_000))):
            assert await put(store, name, payload), "made again"
            assert second.piece_map.find(name)
            assert await get(store, name) == payload


async def test_a_disk_that_just_died_fails_no_read_of_another(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = MemoryDisk(1)
    async with running(disk, SETTINGS) as store:
        await fill(store)
        mine, others = held_by(store, 0), held_by(store, 1)
        monkeypatch.setattr(store._volumes[0].segments, "lease", _raise_failed)
        bad, good = await store.read_many([mine[0], others[0]])
        assert isinstance(bad, VolumeFailed)
        assert good == (piece_of(others[0], payload_of(others[0], 3000)), payload_of(others[0], 3000))
        assert await get(store, others[0]) == payload_of(others[0], 3000)


async def test_a_disk_that_was_added_is_of_the_same_cluster(autojump_clock: object) -> None:
    disk = MemoryDisk(1)
    async with running(disk, settings_for("/srv/v1")) as store:
        store.set_cluster("one")
    async with running(disk, SETTINGS):
        pass
    async with running(disk, settings_for("/srv/v2")) as store:
        assert store.cluster == "one"
        with pytest.raises(ConfigError):
            store.set_cluster("another")


async def test_the_inventory_of_a_disk_that_takes_nothing_more_is_whole(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file system went read-only under it: the index lacks what was put and deleted last."""
    disk = MemoryDisk(1)
    async with running(disk, SETTINGS) as store:
        await fill(store)
        assert await names_of(store) == NAMES
        monkeypatch.setattr(store._volumes[0].piece_map, "_in_thread", _raise_failed)
        await delete(store, NAMES[5:8])
        for name in ("003+", "019+", "zzz"):
            store._volumes[0].free, store._volumes[1].free = 900 * MIB, 100 * MIB
            await put(store, name, payload_of(name, 3000))
        store._volumes[0].stop_writes("Read-only file system")
        wanted = sorted({*NAMES[:5], *NAMES[8:], "003+", "019+", "zzz"})
        assert await names_of(store) == wanted
        for limit in (1, 3, 7):
            found: list[str] = []
            while page := await store.list(found[-1] if found else "", limit):
                assert len(page) == limit or page[-1][0] == wanted[-1]
                found += [name for name, _ in page]
            assert found == wanted


def _raise_failed(*_: object) -> None:
    raise VolumeFailed("Input/output error")


async def test_a_read_only_volume_refuses_only_deletes_of_what_it_holds(autojump_clock: object) -> None:
    async with running(MemoryDisk(1), SETTINGS) as store:
        await fill(store)
        mine, others = held_by(store, 0), held_by(store, 1)
        store._volumes[0].stop_writes("Input/output error")
        answers = await store.delete_many([mine[0], others[0], "nobody's"])
        assert isinstance(answers[0], FlareError)
        assert answers[1:] == [True, False]


async def test_a_disk_that_is_dead_at_the_start_delays_no_other(autojump_clock: object) -> None:
    disk = MemoryDisk(1)
    async with running(disk, SETTINGS) as store:
        await fill(store)
        others = held_by(store, 1)
    lock = disk.lock

    def refuse(path: str) -> object:
        if path.startswith("/srv/v1"):
            raise VolumeFailed(f"{path}: Input/output error")
        return lock(path)

    disk.lock = refuse  # type: ignore[method-assign,assignment]
    async with running(disk, SETTINGS) as store:
        await trio.sleep(5)
        assert store.left_out == ("/srv/v1",)
        assert store.status().volumes[-1].state_seconds >= 5
        assert (await store.list_working("", 1000))[0] == [(name, 3000) for name in others]
        assert await delete(store, [others[0]]) == [True]


async def test_nothing_is_deleted_where_nothing_works(autojump_clock: object) -> None:
    disk = MemoryDisk(1)
    disk.broken = True
    settings = DataSettings("data1", ("/srv/v1",))
    store = await open_inline(Turns(), disk, settings)
    (answer,) = await store.delete_many(["a"])
    assert isinstance(answer, Busy)


@pytest.mark.parametrize("size", [3000, 300_000])
async def test_a_good_copy_on_another_volume_is_read_instead_of_a_bad_one(autojump_clock: object, size: int) -> None:
    disk = MemoryDisk(1)
    payload = payload_of("a", size)
    for first in (0, 1):
        name = f"a{first}"
        async with running(disk, SETTINGS) as store:
            store._volumes[1 - first].free = 0
            assert await put(store, name, payload)
            volume = store._volumes[first]
            location = volume.piece_map.find(name)
            assert location
            disk.flip(volume.segments.known[location.segment].path, location.offset + location.length - size // 2)
            with pytest.raises(PieceCorrupt):
                await get(store, name)
            assert isinstance((await store.read_many([name]))[0], PieceCorrupt) or size > 100_000
            store._volumes[first].free, store._volumes[1 - first].free = 0, 100 * MIB
            assert await put(store, name, payload), "again, on the other volume"
            assert await get(store, name) == payload
            if size < 100_000:
                assert (await store.read_many(["none", name]))[1] == (piece_of(name, payload), payload)
