"""Reads that are left half-way: nothing is written to memory that was given back, and none of it stays."""

from __future__ import annotations

import gc
import random
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from flared.chunks.budget import MemoryBudget
from flared.objects.get import open_object
from flared.objects.store import Defaults
from tests.support.cluster import CHUNK, Cluster, SmallNode, name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from flared.data.pieces import PieceStream, Span
    from flared.names import PieceName

Clock = trio.testing.MockClock
MIB = 1024 * 1024
USED = 0xEE


class WatchedBudget(MemoryBudget):
    """A buffer that is given back is in use by the next read at once."""

    def __init__(self, total: int) -> None:
        super().__init__(total)
        self.returned: list[memoryview] = []

    def _return(self, buffer: memoryview, amount: int) -> None:
        buffer[:] = bytes([USED]) * len(buffer)
        self.returned.append(buffer)
        super()._return(buffer, amount)


class HeldNode(SmallNode):
    """Sends no byte of a piece while it is held."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.free = trio.Event()
        self.free.set()

    @asynccontextmanager
    async def read(self, name: PieceName, span: Span) -> AsyncIterator[PieceStream]:
        async with super().read(name, span) as stream:
            yield _HeldStream(stream, self)


class _HeldStream:
    def __init__(self, stream: PieceStream, node: HeldNode) -> None:
        self.piece = stream.piece
        self._stream = stream
        self._node = node

    async def receive_into(self, buffer: memoryview) -> int:
        # As the network does: once it has become readable, the bytes are written, cancelled or not.
        await self._node.free.wait()
        with trio.CancelScope(shield=True):
            return await self._stream.receive_into(buffer)


def text(size: int) -> bytes:
    """Compressible by a third, so that a chunk of 256 KiB is a large piece."""
    words = random.Random(2)
    return b"".join(b"line %d of a text, %s\n" % (n, words.randbytes(20).hex().encode()) for n in range(size // 50))[
        :size
    ]


def compressing(chunk_size: int) -> Cluster:
    cluster = Cluster(1, scheme="replica:1")
    cluster.members = {"data1": HeldNode("data1")}
    cluster.store = replace(cluster.store, defaults=Defaults("replica:1", chunk_size, compress=True))
    return cluster


def watch(cluster: Cluster) -> WatchedBudget:
    units = WatchedBudget(64 * MIB)
    chunks = replace(cluster.store.chunks, units=units)
    cluster.store = replace(cluster.store, chunks=chunks)
    return units


@pytest.mark.parametrize("chunk_size", [CHUNK, 4 * CHUNK], ids=["whole", "frames"])
@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("views", [0, 1, 2, 3])
async def test_nothing_is_written_to_what_a_read_gave_back(
    autojump_clock: Clock, chunk_size: int, held: bool, views: int
) -> None:
    """Left while the next bytes arrive, or before they were asked for."""
    cluster = compressing(chunk_size)
    node = cluster.members["data1"]
    assert isinstance(node, HeldNode)
    units = watch(cluster)
    data = text(16 * CHUNK)
    async with cluster.running():
        await cluster.put("text", data)
        async with open_object(cluster.store, name("text")) as reading:
            for _ in range(views):
                view = await reading.next()
                assert view is not None
            if held:
                node.free = trio.Event()
                with trio.move_on_after(1):
                    while await reading.next() is not None:
                        pass
                node.free.set()
        await trio.sleep(1)
        assert units.statistics().leased == 0
        assert all(bytes(buffer[:100]) == bytes([USED]) * 100 for buffer in units.returned)
        assert all(set(buffer) == {USED} for buffer in units.returned)
        assert await cluster.get("text") == data


async def test_what_a_read_held_is_gone_though_its_error_is_not_collected(autojump_clock: Clock) -> None:
    """Without garbage collection, and with errors still referred to: pages of a buffer that is not kept are freed."""
    cluster = compressing(4 * CHUNK)
    lying_about: list[memoryview] = []
    gc.disable()
    try:
        async with cluster.running():
            await cluster.put("text", text(16 * CHUNK))
            for _ in range(3):
                async with open_object(cluster.store, name("text")) as reading:
                    view = await reading.next()
                    assert isinstance(view, memoryview)
                    lying_about.append(view)
            assert any(view[0] for view in lying_about)
            units = cluster.store.chunks.units
            units.trim()
            units.trim()
            assert units.statistics().kept == 0
            assert not any(any(view) for view in lying_about), "the kernel has these pages back"
    finally:
        gc.enable()
