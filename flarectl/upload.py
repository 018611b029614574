"""Upload a body: read it ahead, digest it while it is sent, and compare it with what the server stored."""

from __future__ import annotations

import hashlib
import math
import mimetypes
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass

import trio

from flarectl import calls
from flarectl.answers import PutResult, etag_of
from flarectl.bodies import Bodies, mtime_fields
from flarectl.digests import DEFAULT_CHUNK_SIZE, SURELY_ONE_CHUNK, ChunkDigests
from flarectl.errors import Damage, Exists, Failure, NotFound, Refusal, Temporary, from_os
from flarectl.target import Target
from flarectl.tasks import in_abandonable_thread, in_thread, open_tasks

SMALL_BYTES = 1024 * 1024
"""A body up to this size is read whole and sent at once, with its SHA-256 in a header field."""
UNIT = 1024 * 1024
UNITS = 3
"""One is sent, one is read and digested, one waits between them."""

Moved = Callable[[int], None]


class ChunkSizes:
    """The known chunk size of each bucket; a wrong guess costs a second reading of the file."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self._known: dict[str, int] = {}
        self._asked = trio.Lock()

    async def of(self, bucket: str) -> int:
        async with self._asked:
            if not self._known:
                self._known = {found.name: found.chunk_size for found in await self._bodies.read(calls.buckets())}
        return self._known.get(bucket, 0) or DEFAULT_CHUNK_SIZE

    def is_sure(self, bucket: str) -> bool:
        """Return whether the size is known, and not guessed."""
        return bucket in self._known

    def learn(self, bucket: str, size: int) -> None:
        self._known[bucket] = size


@dataclass(frozen=True, slots=True)
class PutOptions:
    if_not_exists: bool = False

    def fields(self) -> dict[str, str]:
        return {"if-none-match": "*"} if self.if_not_exists else {}


async def put_file(
    bodies: Bodies, sizes: ChunkSizes, path: str, target: Target, options: PutOptions, moved: Moved
) -> PutResult:
    """Store a file with its time. When this returns, the server holds the bytes that were read.

    Temporary failures are repeated. Raise Exists if the target exists and may not be replaced.
    A cancellation leaves nothing behind: an unfinished upload is never visible.
    """
    expected = ""
    attempts = bodies.attempts()
    while True:
        upload = await in_thread(FileUpload, path)
        try:
            upload.chunk_size = await _chunk_size(sizes, target, upload.size)
            result = await _send_file(bodies, sizes, upload, target, options, moved)
            upload.check_unchanged()
            await _compare(bodies, sizes, target, result, upload)
            return result
        except Temporary as failure:
            moved(-upload.sent)
            expected = upload.etag_if_whole() or expected
            await bodies.rest(failure, attempts)
        except Exists:
            # The existing object may come from our earlier attempt, whose answer was lost.
            if attempts.number == 1 or not expected or (info := await bodies.head(target)).etag != expected:
                raise
            return PutResult(info.etag, info.size, info.version)
        finally:
            upload.close()


async def put_stream(
    bodies: Bodies, sizes: ChunkSizes, descriptor: int, target: Target, options: PutOptions, moved: Moved
) -> PutResult:
    """Store the content of a pipe. It can be read only once, so a failure is final."""
    chunk_size = await sizes.of(target.bucket)
    source = ReadAhead(
        lambda view: os.readv(descriptor, [view]),
        None,
        ChunkDigests(chunk_size, whole=_needs_whole(bodies, sizes, target)),
        moved,
    )
    source.stray = True
    async with open_tasks() as tasks:
        tasks.start_soon(source.run)
        result = await bodies.put(target, options.fields(), source)
        tasks.cancel_scope.cancel()
    digests = source.digests.finish()
    if result.etag != etag_of(digests):
        await _explain_difference(bodies, sizes, target, result, digests, chunk_size, None)
    return result


class FileUpload:
    """An open file that is being put. Its size and time are those from before the first read."""

    def __init__(self, path: str) -> None:
        """Open the file. Raise Refusal unless it is a readable regular file."""
        self.path = path
        self.sent = 0
        self.chunk_size = DEFAULT_CHUNK_SIZE
        self.digests: list[bytes] | None = None
        try:
            # Opening a named pipe must not block.
            self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise from_os(error, path) from None
        self._status = os.fstat(self.descriptor)
        if not stat.S_ISREG(self._status.st_mode):
            self.close()
            raise Refusal(f"{path}: it is not a regular file")
        self.size = self._status.st_size

    def close(self) -> None:
        os.close(self.descriptor)

    def fields(self) -> dict[str, str]:
        kind, encoding = mimetypes.guess_type(self.path)
        fields = mtime_fields(self._status.st_mtime_ns)
        if kind and not encoding:
            fields["content-type"] = kind
        return fields

    def read_all(self) -> bytes:
        try:
            return os.pread(self.descriptor, self.size + 1, 0)
        except OSError as error:
            raise from_os(error, self.path) from None

    def read(self, view: memoryview, offset: int) -> int:
        """Fill the view from ``offset`` on. Raise Refusal if the file ends before its size, or cannot be read."""
        view = view[: self.size - offset]
        done = 0
        try:
            while done < len(view):
                more = os.preadv(self.descriptor, [view[done:]], offset + done)
                if not more:
                    raise Refusal(f"{self.path}: it became shorter while it was read; nothing was stored")
                done += more
        except OSError as error:
            raise from_os(error, self.path) from None
        return done

    def check_unchanged(self) -> None:
        """Raise Refusal if the file was written to while it was read."""
        now = os.fstat(self.descriptor)
        if (now.st_size, now.st_mtime_ns) != (self.size, self._status.st_mtime_ns):
            raise Refusal(f"{self.path}: it changed while it was read; what was read is stored, so put it again")

    def etag_if_whole(self) -> str:
        """Return the ETag that the object must have, if the whole file was read before the put failed."""
        return "" if self.digests is None else etag_of(self.digests)


class ReadAhead:
    """A DigestedProducer: a thread reads and digests the next units while one is sent. ``run`` must be running."""

    def __init__(
        self, read: Callable[[memoryview], int], length: int | None, digests: ChunkDigests, moved: Moved
    ) -> None:
        self.length = length
        self.digests = digests
        self.stray = False
        """True if a read may block for ever."""
        self.done = False
        """True once the whole body was read and digested."""
        self._read = read
        self._moved = moved
        self._full, self._units = trio.open_memory_channel[tuple[memoryview, int] | None](UNITS)
        self._free, self._returned = trio.open_memory_channel[memoryview](UNITS)
        self._sent: tuple[memoryview, int] | None = None
        for _ in range(UNITS):
            self._free.send_nowait(memoryview(bytearray(UNIT)))

    async def run(self) -> None:
        left = math.inf if self.length is None else self.length
        step = in_abandonable_thread if self.stray else in_thread
        while left > 0:
            buffer = await self._returned.receive()
            size = await step(self._fill, buffer)
            if not size:
                break
            left -= size
            await self._full.send((buffer, size))
        self.done = True
        await self._full.send(None)

    async def next(self) -> memoryview | None:
        if self._sent is not None:
            buffer, size = self._sent
            self._moved(size)
            self._free.send_nowait(buffer)
        self._sent = await self._units.receive()
        if self._sent is None:
            return None
        buffer, size = self._sent
        return buffer[:size]

    @property
    def by_chunks(self) -> bool:
        return self.digests.by_chunks

    def sha256(self) -> str:
        return self.digests.sha256()

    def _fill(self, buffer: memoryview) -> int:
        try:
            size = self._read(buffer)
        except OSError as error:
            raise from_os(error, "standard input") from None
        self.digests.update(buffer[:size])
        return size


async def _chunk_size(sizes: ChunkSizes, target: Target, size: int) -> int:
    return DEFAULT_CHUNK_SIZE if size <= SURELY_ONE_CHUNK else await sizes.of(target.bucket)


async def _send_file(
    bodies: Bodies, sizes: ChunkSizes, upload: FileUpload, target: Target, options: PutOptions, moved: Moved
) -> PutResult:
    def sent(number: int) -> None:
        upload.sent += number
        moved(number)

    fields = upload.fields() | options.fields()
    if upload.size <= SMALL_BYTES:
        return await _send_small(bodies, upload, target, fields, sent)
    if options.if_not_exists:
        await _check_absent(bodies, target)
    return await _send_large(bodies, upload, target, fields, _needs_whole(bodies, sizes, target), sent)


async def _send_small(
    bodies: Bodies, upload: FileUpload, target: Target, fields: dict[str, str], moved: Moved
) -> PutResult:
    data = await in_thread(upload.read_all)
    if len(data) != upload.size:
        raise Refusal(f"{upload.path}: it changed while it was read; nothing was stored")
    digests = ChunkDigests(upload.chunk_size)
    digests.update(memoryview(data))
    upload.digests = digests.finish()
    result = await bodies.put(target, fields, [data] if data else [], hashlib.sha256(data).hexdigest())
    moved(len(data))
    return result


def _needs_whole(bodies: Bodies, sizes: ChunkSizes, target: Target) -> bool:
    """Return whether the digest of the whole is signed, because the cluster may cut the body into other chunks."""
    return bodies.signs and not sizes.is_sure(target.bucket)


async def _send_large(
    bodies: Bodies, upload: FileUpload, target: Target, fields: dict[str, str], whole: bool, moved: Moved
) -> PutResult:
    offset = 0

    def read(view: memoryview) -> int:
        nonlocal offset
        size = upload.read(view, offset)
        offset += size
        return size

    source = ReadAhead(read, upload.size, ChunkDigests(upload.chunk_size, whole=whole), moved)
    try:
        async with open_tasks() as tasks:
            tasks.start_soon(source.run)
            result = await bodies.put(target, fields, source)
            tasks.cancel_scope.cancel()
    finally:
        if source.done:
            upload.digests = source.digests.finish()
    return result


async def _check_absent(bodies: Bodies, target: Target) -> None:
    """Raise Exists early, before a large body is sent in vain; the server decides when it commits."""
    try:
        await bodies.head(target)
    except NotFound:
        return
    raise Exists(f"{target}: it exists already")


async def _compare(bodies: Bodies, sizes: ChunkSizes, target: Target, result: PutResult, upload: FileUpload) -> None:
    """Raise Damage unless the server stored the bytes that were read."""
    digests = upload.digests or []
    if result.etag != etag_of(digests) or result.size != upload.size:
        await _explain_difference(bodies, sizes, target, result, digests, upload.chunk_size, upload)


async def _explain_difference(
    bodies: Bodies,
    sizes: ChunkSizes,
    target: Target,
    result: PutResult,
    digests: list[bytes],
    chunk_size: int,
    upload: FileUpload | None,
) -> None:
    """Find out why the ETag differs: another chunk size, or damage. Raise Damage with the number of the chunk."""
    stored = await _stored_chunks(bodies, target, result)
    if stored is None:
        raise Refusal(f"{target}: another client replaced it before what was stored could be compared; look at it")
    if stored and (stored[0][0] != chunk_size or len(stored) > len(digests)):
        sizes.learn(target.bucket, stored[0][0])
        if upload is None:
            raise Failure(f"{target}: stored in chunks of an unexpected size, so it could not be compared")
        digests = await in_thread(_digest_again, upload, stored[0][0])
    if sum(size for size, _ in stored) == result.size and [digest for _, digest in stored] == digests:
        return
    pairs = zip(stored, digests, strict=False)
    bad = next((n for n, ((_, theirs), ours) in enumerate(pairs) if theirs != ours), min(len(stored), len(digests)))
    raise Damage(f"{target}: chunk {bad} was stored with other bytes than were read; put it again")


async def _stored_chunks(bodies: Bodies, target: Target, result: PutResult) -> list[tuple[int, bytes]] | None:
    """Return size and digest of each stored chunk; None if another client has replaced the object since."""
    found: list[tuple[int, bytes]] = []
    after: int | None = 0
    while after is not None:
        try:
            page = await bodies.read(calls.chunks(target, after=after, etag=result.etag))
        except (Exists, NotFound):
            return None
        if page.version != result.version:
            return None
        found += [(chunk.size, bytes.fromhex(chunk.digest)) for chunk in page.chunks]
        after = page.next
    return found


def _digest_again(upload: FileUpload, chunk_size: int) -> list[bytes]:
    digests = ChunkDigests(chunk_size)
    buffer = memoryview(bytearray(UNIT))
    offset = 0
    while offset < upload.size:
        size = upload.read(buffer, offset)
        digests.update(buffer[:size])
        offset += size
    return digests.finish()
