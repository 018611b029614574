"""Download a body: several chunks at once, each verified before any of its bytes is written.

All chunks belong to one version, pinned by its ETag. Memory is bounded by the buffers, one for each parallel chunk.
"""

from __future__ import annotations

import hashlib
import mmap
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import trio

from flarectl import calls
from flarectl.answers import Chunk, ObjectInfo
from flarectl.bodies import Bodies
from flarectl.errors import Damage, Exists, Refusal, Temporary
from flarectl.target import Target
from flarectl.tasks import in_thread, open_tasks
from flared.http.messages import Body

SMALL_BYTES = 8 * 1024 * 1024
"""An object of a listing up to this size is asked for as a whole: most are one chunk, whose digest comes with it."""
CHUNK_BYTES_MAX = 64 * 1024 * 1024
"""No bucket has larger chunks; an answer that claims so is rejected."""

Moved = Callable[[int], None]


class Sink(Protocol):
    """The destination of verified bytes."""

    async def open(self, info: ObjectInfo) -> None:
        """Prepare for the version that will be written; called first."""

    async def write(self, data: memoryview, offset: int) -> None:
        """Write verified bytes of the body at ``offset``. Several calls may run at once."""


class Buffer:
    """Memory for one chunk, aligned to pages so that a disk can be written from it directly."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)
        self.view = memoryview(self._memory)

    def grow(self, size: int) -> None:
        if size > len(self.view):
            self._memory = mmap.mmap(-1, -(-size // mmap.PAGESIZE) * mmap.PAGESIZE)
            self.view = memoryview(self._memory)


class Buffers:
    """The buffers of a command: one for each chunk that may be in flight at once, across all files."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._turns = trio.Semaphore(number)
        self._free = [Buffer() for _ in range(number)]

    async def take(self, size: int) -> Buffer:
        """Wait for a buffer with room for ``size`` bytes. The caller returns it by ``give``."""
        await self._turns.acquire()
        buffer = self._free.pop()
        buffer.grow(size)
        return buffer

    def give(self, buffer: Buffer) -> None:
        self._free.append(buffer)
        self._turns.release()

    @asynccontextmanager
    async def lend(self, size: int) -> AsyncIterator[Buffer]:
        buffer = await self.take(size)
        try:
            yield buffer
        finally:
            self.give(buffer)


@dataclass(frozen=True, slots=True)
class FetchedChunk:
    """One chunk of the version that is being fetched."""

    number: int
    offset: int
    size: int
    digest: bytes


class _SeveralChunks(Exception):  # a signal inside this file, never an error
    """The answer brings no digest of the whole body."""


