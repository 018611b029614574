"""Reading pieces of one volume: inline while the page cache has them, in a thread when the disk must be asked.

A large piece is read past the page cache the first time: most are read only once, and filling the cache in vain costs
more than the disk does. A piece that is read again gets into the cache.

A location can become stale while it is read: compaction moves records, deletes punch them. So a record that fails
verification is looked up again, and counts as damage only if the index still has that location.
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
_ATTEMPTS_MAX = 4
"""How often a read looks for a piece: compaction may move it while it is read, but not again and again."""

_VERIFY_BYTES = 4 * BLOCK_SIZE
"""How much is read at a time of a piece that is verified whole."""

_RECENT_MAX = 4096
"""Most large pieces remembered as read: some hundred bytes each."""

Found = tuple[Piece, bytes]


class Wanted(NamedTuple):
    """A piece and its last known location."""

    name: str
    location: Location


class PieceReader:
    """``find`` returns the current location of a piece; ``damaged`` is called for a location that fails verification.

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
        answers = self._read_cached(wanted, all_or_none=True)
        return answers if None not in answers else None  # type: ignore[return-value]

    async def read_many(self, wanted: Sequence[Wanted]) -> list[Found | FlareError]:
        """Return whole pieces, verified, or the error for each."""
        answers: list[Found | FlareError | None] = [*self._read_cached(wanted, all_or_none=False)]
        cold = [number for number, answer in enumerate(answers) if answer is None]
        if cold:
            found = await self._read_cold([wanted[number] for number in cold])
            for number, answer in zip(cold, found, strict=True):
                answers[number] = answer
        return answers  # type: ignore[return-value]  # no None is left

    def _read_cached(self, wanted: Sequence[Wanted], *, all_or_none: bool) -> list[Found | None]:
        """Return the pieces that need no waiting; None for one that does, or that fails verification. Stop at the first
        None if only all of them are of use."""
        answers: list[Found | None] = []
        scratch, leased = self._scratch, {}
        try:
            for name, location in wanted:
                segment, offset, _, length, _ = location
                answer = None
                try:
                    if segment not in leased:
                        leased[segment] = self._segments.lease(segment)
                    opened = leased[segment]
                    if opened is not None and length <= _SCRATCH_BYTES:
                        view = scratch[:length]
                        if opened.file.read_nowait(offset, view) == length:
                            answer = _parse(view, opened, name, location)
                except VolumeFailed:
                    pass  # a thread tries again, and says so
                answers.append(answer)
                if answer is None and all_or_none:
                    break
        finally:
            for opened in leased.values():
                if opened is not None:
                    self._segments.release(opened)
        return answers

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
        """Read a piece that failed verification again, at its location by now: it was moved, deleted, or is damaged."""
        for _ in range(_ATTEMPTS_MAX):
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
        return self.damage(want.name, location, "the record fails verification")

    def damage(self, name: str, location: Location | None, reason: str) -> PieceCorrupt:
        if location:
            self._damaged(name, location, reason)
        return PieceCorrupt(f"{name}: {reason}")

    async def open(self, name: str, *, uncached: bool = False) -> OpenPiece:
        """Open a piece for reading. Raise NoSuchPiece, PieceCorrupt.

        ``uncached``: read from the disk, not from the page cache, as a scrub must. Others use the faster of the two.
        """
        location: Location | None = None
        for _ in range(_ATTEMPTS_MAX):
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
        raise self.damage(name, location, "the header fails verification")

    async def verify(self, name: str) -> None:
        """Read the whole piece from its disk, past the page cache. Raise NoSuchPiece, PieceCorrupt."""
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
                view = memoryview(bytearray(len(view)))  # the scratch buffer is shared, so a thread needs its own
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
        """Return whether this location was not read lately; remember that it was read now."""
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
        reader: PieceReader,
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
        """Fill ``buffer`` with stored bytes from ``offset`` of the piece on; return less only at its end.

        Fastest if both are aligned to 4096.

        ``verify`` checks every touched block against its checksum first. Raise PieceCorrupt, or NoSuchPiece if
        the piece was deleted in the meantime.
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
        raise self._damage_error(reason)

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
                raise self._damage_error(f"block {number} does not match its checksum")
            if not straight:
                buffer[done : done + take] = block[skip : skip + take]
            done += take
        return done

    def _damage_error(self, reason: str) -> FlareError:
        """Return PieceCorrupt if the piece should still be there, else NoSuchPiece."""
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
    payload = view[start : start + piece.size].tobytes()
    return (piece, payload) if xxhash.xxh3_128_digest(payload) == piece.checksum else None


def _read_all(wanted: Sequence[tuple[Wanted, OpenSegment | None]]) -> list[Found | None]:
    """Read pieces in a thread; return None for those that cannot be read or fail verification."""
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
