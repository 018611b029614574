from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from flared.data.disk.disk import Space
from flared.data.disk.real_disk import RealDisk
from flared.errors import VolumeFailed
from flared.http.turns import Turns
from tests.contract.piece_node import PieceNodeContract, Subject
from tests.support.data_node import RealNode
from tests.support.links import RealLink
from tests.support.memory_disk import MemoryDisk
from tests.support.memory_net import MemoryNetwork
from tests.support.piece_nodes import MemoryNode
from tests.support.scratch import scratch_directory

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

MEASURED_SECONDS = 5.0
"""A volume looks at its room every two."""
FAILED_SECONDS = 90.0
"""After this a disk that cannot be read has failed its volume."""


SET_ASIDE = 4 << 20
"""More than what segments have set aside and not written yet, which counts as room too."""


class SmallMemoryDisk(MemoryDisk):
    """A disk in memory on which others take all room when asked to."""

    full = False

    def space(self, path: str) -> Space:
        space = super().space(path)
        return Space(space.capacity, -SET_ASIDE if self.full else space.free)


class FaultyRealDisk(RealDisk):
    """A real disk that says it is full, or fails under one of its paths, when asked to."""

    full = False
    broken = ""

    def space(self, path: str) -> Space:
        space = super().space(path)
        return Space(space.capacity, -SET_ASIDE if self.full else space.capacity // 2, space.file_system)

    def probe(self, path: str) -> None:
        if self.broken and path.startswith(self.broken):
            raise VolumeFailed(f"{path}: Input/output error")
        super().probe(path)


class RealSubject:
    """Remote, links, HTTP, service and volumes. The first of two volumes gets every piece."""

    def __init__(self, disk: SmallMemoryDisk | FaultyRealDisk, root: str) -> None:
        self.disk = disk
        self.net = MemoryNetwork()
        self.root = root
        self.data = RealNode("data1", self.net, disk, [f"{root}/v1", f"{root}/v2"])
        self._turns = Turns()
        self.node = self.data.remote(self._turns)
        self.link = RealLink(self.net, self.data.address, "no heartbeats")
        self._scope = trio.CancelScope()

    def stop(self) -> None:
        self._scope.cancel()

    def cut(self) -> None:
        self.net.cut(self.data.address)

    def stall(self) -> None:
        self.net.freeze(self.data.address)

    def heal(self) -> None:
        self.net.heal(self.data.address)

    async def _run_node(self, *, task_status: trio.TaskStatus[None]) -> None:
        with self._scope:
            await self.node.run(task_status=task_status)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(self._turns.run)
            await nursery.start(self.data.run)
            await nursery.start(self._run_node)
            assert self.data.volumes is not None
            self.data.volumes._volumes[0].free += 1 << 30  # until it is measured, and for puts before that
            task_status.started()

    async def fill(self) -> None:
        self.disk.full = True
        await trio.sleep(MEASURED_SECONDS)

    async def make_room(self) -> None:
        self.disk.full = False
        await trio.sleep(MEASURED_SECONDS)

    async def fail_empty_volume(self, break_disk: str) -> None:
        await trio.sleep(FAILED_SECONDS)
        assert self.data.volumes is not None
        assert self.data.volumes.left_out == (break_disk,)


class InMemory(RealSubject):
    def __init__(self) -> None:
        super().__init__(SmallMemoryDisk(1, capacity=64 << 20), "/srv")

    def damage(self, name: str, payload: bytes) -> None:
        assert isinstance(self.disk, MemoryDisk)
        for path in self.disk.paths():
            at = bytes(self.disk._files[path].data).find(payload)
            if at >= 0:
                self.disk.flip(path, at)
                return
        raise AssertionError(f"{name} is nowhere")

    async def fail_volume(self) -> None:
        assert isinstance(self.disk, MemoryDisk)
        self.disk.broken_below.add("/srv/v2")
        await self.fail_empty_volume("/srv/v2")


class OnTheRealDisk(RealSubject):
    def __init__(self, root: Path) -> None:
        super().__init__(FaultyRealDisk(), str(root))

    def damage(self, name: str, payload: bytes) -> None:
        for path in Path(self.root).rglob("*"):
            if path.is_file() and (at := path.read_bytes().find(payload)) >= 0:
                with path.open("r+b") as file:
                    file.seek(at)
                    file.write(bytes([payload[0] ^ 1]))
                return
        raise AssertionError(f"{name} is nowhere")

    async def fail_volume(self) -> None:
        assert isinstance(self.disk, FaultyRealDisk)
        self.disk.broken = f"{self.root}/v2"
        await self.fail_empty_volume(self.disk.broken)


class Fake:
    """``MemoryNode``."""

    def __init__(self) -> None:
        self.node = MemoryNode("data1")
        self.link = self.node.link
        self._scope = trio.CancelScope()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with self._scope:
            await self.node.run(task_status=task_status)

    async def fill(self) -> None:
        self.node.full = True

    async def make_room(self) -> None:
        self.node.full = False

    def damage(self, name: str, payload: bytes) -> None:
        assert self.node.pieces[name][1] == payload
        self.node.flip(name)

    async def fail_volume(self) -> None:
        self.node.failed_volumes = ("/srv/v2",)

    def stop(self) -> None:
        self._scope.cancel()

    def cut(self) -> None:
        self.node.down = True

    def stall(self) -> None:
        self.node.silent = True

    def heal(self) -> None:
        self.node.down = self.node.silent = False


class TestOfTheFake(PieceNodeContract):
    @pytest.fixture
    async def subject(self) -> AsyncIterator[Subject]:
        fake = Fake()
        async with trio.open_nursery() as nursery:
            await nursery.start(fake.run)
            yield fake
            nursery.cancel_scope.cancel()


class _OfTheRealCode(PieceNodeContract):
    """Each class below has the fixture ``real``."""

    @pytest.fixture
    async def subject(self, real: RealSubject) -> AsyncIterator[Subject]:
        async with trio.open_nursery() as nursery:
            await nursery.start(real.run)
            yield real  # type: ignore[misc]
            nursery.cancel_scope.cancel()


class TestOfTheRealCodeInMemory(_OfTheRealCode):
    @pytest.fixture
    def real(self) -> RealSubject:
        return InMemory()


class TestOfTheRealCodeOnTheRealDisk(_OfTheRealCode):
    @pytest.fixture
    def real(self) -> Iterator[RealSubject]:
        with scratch_directory() as directory:
            yield OnTheRealDisk(directory)
