"""The marks of the metadata, kept in the volumes of a node."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio

from flared.data.mark import SeenMark, mark_fields, parse_mark
from flared.data.volume.mark_file import FILE, load_mark, save_mark
from flared.errors import BadRequest, VolumeFailed
from tests.support.engine import running, settings_for
from tests.support.memory_disk import MemoryDisk
from tests.support.threads import InlineThreads, T, Ts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from flared.data.volume.volumes import Volumes

SETTINGS = settings_for("/srv/v1", "/srv/v2")
MARK = SeenMark("0123456789abcdef" * 2, 7, 0, 1_700_000_000_000)
Clock = trio.testing.MockClock


class SlowThreads(InlineThreads):
    """Threads of a disk that takes so long over everything."""

    seconds = 0.0

    async def run(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        await trio.sleep(self.seconds)
        return await super().run(function, *arguments)


@asynccontextmanager
async def started(disk: MemoryDisk) -> AsyncIterator[Volumes]:
    async with running(disk, SETTINGS) as volumes:
        volumes.set_cluster("c1")
        yield volumes


async def test_a_mark_is_said_again_once_it_is_durable_in_a_volume(autojump_clock: Clock) -> None:
    disk = MemoryDisk()
    async with started(disk) as volumes:
        assert volumes.marks.seen() == []
        volumes.marks.keep(MARK)
        assert volumes.marks.seen() == [], "not before it is synced"
        await trio.sleep(1)
        assert volumes.marks.seen() == [MARK]
    disk.restart()
    async with started(disk) as volumes:
        assert volumes.marks.seen() == [MARK], "each volume has it, it is said once"


async def test_nothing_is_written_while_nothing_changes(autojump_clock: Clock) -> None:
    disk = MemoryDisk()
    async with started(disk) as volumes:
        volumes.marks.keep(MARK)
        await trio.sleep(1)
        written: list[str] = []
        replace_file = disk.replace
        disk.replace = lambda path, content: (written.append(path), replace_file(path, content))[1]  # type: ignore[method-assign, func-returns-value]
        volumes.marks.keep(MARK)
        volumes.marks.keep(replace(MARK, number=6, time_ms=1))
        await trio.sleep(1)
        assert written == [], "what is the same, or came too late"
        for number in range(8, 20):
            volumes.marks.keep(replace(MARK, number=number))
        await trio.sleep(1)
        assert sorted(written) == [f"/srv/v1/{FILE}", f"/srv/v2/{FILE}"], "the newest of what waits"
        assert volumes.marks.seen() == [replace(MARK, number=19)]


async def test_what_comes_too_late_does_not_replace_what_is_being_written(autojump_clock: Clock) -> None:
    disk, threads = MemoryDisk(), SlowThreads()
    async with running(disk, SETTINGS, threads=threads) as volumes:
        volumes.set_cluster("c1")
        threads.seconds = 5.0
        volumes.marks.keep(MARK)
        await trio.sleep(1)
        volumes.marks.keep(replace(MARK, number=6))
        await trio.sleep(60)
        threads.seconds = 0.0
        assert volumes.marks.seen() == [MARK]


async def test_a_lost_or_old_disk_leaves_the_mark_of_the_other(autojump_clock: Clock) -> None:
    disk = MemoryDisk()
    async with started(disk) as volumes:
        volumes.marks.keep(MARK)
        await trio.sleep(1)
    older = replace(MARK, number=3)
    save_mark(disk, "/srv/v1", "c1", older)
    async with started(disk) as volumes:
        assert set(volumes.marks.seen()) == {MARK, older}, "the api node judges, not we"
    content = disk.read(f"/srv/v1/{FILE}")
    assert content is not None
    disk.replace(f"/srv/v1/{FILE}", content.replace(b'"number": 3', b'"number": 4'))
    with pytest.raises(BadRequest, match="does not have its checksum"):
        load_mark(disk, "/srv/v1", "c1")
    async with started(disk) as volumes:
        assert volumes.marks.seen() == [MARK], "a damaged file says nothing"


async def test_a_disk_that_takes_nothing_keeps_the_older_mark(
    autojump_clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    disk = MemoryDisk()
    async with started(disk) as volumes:
        volumes.marks.keep(MARK)
        await trio.sleep(1)
        replace_file = disk.replace

        def refuse(path: str, content: bytes) -> None:
            if path.startswith("/srv/v1"):
                raise VolumeFailed(f"{path}: Read-only file system")
            replace_file(path, content)

        disk.replace = refuse  # type: ignore[method-assign]
        for number in (8, 9):
            volumes.marks.keep(replace(MARK, number=number))
            await trio.sleep(1)
        assert set(volumes.marks.seen()) == {MARK, replace(MARK, number=9)}
        assert caplog.text.count("event=mark_not_kept path=/srv/v1") == 1


def test_the_mark_of_another_cluster_is_not_ours() -> None:
    disk = MemoryDisk()
    disk.make_directory("/srv/v1")
    save_mark(disk, "/srv/v1", "another", MARK)
    assert load_mark(disk, "/srv/v1", "c1") is None
    assert load_mark(disk, "/srv/v1", "another") == MARK


@pytest.mark.parametrize(
    "change",
    [
        {"opening": ""},
        {"opening": "x" * 65},
        {"opening": "../x"},
        {"opening": 5},
        {"number": -1},
        {"number": True},
        {"number": 1 << 63},
        {"accepted": "0"},
        {"time": 10**15},
        {"accepted": None},
    ],
)
def test_what_is_not_a_mark_is_refused(change: dict[str, object]) -> None:
    fields = mark_fields(MARK)
    assert parse_mark(json.loads(json.dumps(fields | {"more": 1}))) == MARK
    with pytest.raises(BadRequest):
        parse_mark(fields | change)
