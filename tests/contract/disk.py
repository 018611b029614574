"""The contract of every Disk. ``test_disk.py`` runs this suite on the real one and on the fake."""

from __future__ import annotations

import mmap
import random

import pytest

from flared.data.disk.disk import WOULD_BLOCK, Disk
from flared.errors import Busy, VolumeFailed

BLOCK = 4096


def aligned(content: bytes) -> memoryview:
    memory = mmap.mmap(-1, len(content))
    memory[:] = content
    return memoryview(memory)


def read(disk: Disk, path: str, offset: int, count: int) -> bytes:
    file = disk.open(path)
    buffer = memoryview(bytearray(count))
    got = file.read_into(offset, buffer)
    file.close()
    return bytes(buffer[:got])


class DiskContract:
    """Fixtures: ``disk``, and ``root``, an empty directory on it."""

    def test_what_was_written_is_read(self, disk: Disk, root: str) -> None:
        file = disk.create(f"{root}/a", direct=False)
        file.write(0, [b"head", bytearray(b"er"), memoryview(b"payload")])
        file.write(13, [b"!"])
        file.sync()
        assert file.size() == 14
        file.close()
        assert read(disk, f"{root}/a", 0, 100) == b"headerpayload!"
        assert read(disk, f"{root}/a", 6, 7) == b"payload"
        assert read(disk, f"{root}/a", 14, 7) == b""

    def test_more_buffers_than_one_system_call_takes(self, disk: Disk, root: str) -> None:
        file = disk.create(f"{root}/a", direct=False)
        file.write(0, [bytes([n % 256]) for n in range(3000)])
        file.close()
        assert read(disk, f"{root}/a", 0, 4000) == bytes(n % 256 for n in range(3000))

    def test_a_probe_tells_whether_the_disk_answers(self, disk: Disk, root: str) -> None:
        disk.replace(f"{root}/a", b"here")
        disk.probe(f"{root}/a")
        with pytest.raises(VolumeFailed):
            disk.probe(f"{root}/b")

    def test_nowait_gives_what_is_at_hand_or_says_so(self, disk: Disk, root: str) -> None:
        file = disk.create(f"{root}/a", direct=False)
        file.write(0, [b"x" * 10000])
        buffer = memoryview(bytearray(10000))
        got = file.read_nowait(0, buffer)
        assert got == WOULD_BLOCK or bytes(buffer[:got]) == b"x" * got
        file.close()

    @pytest.mark.parametrize(
        ("offset", "count"),
        [(0, 4 * BLOCK), (BLOCK, 2 * BLOCK), (BLOCK, 2 * BLOCK + 5), (7, 3), (BLOCK - 1, BLOCK + 2)],
    )
    @pytest.mark.parametrize("is_aligned", [True, False])
    def test_what_was_written_is_read_past_the_cache(
        self, disk: Disk, root: str, offset: int, count: int, is_aligned: bool
    ) -> None:
        content = random.Random(1).randbytes(4 * BLOCK + 100)
        file = disk.create(f"{root}/a", direct=False)
        file.write(0, [content])
        room = aligned(bytes(8 * BLOCK)) if is_aligned else memoryview(bytearray(8 * BLOCK + 1))[1:]
        assert file.read_uncached(offset, room[:count]) == count
        assert bytes(room[:count]) == content[offset : offset + count]
        disk.remove(f"{root}/a")
        assert file.read_uncached(offset, room) == len(content) - offset
        assert bytes(room[: len(content) - offset]) == content[offset:]
        assert file.read_uncached(5 * BLOCK, room) == 0
        file.close()

    def test_a_direct_file_takes_whole_blocks(self, disk: Disk, root: str) -> None:
        file = disk.create(f"{root}/a", direct=True)
        file.write(0, [aligned(b"a" * BLOCK)])
        file.write(BLOCK, [aligned(b"b" * 2 * BLOCK)])
        file.sync()
        file.close()
        assert read(disk, f"{root}/a", BLOCK - 1, 2) == b"ab"
        assert file.direct in (True, False)

    def test_room_set_aside_does_not_change_the_size_and_is_given_back(self, disk: Disk, root: str) -> None:
        file = disk.create(f"{root}/a", direct=False)
        file.write(0, [b"x" * BLOCK])
        file.allocate(BLOCK, 256 * BLOCK)
        file.sync()
        assert file.size() == BLOCK
        assert file.allocated() >= 257 * BLOCK
        file.truncate(BLOCK)
        assert file.allocated() <= 2 * BLOCK
        file.close()

    def test_a_hole_gives_its_room_back_and_reads_as_zeros(self, disk: Disk, root: str) -> None:
        file = disk.create(f"{root}/a", direct=False)
        file.write(0, [b"x" * 64 * BLOCK])
        file.sync()
        before = file.allocated()
        file.punch(BLOCK, 62 * BLOCK)
        assert before - file.allocated() == 62 * BLOCK
        assert file.size() == 64 * BLOCK
        file.close()
        assert read(disk, f"{root}/a", BLOCK - 1, 3) == b"x\0\0"
        assert read(disk, f"{root}/a", 63 * BLOCK - 1, 2) == b"\0x"

    def test_names_come_and_go(self, disk: Disk, root: str) -> None:
        disk.make_directory(f"{root}/b/c")
        disk.create(f"{root}/b/c/1", direct=False).close()
        disk.create(f"{root}/b/c/2", direct=False).close()
        disk.sync_directory(f"{root}/b/c")
        assert sorted(disk.list(f"{root}/b/c")) == ["1", "2"]
        disk.remove(f"{root}/b/c/1")
        disk.remove(f"{root}/b/c/1")
        assert disk.list(f"{root}/b/c") == ["2"]

    def test_a_file_is_created_once(self, disk: Disk, root: str) -> None:
        disk.create(f"{root}/a", direct=False).close()
        with pytest.raises(VolumeFailed):
            disk.create(f"{root}/a", direct=False)
        with pytest.raises(VolumeFailed):
            disk.open(f"{root}/none")

    def test_an_open_file_outlives_its_name(self, disk: Disk, root: str) -> None:
        disk.create(f"{root}/a", direct=False).write(0, [b"still here"])
        file = disk.open(f"{root}/a")
        disk.remove(f"{root}/a")
        buffer = memoryview(bytearray(10))
        assert file.read_into(0, buffer) == 10
        assert bytes(buffer) == b"still here"
        file.close()

    def test_small_files_are_replaced_whole(self, disk: Disk, root: str) -> None:
        assert disk.read(f"{root}/t") is None
        disk.replace(f"{root}/t", b"one")
        disk.replace(f"{root}/t", b"two, longer")
        assert disk.read(f"{root}/t") == b"two, longer"

    def test_a_lock_is_held_once_and_names_its_holder(self, disk: Disk, root: str) -> None:
        lock = disk.lock(f"{root}/lock")
        with pytest.raises(Busy, match=r"pid \d+"):
            disk.lock(f"{root}/lock")
        lock.close()
        disk.lock(f"{root}/lock").close()

    def test_space_is_counted(self, disk: Disk, root: str) -> None:
        space = disk.space(root)
        assert 0 < space.free <= space.capacity

    def test_a_database_is_shared_by_its_connections_and_stays(self, disk: Disk, root: str) -> None:
        one, other = disk.connect(f"{root}/db"), disk.connect(f"{root}/db")
        one.execute("CREATE TABLE t (x)")
        one.execute("INSERT INTO t VALUES (7)")
        assert other.execute("SELECT x FROM t").fetchall() == [(7,)]
        one.close()
        other.close()
        again = disk.connect(f"{root}/db")
        assert again.execute("SELECT x FROM t").fetchall() == [(7,)]
        again.close()
