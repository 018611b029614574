"""The meaning of a segment's bytes, however they were cut or changed."""

from __future__ import annotations

import pytest

from flared.data.record import BLOCK, Head, parse_head
from flared.data.volume.segment import Scan
from tests.support.engine import get, names_of, payload_of, put, running, settings_for
from tests.support.memory_disk import MemoryDisk, _Content

SETTINGS = settings_for("/srv/v1", segment_size=64 << 20)
INDEX = "/srv/v1/index.db"


async def filled(sizes: list[int]) -> tuple[MemoryDisk, list[str]]:
    """A disk with these pieces, put one after the other; and the paths of its segments."""
    disk = MemoryDisk(3)
    async with running(disk, SETTINGS) as store:
        for number, size in enumerate(sizes):
            await put(store, f"{number:03}", payload_of(f"{number}", size))
    return disk, [path for path in disk.paths() if "/segments/" in path]


def cut(disk: MemoryDisk, path: str, size: int) -> MemoryDisk:
    """The same disk with one segment shorter, and no index."""
    other = MemoryDisk(4)
    for name in disk.paths():
        data = disk._files[name].data[: size if name == path else None]
        other._files[name] = _Content(bytearray(data), bytes(data), [], set(range(-(-len(data) // BLOCK))))
    return other


@pytest.mark.parametrize("sizes", [[0, 1, 100, 4096, 50, 3000] * 3, [131_072, 131_073, 200_000, 300_000]])
async def test_any_prefix_replays_to_a_prefix(sizes: list[int], autojump_clock: object) -> None:
    disk, [path] = await filled(sizes)
    whole = disk.size(path)
    last = len(sizes)
    for size in [*range(whole, BLOCK, -997 if whole < 100_000 else -31_013), BLOCK, BLOCK - 1, 0]:
        async with running(cut(disk, path, size), SETTINGS) as store:
            names = await names_of(store)
            assert names == [f"{number:03}" for number in range(len(names))]
            assert len(names) <= last
            last = len(names)
            for number, name in enumerate(names):
                assert await get(store, name) == payload_of(f"{number}", sizes[number])
            assert await put(store, "after", b"after")
    assert last == 0


async def test_a_damaged_header_hides_only_its_own_record(autojump_clock: object) -> None:
    for sizes in ([10, 5000, 20, 30], [131_072, 140_000, 131_072, 150_000]):
        disk, [path] = await filled(sizes)
        file = disk.open(path)
        head = _head_of(disk, path)
        offsets = [record.offset for record in Scan(file, head, BLOCK, file.size())]
        disk.flip(path, offsets[1] + 30)
        disk.lose(INDEX)
        async with running(disk, SETTINGS) as store:
            assert await names_of(store) == ["000", "002", "003"]
            assert await get(store, "003") == payload_of("3", sizes[3])


async def test_user_bytes_cannot_pose_as_a_record(autojump_clock: object) -> None:
    """A stored copy of a segment is only payload, even where the header in front of it is damaged."""
    disk, [path] = await filled([100, 200])
    forged = bytes(disk._files[path].data)
    async with running(disk, SETTINGS) as store:
        await put(store, "forged", forged)
    [other] = [name for name in disk.paths() if "/segments/" in name and name != path]
    disk.flip(other, BLOCK + 20)
    disk.lose(INDEX)
    async with running(disk, SETTINGS) as store:
        assert await names_of(store) == ["000", "001"]
        assert store.status().volumes[0].pieces == 2


def _head_of(disk: MemoryDisk, path: str) -> Head:
    return parse_head(bytes(disk._files[path].data[:BLOCK]))
