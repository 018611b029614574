"""Reading source: an open object as the body of a put, for what reads and writes at once.

The reader holds memory while the put waits for its own, so it has a purse of its own, and one at a time has it: from
one purse, or by two, they could wait for each other for ever.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import trio

from flared.chunks.budget import MemoryBudget
from flared.objects.conditions import ALWAYS, ReadConditions
from flared.objects.get import Reading, open_object

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from flared.names import ObjectName
    from flared.objects.ranges import RangeRequest
    from flared.objects.store import Store

READ_MEMORY = 16 * 1024 * 1024
"""For the reading half; a chunk that needs more has it alone."""


@asynccontextmanager
async def open_source(
    store: Store,
    name: ObjectName,
    *,
    when: ReadConditions = ALWAYS,
    range: RangeRequest | None = None,  # noqa: A002  # the field's word
    version: int | None = None,
) -> AsyncIterator[ReadingSource]:
    """Open the newest version of ``name``, or that of a number, as a body. Raises what ``get.open_object`` raises."""
    chunks = replace(store.chunks, units=MemoryBudget(READ_MEMORY), prefetches=trio.Semaphore(0))
    async with (
        store.copying,
        open_object(replace(store, chunks=chunks), name, when=when, range=range, version=version) as reading,
    ):
        yield ReadingSource(reading)


class ReadingSource:
    """A BodySource."""

    def __init__(self, reading: Reading) -> None:
        self.length: int | None = reading.length
        self.reading = reading
        self._rest = memoryview(b"")

    async def receive_into(self, buffer: memoryview) -> int:
        if not len(self._rest):
            with trio.CancelScope(shield=True):  # half a read would be lost; the nodes' patience bounds the wait
                view = await self.reading.next()
            if view is None:
                return 0
            self._rest = memoryview(view)
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size

    async def read_all(self, limit: int) -> bytes:
        data = bytearray()
        while (view := await self.reading.next()) is not None:
            data += view
        return bytes(data)
