"""Pieces in quarantine: hidden, kept, shown again when they are wanted, gone after their time or when room is short."""

from __future__ import annotations

import random
import tomllib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio

from flared.data.pieces import LARGE_SIZE
from flared.data.record import SMALL, Head, pack_head, pack_quarantine, parse_record
from flared.data.volume.volumes import Volumes
from flared.errors import Busy, ConfigError, FlareError, NoSuchPiece
from tests.support.engine import delete, get, names_of, payload_of, piece_of, put, running, settings_for
from tests.support.memory_disk import MemoryDisk, PowerCut
from tests.support.threads import InlineThreads, T, Ts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

DAY = 86400.0
BIG = 1 << 40
SETTINGS = settings_for("/srv/v1", segment_size=1 << 20)
SIZES = [0, 100, 5000, 70_000, 131_072, 300_000]


class Clock:
    """A wall clock that follows trio's, and may jump."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return 1_700_000_000.0 + trio.current_time() + self.ahead


async def hide(store: Volumes, *names: str) -> list[bool]:
    answers = []
    for answer in await store.quarantine_many(names):
        if isinstance(answer, FlareError):
            raise answer
        answers.append(answer)
    return answers


async def hidden_names(store: Volumes) -> set[str]:
    return {name for name, _, _ in await store.list_quarantined("", 10_000)}


def test_a_quarantine_record_says_what_it_was_packed_with() -> None:
    packed = pack_quarantine("a.b.0", 7, 4096, 9, 5, 1_700_000_000_123)
    record = parse_record(memoryview(packed), 5, 7, 4096)
    assert record is not None
    assert (record.name, record.sequence, record.plain_size, record.size) == ("a.b.0", 9, 1_700_000_000_123, 0)
    assert record.length == len(packed)
    assert parse_record(memoryview(packed), 6, 7, 4096) is None
    assert pack_head(Head(7, SMALL, 5, bytes(16)))


@pytest.mark.parametrize("size", [0, 5000, 300_000])
@pytest.mark.parametrize("rebuilt", [False, True])
async def test_what_is_hidden_stays_hidden_and_is_kept(size: int, rebuilt: bool, autojump_clock: object) -> None:
    disk = MemoryDisk(1)
    async with running(disk, SETTINGS) as store:
        for name in ("a", "b", "c"):
            await put(store, name, payload_of(name, size))
        assert await hide(store, "a", "b", "none", "a") == [True, True, False, False]
        assert await names_of(store) == ["c"]
        assert await hide(store, "a") == [False]
        (status,) = store.status().volumes
        assert status.quarantined_pieces == 2
        assert status.quarantined_bytes >= 2 * size
    if rebuilt:
        disk.lose("/srv/v1/index.db")
    async with running(disk, SETTINGS) as store:
        assert await names_of(store) == ["c"]
        assert await hidden_names(store) == {"a", "b"}
        assert store.status().volumes[0].quarantined_pieces == 2
        assert await get(store, "a") == payload_of("a", size), "who asks for it by name gets it"
        assert await names_of(store) == ["a", "c"], "and it is wanted again"
        assert not await put(store, "b", payload_of("b", size)), "it is there"
        assert await names_of(store) == ["a", "b", "c"]
        assert await hide(store, "c") == [True]
        assert await delete(store, ["c"]) == [True]
        with pytest.raises(NoSuchPiece):
            await get(store, "c")
        assert await put(store, "c", payload_of("again", size))
        assert await names_of(store) == ["a", "b", "c"]
    if rebuilt:
        disk.lose("/srv/v1/index.db")
    async with running(disk, SETTINGS) as store:
        assert await names_of(store) == ["a", "b", "c"]
        assert await hidden_names(store) == set()
        assert await get(store, "c") == payload_of("again", size)


async def test_its_time_over_a_piece_is_deleted_and_a_clock_that_jumps_ends_nothing(autojump_clock: object) -> None:
    disk, clock = MemoryDisk(1), Clock()
    settings = replace(SETTINGS, quarantine_seconds=3600.0, clock=clock)
    async with running(disk, settings) as store:
        await put(store, "a", b"1")
        await put(store, "b", b"2")
        await hide(store, "a")
        await trio.sleep(1800)
        await hide(store, "b")
        clock.ahead = 30 * DAY
        await trio.sleep(1700)
        assert await hidden_names(store) == {"a", "b"}
        await trio.sleep(130)
        assert await hidden_names(store) == {"b"}
        with pytest.raises(NoSuchPiece):
            await get(store, "a")
        store.keep_quarantined(60.0)
        await trio.sleep(30)
        assert await hidden_names(store) == set()
        assert store.status().pieces == 0
        assert store.status().volumes[0].quarantined_bytes == 0


@pytest.mark.parametrize("size", [30_000, 400_000])
async def test_quarantine_is_never_why_a_put_is_refused(size: int, autojump_clock: object) -> None:
    """A disk full of pieces in quarantine takes as many new ones, and the oldest went first."""
    disk = MemoryDisk(1, capacity=40 << 20)
    count = (30 << 20) // size
    async with running(disk, settings_for("/srv/v1", segment_size=1 << 20)) as store:
        for number in range(count):
            await put(store, f"old{number:05}", payload_of("old", size))
        for number in range(count):
            assert await hide(store, f"old{number:05}") == [True]
            await trio.sleep(0.01)
        for number in range(count):
            await put(store, f"new{number:05}", payload_of("new", size))
        left = sorted(await hidden_names(store))
        assert len(left) < count
        assert left == [f"old{number:05}" for number in range(count - len(left), count)], "the oldest go first"
        for number in range(count):
            assert await get(store, f"new{number:05}") == payload_of("new", size)


class SlowThreads(InlineThreads):
    """Threads of a disk that takes so long over everything."""

    seconds = 0.0

    async def run(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        if self.seconds:
            await trio.sleep(self.seconds)
        return await super().run(function, *arguments)


async def get_all(store: Volumes, size: int) -> bool:
    """Return whether "a" could be read; small pieces in one batch, as an api node asks."""
    try:
        assert await get(store, "a") == payload_of("a", size)
    except NoSuchPiece:
        return False
    return True


async def put_again(store: Volumes, size: int) -> bool:
    """Another piece beside it makes the batch last for a while."""
    if size >= LARGE_SIZE:
        await put(store, "a", payload_of("a", size))
        return True
    items = [(piece_of(name, payload_of(name, size)), payload_of(name, size)) for name in ("a", "b")]
    assert not any(isinstance(answer, FlareError) for answer in await store.put_many(items))
    return True


@pytest.mark.parametrize("volumes", [1, 2])
@pytest.mark.parametrize("size", [5000, 300_000])
@pytest.mark.parametrize("ask", [get_all, put_again])
async def test_what_is_asked_for_while_its_time_ends_is_shown_or_was_not_there(
    volumes: int, size: int, ask: Callable[[Volumes, int], Awaitable[bool]], autojump_clock: object
) -> None:
    """Whoever got it, or was told that it is stored, goes by that; so it must not go with what nobody wants."""
    paths = ("/srv/v1", "/srv/v2")[:volumes]
    shown = set()
    for tenths in range(0, 60, 4):
        threads, clock = SlowThreads(), Clock()
        settings = replace(settings_for(*paths, segment_size=1 << 20), quarantine_seconds=30.0, clock=clock)
        async with running(MemoryDisk(1), settings, threads=threads) as store:
            await put(store, "a", payload_of("a", size))
            await hide(store, "a")
            began = trio.current_time()
            await trio.sleep(25)
            threads.seconds = 1.0
            await trio.sleep_until(began + 28 + tenths / 10)
            found = await ask(store, size)
            threads.seconds = 0.0
            await trio.sleep(20)
            assert ("a" in await names_of(store)) == found, f"asked {tenths / 10} s later"
            shown.add(found)
            if found:
                assert await get(store, "a") == payload_of("a", size)
    assert True in shown


async def test_compaction_keeps_what_is_hidden_and_that_it_is_hidden(autojump_clock: object) -> None:
    disk = MemoryDisk(1, capacity=256 << 20)
    async with running(disk, SETTINGS) as store:
        for number in range(200):
            await put(store, f"p{number:03}", payload_of(f"p{number:03}", 20_000))
        kept = [f"p{number:03}" for number in range(0, 200, 10)]
        await hide(store, *kept)
        shown = kept[:5]
        await store.show(shown)
        before = set(disk.paths())
        await delete(store, [f"p{number:03}" for number in range(200) if number % 10])
        await trio.sleep(60)
        assert len(before - set(disk.paths())) >= 3, "segments were compacted"
    disk.lose("/srv/v1/index.db")
    async with running(disk, SETTINGS) as store:
        assert await names_of(store) == shown
        assert await hidden_names(store) == set(kept[5:])
        for name in kept:
            assert await get(store, name) == payload_of(name, 20_000)


async def test_the_format_is_raised_with_the_first_record_and_only_then(autojump_clock: object) -> None:
    disk = MemoryDisk(1)

    def form() -> object:
        return tomllib.loads((disk.read("/srv/v1/volume.toml") or b"").decode())["format"]

    async with running(disk, SETTINGS) as store:
        store.set_cluster("c")
        await put(store, "a", b"1")
        assert form() == 1
        await hide(store, "a")
        assert form() == 2
    async with running(disk, SETTINGS) as store:
        assert store.cluster == "c"
        assert await hidden_names(store) == {"a"}
    disk.replace("/srv/v1/volume.toml", (disk.read("/srv/v1/volume.toml") or b"").replace(b"format = 2", b"format = 3"))
    with pytest.raises(ConfigError, match="format 3 is not known to this version"):
        async with running(disk, SETTINGS):
            pass


class Ledger:
    """The acknowledged changes, and those in flight when the power failed."""

    def __init__(self, number: int) -> None:
        self.random = random.Random(number)
        self.stored: dict[str, bytes] = {}
        self.hidden: set[str] = set()
        self.deleted: set[str] = set()
        self.unsure: set[str] = set()
        self.count = 0

    async def work(self, store: Volumes, rounds: int) -> None:
        for _ in range(rounds):
            for _ in range(self.random.randrange(1, 5)):
                await self.put_one(store)
            visible = sorted(set(self.stored) - self.hidden)
            share = self.random.choice((0.1, 0.5))
            await self.change(store, "hide", [name for name in visible if self.random.random() < share])
            await self.change(store, "show", [name for name in sorted(self.hidden) if self.random.random() < 0.3])
            if self.random.random() < 0.5:
                await self.change(store, "delete", [n for n in sorted(self.stored) if self.random.random() < share])
            if self.random.random() < 0.3:
                await trio.sleep(self.random.choice((0.6, 6.0)))

    async def put_one(self, store: Volumes) -> None:
        self.count += 1
        again = sorted(self.deleted)
        name = self.random.choice(again) if again and self.random.random() < 0.3 else f"n{self.count}"
        payload = payload_of(f"{name}{self.count}", self.random.choice(SIZES))
        self.unsure = {name}
        self.stored[name] = payload
        assert await put(store, name, payload)
        self.deleted.discard(name)
        self.unsure = set()

    async def change(self, store: Volumes, what: str, names: list[str]) -> None:
        self.unsure = set(names)
        if what == "hide":
            assert await hide(store, *names) == [True] * len(names)
            self.hidden.update(names)
        elif what == "show":
            await store.show(names)
            self.hidden.difference_update(names)
        else:
            assert await delete(store, names) == [True] * len(names)
            for name in names:
                del self.stored[name]
            self.hidden.difference_update(names)
            self.deleted.update(names)
        self.unsure = set()

    async def check(self, store: Volumes) -> None:
        """Then settle what was unsure: it is as before or as wanted, and stays so."""
        visible, hidden = set(await names_of(store)), await hidden_names(store)
        assert not visible & hidden
        assert set(self.stored) - self.unsure <= visible | hidden, "lost"
        assert visible | hidden <= set(self.stored), "came back"
        assert hidden - self.unsure == self.hidden - self.unsure
        for name in self.unsure:
            if name not in visible | hidden:
                self.stored.pop(name, None)
                self.deleted.add(name)
            else:
                self.deleted.discard(name)  # the put that was under way has come through
        self.hidden, self.unsure = hidden, set()
        for name in sorted(visible):
            assert await get(store, name) == self.stored[name]
        (status,) = store.status().volumes
        assert (status.pieces, status.quarantined_pieces) == (len(visible | hidden), len(hidden))
        assert store.take_damage() == []


async def live(disk: MemoryDisk, ledger: Ledger, rounds: int) -> None:
    try:
        async with running(disk, SETTINGS) as store:
            await ledger.check(store)
            await ledger.work(store, rounds)
    except* (PowerCut, Busy):
        assert disk.dead


@pytest.mark.parametrize("number", range(8))
async def test_power_cuts_and_lost_indexes_change_nothing_that_was_acknowledged(
    number: int, autojump_clock: object
) -> None:
    disk, ledger = MemoryDisk(number, capacity=256 << 20), Ledger(number)
    for _ in range(10):
        disk.cut_at_sync = disk.syncs + ledger.random.randrange(1, 60)
        await live(disk, ledger, 8)
        ledger.random.choice((disk.restart, disk.revive))()
        if ledger.random.random() < 0.4:
            disk.lose("/srv/v1/index.db")
    await live(disk, ledger, 0)
    for name in sorted(ledger.hidden):
        async with running(disk, SETTINGS) as store:
            assert await get(store, name) == ledger.stored[name]
        break
