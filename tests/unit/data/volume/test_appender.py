"""The group commit of a volume: what travels together, and who hears what when it ends."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, ClassVar

import trio

from flared.data.index.index import Index
from flared.data.volume.open import open_volumes
from flared.data.volume.volumes import Volumes
from flared.errors import Busy, FlareError
from flared.http.turns import open_turns
from tests.support.engine import get, payload_of, piece_of, settings_for
from tests.support.lanes import InlineLane
from tests.support.memory_disk import MemoryDisk
from tests.support.threads import InlineThreads

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    import pytest

    from flared.data.volume.changes import Answers
    from flared.http.lane import Done, Work
    from flared.http.turns import Turns


SETTINGS = settings_for("/srv/v1")


class GatedLane(InlineLane):
    """Does nothing while its gate is shut; closing opens it."""

    gates: ClassVar[list[GatedLane]] = []

    def __init__(self, turns: Turns, name: str = "") -> None:
        super().__init__(turns, name)
        self.shut = False
        self.held: list[tuple[Work, Done]] = []
        self.name = name
        self.gates.append(self)

    def submit(self, work: Work, done: Done) -> None:
        if self.shut:
            self.held.append((work, done))
        else:
            super().submit(work, done)

    def open(self) -> None:
        self.shut = False
        held, self.held = self.held, []
        for work, done in held:
            super().submit(work, done)

    async def close(self) -> None:
        self.open()
        await super().close()


@asynccontextmanager
async def gated(disk: MemoryDisk) -> AsyncIterator[tuple[Volumes, GatedLane]]:
    """A volume, and the lane of its small pieces."""
    GatedLane.gates.clear()
    async with open_turns() as turns:
        store = await open_volumes(SETTINGS, turns, disk=disk, threads=InlineThreads(), make_lane=GatedLane)
        async with trio.open_nursery() as nursery:
            await nursery.start(store.run)
            await store.wait_ready()
            (small,) = [lane for lane in GatedLane.gates if lane.name == "append small"]
            yield store, small
            nursery.cancel_scope.cancel()


def put(store: Volumes, *names: str) -> list[Answers | None]:
    """Begin to store these; the answers are added to the list."""
    heard: list[Answers | None] = []
    items = [(piece_of(name, payload), payload) for name in names for payload in [payload_of(name, 50)]]
    assert store.put_nowait(items, heard.append)
    return heard


def delete(store: Volumes, *names: str) -> list[Answers]:
    """Begin to delete these; the answers are added to the list."""
    heard: list[Answers] = []
    assert store.delete_nowait(names, heard.append)
    return heard


async def settle() -> None:
    await trio.sleep(0.1)


async def test_what_comes_while_a_group_is_written_goes_into_the_next_one(autojump_clock: object) -> None:
    async with gated(MemoryDisk(1)) as (store, lane):
        lane.shut = True
        first = put(store, "a", "b")
        await settle()
        later = [put(store, "c"), put(store, "d", "e")]
        await settle()
        assert len(lane.held) == 1, "the lane has one group at a time"
        assert first == later[0] == later[1] == []
        lane.open()
        await settle()
        assert (first, later) == ([[True, True]], [[[True]], [[True, True]]])
        (volume,) = store.status().volumes
        assert (volume.syncs, volume.records) == (2, 5)


async def test_what_is_being_stored_is_waited_for(autojump_clock: object) -> None:
    async with gated(MemoryDisk(1)) as (store, lane):
        lane.shut = True
        put(store, "a")
        again: list[Answers | None] = []
        assert not store.put_nowait([(piece_of("a", payload_of("a", 50)), payload_of("a", 50))], again.append)
        assert again == []
        async with trio.open_nursery() as nursery:

            async def put_again() -> None:
                again.append(await store.put_many([(piece_of("a", payload_of("a", 50)), payload_of("a", 50))]))

            nursery.start_soon(put_again)
            await settle()
            assert again == []
            lane.open()
        assert again == [[False]]


async def test_a_stop_waits_for_the_group_under_way_and_refuses_what_waits(autojump_clock: object) -> None:
    disk = MemoryDisk(1)
    async with gated(disk) as (store, lane):
        lane.shut = True
        under_way = put(store, "a")
        await settle()
        waiting = put(store, "b")
    assert under_way == [[True]]
    ((refused,),) = [answers for answers in waiting if answers]
    assert isinstance(refused, Busy)
    async with gated(disk) as (store, _):
        assert await get(store, "a") == payload_of("a", 50)
        assert store.status().pieces == 1


async def test_what_is_there_by_the_index_is_not_written_twice(autojump_clock: object) -> None:
    async with gated(MemoryDisk(1)) as (store, _):
        put(store, "a", "b")
        await trio.sleep(60)  # the memtable has gone into the index
        heard = put(store, "a", "c", "b")
        await settle()
        assert heard == [[False, True, False]]
        assert store.status().volumes[0].records == 3


async def test_the_index_is_asked_only_for_names_that_it_may_have(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    asked: list[str] = []
    present = Index.present

    def note(index: Index, names: Sequence[str]) -> list[str]:
        asked.extend(names)
        return present(index, names)

    monkeypatch.setattr(Index, "present", note)
    disk = MemoryDisk(1)
    async with gated(disk) as (store, _):
        put(store, "b", "d")
        await settle()
        put(store, "e", "c")
        await trio.sleep(60)  # the memtable has gone into the index, up to "e"
        heard = put(store, "f", "a", "e")
        await settle()
        assert heard == [[True, True, False]]
        assert asked == ["a", "e"]
    async with gated(disk) as (store, _):
        heard = put(store, "f", "g", "b")
        await settle()
        assert heard == [[False, True, False]], "after a start, too"
        assert asked == ["a", "e", "f", "b"]


async def test_a_bug_in_a_group_fails_the_volume_and_all_hear(autojump_clock: object) -> None:
    async with gated(MemoryDisk(1)) as (store, lane):
        lane.shut = True
        under_way = put(store, "a")
        await settle()
        waiting = put(store, "b")
        lane.held = [(lambda: 1 // 0, done) for _, done in lane.held]
        lane.open()
        await settle()
        assert store.status().volumes[0].state == "failed"
        for heard in (under_way, waiting, put(store, "c")):
            ((answer,),) = [answers for answers in heard if answers]
            assert isinstance(answer, FlareError)


async def test_a_task_that_is_cancelled_keeps_its_buffers_until_they_are_written(autojump_clock: object) -> None:
    async with gated(MemoryDisk(1)) as (store, lane):
        lane.shut = True
        ended: list[Answers] = []
        async with trio.open_nursery() as nursery:

            async def store_one() -> None:
                ended.append(await store.put_many([(piece_of("a", b"1"), b"1")]))

            nursery.start_soon(store_one)
            await settle()
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await settle()
            assert ended == []
            lane.open()
        assert ended == [[True]]


async def test_a_delete_is_answered_when_its_tombstone_is_durable(autojump_clock: object) -> None:
    async with gated(MemoryDisk(1)) as (store, lane):
        put(store, "a", "b")
        await settle()
        lane.shut = True
        heard = delete(store, "a", "missing")
        await settle()
        assert heard == []
        assert await get(store, "a") == payload_of("a", 50), "no reader sees what a power cut could take back"
        assert not store.delete_nowait(["a"], heard.append), "it is being deleted"
        assert not store.put_nowait([(piece_of("a", payload_of("a", 50)), payload_of("a", 50))], lambda _: None)
        lane.open()
        await settle()
        assert heard == [[True, False]]
        assert [name for name, _ in await store.list("", 10)] == ["b"]


async def test_a_bug_in_a_group_is_never_taken_for_a_missing_piece(autojump_clock: object) -> None:
    async with gated(MemoryDisk(1)) as (store, lane):
        put(store, "a")
        await settle()
        lane.shut = True
        heard = delete(store, "a", "missing")
        await settle()
        lane.held = [(lambda: 1 // 0, done) for _, done in lane.held]
        lane.open()
        await settle()
        ((failed, missing),) = heard
        assert isinstance(failed, FlareError)
        assert missing is False
