"""Reading pieces of one volume: inline while the page cache has them, in a thread when the disk must be asked.

A large piece is read past the page cache the first time: most are read once, and memory filled for nothing costs more
than the disk does. Who is asked for again is worth it.

A place can become stale while it is read: compaction moves records, deletes punch them. So whatever does not prove
itself is looked up again, and counts as damage only if the index still names that location.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple, Self

import xxhash

from flared.data.disk.buffers import aligned_memory
from flared.data.pieces import BLOCK_SIZE, LARGE_SIZE, Piece, block_is_good
from flared.data.record import HEADER_MAX, parse_piece
from flared.errors import FlareError, NoSuchPiece, PieceCorrupt, VolumeFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from flared.background import Threads
    from flared.data.index.index import Location
    from flared.data.volume.segment import OpenSegment, Segments

_SCRATCH_BYTES = LARGE_SIZE + HEADER_MAX
_LOOKS_MAX = 4
"""Compaction can move a piece while it is read, but not again and again."""

_VERIFY_BYTES = 4 * BLOCK_SIZE
"""Read at a time of a piece that is verified whole."""

_RECENT_MAX = 4096
"""Large pieces remembered as read: some hundred bytes each."""

Found = tuple[Piece, bytes]


class Wanted(NamedTuple):
    """A piece and where it was last seen."""

    name: str
    location: Location


class Reader:
    """``find`` says where a piece lies now; ``damaged`` is told of a place that does not prove itself.

    ``direct``: large pieces may be read past the page cache.
    """

    def __init__(
        self,
        segments: Segments,
        threads: Threads,
        find: Callable[[str], Location | None],
        damaged: Callable[[str, Location, str], None],
        *,
        direct: bool,
    ) -> None:
        self._direct = direct
        self._recent: OrderedDict[Location, None] = OrderedDict()
        self._segments = segments
        self._threads = threads
        self._find = find
        self._damaged = damaged
        self._scratch = memoryview(bytearray(_SCRATCH_BYTES))

    def read_nowait(self, wanted: Sequence[Wanted]) -> list[Found] | None:
        """Whole pieces, verified, if the page cache has them all; None if one has to be waited for or looked into."""
        answers: list[Found] = []
        for name, location in wanted:
            answer = self._read_now(name, location)
            if answer is None:
                return None
            answers.append(answer)
        return answers

    async def read_many(self, wanted: Sequence[Wanted]) -> list[Found | FlareError]:
        """Whole pieces, verified."""
        answers: list[Found | FlareError | None] = [self._read_now(name, location) for name, location in wanted]
        cold = [number for number, answer in enumerate(answers) if answer is None]
        if cold:
            found = await self._read_cold([wanted[number] for number in cold])
            for number, answer in zip(cold, found, strict=True):
                answers[number] = answer
        return answers  # type: ignore[return-value]  # no None is left

    def _read_now(self, name: str, location: Location) -> Found | None:
        """None if it would have to be waited for, or does not prove itself."""
        length = location.length
        if length > _SCRATCH_BYTES:
            return None
        try:
            opened = self._segments.lease(location.segment)
            if opened is None:
                return None
            try:
                view = self._scratch[:length]
                if opened.file.read_nowait(location.offset, view) < length:
                    return None
                return _parse(view, opened, name, location)
            finally:
                self._segments.release(opened)
        except VolumeFailed:
            return None

    async def _read_cold(self, wanted: list[Wanted]) -> list[Found | FlareError]:
        answers: list[Found | FlareError] = []
        leases = {location.segment: self._segments.lease(location.segment) for _, location in wanted}
        try:
            read = await self._threads.run(_read_all, [(want, leases[want.location.segment]) for want in wanted])
        finally:
            for opened in leases.values():
                if opened:
                    self._segments.release(opened)
        for want, answer in zip(wanted, read, strict=True):
            answers.append(answer or await self._read_again(want))
        return answers

    async def _read_again(self, want: Wanted) -> Found | FlareError:
        """It did not prove itself: has it moved, is it gone, or is it damaged?"""
        for _ in range(_LOOKS_MAX):
            location = self._find(want.name)
            if location is None:
                return NoSuchPiece(f"{want.name} is not here")
            opened = self._segments.lease(location.segment)
            if opened is None:
                continue
            try:
                (answer,) = await self._threads.run(_read_all, [(Wanted(want.name, location), opened)])
            finally:
                self._segments.release(opened)
            if answer:
                return answer
            if self._find(want.name) == location:
                break
        return self.damage(want.name, location, "the record does not prove itself")

    def damage(self, name: str, location: Location | None, reason: str) -> PieceCorrupt:
        if location:
            self._damaged(name, location, reason)
        return PieceCorrupt(f"{name}: {reason}")

    async def open(self, name: str, *, uncached: bool = False) -> OpenPiece:
        """A piece to read from at leisure. Raises NoSuchPiece, PieceCorrupt.

        ``uncached``: from the disk, whatever the page cache holds, as a scrub must. Others get what is faster.
        """
        location: Location | None = None
        for _ in range(_LOOKS_MAX):
            location = self._find(name)
            if location is None:
                raise NoSuchPiece(f"{name} is not here")
            opened = self._segments.lease(location.segment)
            if opened is None:
                continue
            found = await self._open_at(name, location, opened, uncached=uncached)
            if found:
                return found
            self._segments.release(opened)
            if self._find(name) == location:
                break
        raise self.damage(name, location, "the header does not prove itself")

    async def verify(self, name: str) -> None:
        """Read the whole piece from its disk, whatever memory holds of it. Raises NoSuchPiece, PieceCorrupt."""
        with await self.open(name, uncached=True) as opened:
            size, offset = opened.piece.size, 0
            buffer = memoryview(aligned_memory(_VERIFY_BYTES))[:size]
            while offset < size:
                offset += await opened.read_into(offset, buffer, verify=True)

    async def _open_at(self, name: str, location: Location, opened: OpenSegment, *, uncached: bool) -> OpenPiece | None:
        try:
            view = self._scratch[: min(HEADER_MAX, location.length)]
            if uncached:
                view = memoryview(bytearray(len(view)))
                await self._threads.run(opened.file.read_uncached, location.offset, view)
            elif opened.file.read_nowait(location.offset, view) < len(view):
                view = memoryview(bytearray(len(view)))  # the scratch is only for what happens at once
                await self._threads.run(opened.file.read_into, location.offset, view)
        except VolumeFailed:
            return None
        except BaseException:
            self._segments.release(opened)
            raise
        found = parse_piece(view, opened.salt, location.segment, location.offset, name)
        if found is None:
            return None
        piece, start = found
        uncached = uncached or (self._direct and piece.size >= LARGE_SIZE and self._is_new(location))
        offset = location.offset + start
        return OpenPiece(self, self._segments, self._threads, opened, location, piece, offset, uncached=uncached)

    def _is_new(self, location: Location) -> bool:
        """Whether nobody read this place lately; from now on somebody did."""
        if location in self._recent:
            self._recent.move_to_end(location)
            return False
        self._recent[location] = None
        if len(self._recent) > _RECENT_MAX:
            self._recent.popitem(last=False)
        return True

    def still_there(self, name: str, location: Location) -> bool:
        return self._find(name) == location


class OpenPiece:
    """A piece being read. Close it, or use it as a context manager."""

    def __init__(
        self,
        reader: Reader,
        segments: Segments,
        threads: Threads,
        opened: OpenSegment,
        location: Location,
        piece: Piece,
        payload_offset: int,
        *,
        uncached: bool,
    ) -> None:
        self.piece = piece
        self._uncached = uncached
        self._reader = reader
        self._segments = segments
        self._threads = threads
        self._opened = opened
        self._location = location
        self._payload_offset = payload_offset
        self._closed = False

    async def read_into(self, offset: int, buffer: memoryview, *, verify: bool = False) -> int:
        """Fill ``buffer`` with stored bytes from ``offset`` of the piece on; less only at its end.

        Fastest where both lie on multiples of 4096.

        ``verify`` checks every block touched against its checksum first. Raises PieceCorrupt, or NoSuchPiece if
        the piece was deleted meanwhile.
        """
        count = min(len(buffer), self.piece.size - offset)
        if count <= 0:
            return 0
        if verify:
            return await self._read_verified(offset, buffer[:count])
        await self._fill(offset, buffer[:count])
        return count

    async def _fill(self, offset: int, buffer: memoryview) -> None:
        file, at = self._opened.file, self._payload_offset + offset
        try:
            if self._uncached:
                done = await self._threads.run(file.read_uncached, at, buffer)
            else:
                done = file.read_nowait(at, buffer)
                if done == len(buffer):
                    return
                done = max(done, 0)
                done += await self._threads.run(file.read_into, at + done, buffer[done:])
            if done == len(buffer):
                return
            reason = "the segment ends before the piece does"
        except VolumeFailed as error:
            reason = str(error)
        raise self._blame(reason)

    async def _read_verified(self, offset: int, buffer: memoryview) -> int:
        done = 0
        while done < len(buffer):
            number, skip = divmod(offset + done, BLOCK_SIZE)
            length = min(BLOCK_SIZE, self.piece.size - number * BLOCK_SIZE)
            take = min(length - skip, len(buffer) - done)
            straight = take == length
            block = buffer[done : done + take] if straight else memoryview(bytearray(length))
            await self._fill(number * BLOCK_SIZE, block)
            if not block_is_good(self.piece, number, block):
                raise self._blame(f"block {number} does not have its checksum")
            if not straight:
                buffer[done : done + take] = block[skip : skip + take]
            done += take
        return done

    def _blame(self, reason: str) -> FlareError:
        """Damage, if the piece is still meant to be there."""
        if self._reader.still_there(self.piece.name, self._location):
            return self._reader.damage(self.piece.name, self._location, reason)
        return NoSuchPiece(f"{self.piece.name} was moved or deleted while it was read")

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._segments.release(self._opened)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _parse(view: memoryview, opened: OpenSegment, name: str, location: Location) -> Found | None:
    found = parse_piece(view, opened.salt, location.segment, location.offset, name)
    if found is None:
        return None
    piece, start = found
    payload = bytes(view[start : start + piece.size])
    return (piece, payload) if xxhash.xxh3_128_digest(payload) == piece.checksum else None


def _read_all(wanted: Sequence[tuple[Wanted, OpenSegment | None]]) -> list[Found | None]:
    """In a thread: None for what cannot be read or does not prove itself."""
    answers: list[Found | None] = []
    for (name, location), opened in wanted:
        answer = None
        if opened:
            view = memoryview(bytearray(location.length))
            try:
                opened.file.read_into(location.offset, view)
                answer = _parse(view, opened, name, location)
            except VolumeFailed:
                answer = None
        answers.append(answer)
    return answers