class Download:
    """The transfer of one version of an object into a sink."""

    def __init__(
        self, bodies: Bodies, buffers: Buffers, target: Target, info: ObjectInfo, sink: Sink, moved: Moved
    ) -> None:
        self._bodies = bodies
        self._buffers = buffers
        self._target = target
        self._info = info
        self.info = info
        """The object's facts as a reply with a body reports them: a listing lacks some."""
        self._sink = sink
        self._moved = moved

    async def fetch_small(self) -> bool:
        """Fetch an object of at most one chunk in one request. False, and nothing is written, if it has several."""
        size = self._info.size
        async with self._buffers.lend(size) as buffer:
            try:
                await self._receive_again(FetchedChunk(0, 0, size, b""), buffer)
            except _SeveralChunks:
                return False
            await self._sink.write(buffer.view[:size], 0)
            return True

    async def fetch_at_once(self) -> None:
        """Fetch all chunks, and write each at its offset when it arrives."""
        async with open_tasks() as tasks, aclosing(self._parts()) as parts:
            async for part in parts:
                buffer = await self._buffers.take(part.size)
                tasks.start_soon(self._fetch_and_write, part, buffer)

    async def fetch_in_order(self) -> None:
        """Fetch several chunks at once, and write them in order."""
        coming: deque[tuple[FetchedChunk, Buffer, trio.Event]] = deque()
        try:
            async with open_tasks() as tasks, aclosing(self._parts()) as parts:
                async for part in parts:
                    if len(coming) == self._buffers.number:
                        await self._write_next(coming)
                    buffer = await self._buffers.take(part.size)
                    arrived = trio.Event()
                    coming.append((part, buffer, arrived))
                    tasks.start_soon(self._fetch, part, buffer, arrived)
                while coming:
                    await self._write_next(coming)
        finally:
            for _, buffer, _ in coming:
                self._buffers.give(buffer)

    async def _write_next(self, coming: deque[tuple[FetchedChunk, Buffer, trio.Event]]) -> None:
        part, buffer, arrived = coming[0]
        await arrived.wait()
        await self._sink.write(buffer.view[: part.size], part.offset)
        coming.popleft()
        self._buffers.give(buffer)

    async def _fetch(self, part: FetchedChunk, buffer: Buffer, arrived: trio.Event) -> None:
        await self._receive_again(part, buffer)
        arrived.set()

    async def _fetch_and_write(self, part: FetchedChunk, buffer: Buffer) -> None:
        try:
            await self._receive_again(part, buffer)
            await self._sink.write(buffer.view[: part.size], part.offset)
        finally:
            self._buffers.give(buffer)

    async def _parts(self) -> AsyncGenerator[FetchedChunk, None]:
        """Yield the chunks of the manifest, page by page. Raise Refusal if they do not add up to the object."""
        number, offset = 0, 0
        while True:
            page = await self._bodies.read(calls.chunks(self._target, after=number, etag=self._info.etag))
            if page.first != number or (page.next is not None and page.next <= number):
                raise Refusal(
                    f"{self._target}: its manifest makes no sense: asked for chunk {number}, got {page.first}"
                )
            for chunk in page.chunks:
                yield self._part(number, offset, chunk)
                number, offset = number + 1, offset + chunk.size
            if page.next is None:
                break
        if offset != self._info.size:
            raise Refusal(f"{self._target}: its manifest makes no sense: its chunks have {offset} bytes in all")

    def _part(self, number: int, offset: int, chunk: Chunk) -> FetchedChunk:
        try:
            digest = bytes.fromhex(chunk.digest)
        except ValueError:
            digest = b""
        if len(digest) != 32 or not 0 < chunk.size <= min(CHUNK_BYTES_MAX, self._info.size - offset):
            raise Refusal(f"{self._target}: its manifest makes no sense at chunk {number}")
        return FetchedChunk(number, offset, chunk.size, digest)

    async def _receive_again(self, part: FetchedChunk, buffer: Buffer) -> None:
        """Receive and verify a chunk; repeat after a temporary failure or damage on the way."""
        attempts = self._bodies.attempts()
        while True:
            received = _Count(self._moved)
            try:
                return await self._receive(part, buffer, received)
            except (Temporary, Damage) as failure:
                received.take_back()
                await self._bodies.rest(failure, attempts)

    async def _receive(self, part: FetchedChunk, buffer: Buffer, received: _Count) -> None:
        whole = part.size == self._info.size
        span = None if whole else (part.offset, part.offset + part.size)
        async with self._bodies.get(self._target, etag=self._info.etag, span=span) as (info, body):
            if info.etag != self._info.etag:
                raise Exists(f"{self._target}: it was replaced while it was being read")
            self.info = info
            expected = part.digest or (info.sha256 if part.size else hashlib.sha256().digest())
            if not expected:
                raise _SeveralChunks
            await _fill(body, buffer.view[: part.size], received)
        digest = await in_thread(_sha256, buffer.view[: part.size])
        if digest != expected:
            raise Damage(f"{self._target}: chunk {part.number} arrived with other bytes than were stored")


async def download(
    bodies: Bodies,
    buffers: Buffers,
    target: Target,
    sink: Sink,
    moved: Moved,
    *,
    info: ObjectInfo | None = None,
    in_order: bool = False,
) -> ObjectInfo:
    """Write one version of the object into the sink, verified. Pass ``info`` if it is known already.

    Raise Exists if another client replaces the object in the meantime: its bytes would then be of two versions.
    """
    info = info or await bodies.head(target)
    await sink.open(info)
    running = Download(bodies, buffers, target, info, sink, moved)
    one_chunk = not info.size or (info.size <= CHUNK_BYTES_MAX and bool(info.sha256))
    if (one_chunk or (info.sha256 is None and info.size <= SMALL_BYTES)) and await running.fetch_small():
        return running.info
    if in_order:
        await running.fetch_in_order()
    else:
        await running.fetch_at_once()
    return running.info


class _Count:
    """The bytes that one attempt has received, to be subtracted again if it fails."""

    def __init__(self, moved: Moved) -> None:
        self._moved = moved
        self._bytes = 0

    def add(self, more: int) -> None:
        self._bytes += more
        self._moved(more)

    def take_back(self) -> None:
        self._moved(-self._bytes)


async def _fill(body: Body, view: memoryview, received: _Count) -> None:
    at = 0
    while at < len(view):
        more = await body.receive_into(view[at:])
        if not more:
            raise Temporary("the body ended early")
        at += more
        received.add(more)
    if body.left:
        raise Temporary("the body is longer than the object")


def _sha256(data: memoryview) -> bytes:
    return hashlib.sha256(data).digest()
