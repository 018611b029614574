"""The segments of one volume: create, find, open and remove files, and read them record by record."""

from __future__ import annotations

import logging
import re
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import xxhash

from flared.data.disk.buffers import aligned_memory
from flared.data.pieces import PIECE_SIZE_MAX
from flared.data.record import (
    BLOCK,
    HEADER_MAX,
    HEADER_MIN,
    KIND_NAMES,
    LARGE,
    MAGIC,
    PIECE,
    SMALL,
    Head,
    Record,
    pack_head,
    parse_head,
    parse_record,
)
from flared.errors import SegmentCorrupt, VolumeFailed

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Sequence

    from flared.data.disk.disk import Disk, File

log = logging.getLogger(__name__)

GROUP_BYTES_MAX = {SMALL: 4 * 1024 * 1024, LARGE: 32 * 1024 * 1024}
"""Payload of one group, unless a single piece is larger."""
TORN_BYTES_MAX = {SMALL: 8 * 1024 * 1024, LARGE: PIECE_SIZE_MAX + 4 * 1024 * 1024}
"""The longest group: only so close to the end of a file may a record have a whole header and a torn payload."""

FILES_OPEN_MAX = 128
_WINDOW = 1024 * 1024
_NAME = re.compile(r"([0-9a-f]{16})\.(small|large)")
_KINDS = {name: kind for kind, name in KIND_NAMES.items()}


@dataclass(slots=True)
class Segment:
    """One segment file as the volume knows it."""

    head: Head
    path: str
    size: int
    allocated: int
    sealed: bool = True

    @property
    def id(self) -> int:
        return self.head.id


class Segments:
    """The directory of segments, and a bounded number of them open for reading."""

    def __init__(self, disk: Disk, path: str, volume: bytes, *, direct: bool, random_bits: random.Random) -> None:
        self._disk = disk
        self._path = path
        self._volume = volume
        self._direct = direct
        self._random = random_bits
        self._open: OrderedDict[int, OpenSegment] = OrderedDict()
        self._next = 1
        self.known: dict[int, Segment] = {}

    def discover(self) -> None:
        """Find the existing segments. A file whose head was never synced has nothing acknowledged, and is removed."""
        self._disk.make_directory(self._path)
        for name in sorted(self._disk.list(self._path)):
            match = _NAME.fullmatch(name)
            if match:
                self._discover(int(match[1], 16), _KINDS[match[2]], f"{self._path}/{name}")
        self._next = max(self._next, max(self.known, default=0) + 1)

    def _discover(self, segment: int, kind: int, path: str) -> None:
        file = self._disk.open(path)
        try:
            block = bytearray(BLOCK)
            count = file.read_into(0, memoryview(block))
            head = parse_head(memoryview(block)[:count])
            if (head.id, head.kind, head.volume) != (segment, kind, self._volume):
                raise SegmentCorrupt("the segment belongs elsewhere")
            self.known[segment] = Segment(head, path, file.size(), file.allocated())
        except SegmentCorrupt as error:
            if file.size() > BLOCK:
                log.error("event=segment_unreadable path=%s error=%r", path, str(error))
            else:
                self._disk.remove(path)
        except VolumeFailed as error:  # one bad sector must not cost the whole volume
            log.error("event=segment_unreadable path=%s error=%r", path, str(error))
        finally:
            file.close()

    def reserve(self, at_least: int) -> None:
        """Use no id below ``at_least``: an id that was used once never names another segment."""
        self._next = max(self._next, at_least)

    @property
    def next_id(self) -> int:
        return self._next

    def new_head(self, kind: int, sources: tuple[int, ...] = ()) -> Head:
        """Return the head of a segment that ``create`` will create."""
        head = Head(self._next, kind, self._random.getrandbits(64), self._volume, sources)
        self._next += 1
        return head

    def create(self, head: Head) -> tuple[Segment, File]:
        """Make the file and its name durable, before anything in it can be acknowledged."""
        path = f"{self._path}/{head.id:016x}.{KIND_NAMES[head.kind]}"
        direct = self._direct and head.kind == LARGE
        try:
            file = self._write_head(path, head, direct=direct)
        except VolumeFailed:
            if not direct:
                raise
            file = self._write_head(path, head, direct=False)  # it opened with O_DIRECT, but does not write
            self._direct = False
        self._disk.sync_directory(self._path)
        return Segment(head, path, BLOCK, BLOCK, sealed=False), file

    def _write_head(self, path: str, head: Head, *, direct: bool) -> File:
        file = self._disk.create(path, direct=direct)
        try:
            aligned = aligned_memory(BLOCK)
            aligned[:] = pack_head(head)
            file.write(0, [memoryview(aligned)])
            file.sync()
        except BaseException:
            file.close()
            self._disk.remove(path)
            raise
        return file

    def lease(self, segment: int) -> OpenSegment | None:
        """Return the segment open for reading, until ``release``; None if it was removed. Opening may block."""
        found = self._open.get(segment)
        if found is None:
            known = self.known.get(segment)
            if known is None:
                return None
            found = self._open[segment] = OpenSegment(known, self._disk.open(known.path))
            if len(self._open) > FILES_OPEN_MAX:
                self._retire(next(iter(self._open)))
        else:
            self._open.move_to_end(segment)
        found.users += 1
        return found

    def release(self, opened: OpenSegment) -> None:
        opened.users -= 1
        if opened.retired and not opened.users:
            opened.file.close()

    def forget(self, segment: int) -> str:
        """Lease the segment no more; leases go on. Return the path of the file, to be unlinked.

        On the event loop, like ``lease`` and ``release``, because they share a table.
        """
        known = self.known.pop(segment)
        if segment in self._open:
            self._retire(segment)
        return known.path

    def unlink(self, paths: Sequence[str]) -> None:
        """Remove the files for good."""
        for path in paths:
            self._disk.remove(path)
        self.sync_directory()

    def remove(self, segment: int) -> None:
        """Forget and unlink the segment at once, before it is read."""
        self._disk.remove(self.forget(segment))

    def sync_directory(self) -> None:
        self._disk.sync_directory(self._path)

    def close(self) -> None:
        for segment in list(self._open):
            self._retire(segment)

    def _retire(self, segment: int) -> None:
        opened = self._open.pop(segment)
        opened.retired = True
        if not opened.users:
            opened.file.close()


class OpenSegment:
    """A segment's file, shared by its readers."""

    __slots__ = ("file", "id", "retired", "salt", "segment", "users")

    def __init__(self, segment: Segment, file: File) -> None:
        self.segment = segment
        self.id = segment.head.id
        self.salt = segment.head.salt
        self.file = file
        self.users = 0
        self.retired = False


class Scan:
    """Every record between two offsets of a segment, in order.

    After a damaged header the scan goes on at the next valid one, and logs the gap. Payloads are not read: see
    ``payload_is_good``. ``unreadable``: the disk has failed to read a part of it so far.
    """

    def __init__(self, file: File, head: Head, start: int, end: int) -> None:
        self._head = head
        self._start = max(start, BLOCK)
        self._end = end
        self._window = _ScanWindow(file, end, HEADER_MAX if head.kind == LARGE else _WINDOW)

    @property
    def unreadable(self) -> bool:
        return self._window.unreadable

    def __iter__(self) -> Iterator[Record]:
        head, window, end = self._head, self._window, self._end
        step = BLOCK if head.kind == LARGE else 8
        offset = self._start
        lost_at = -1
        while offset + HEADER_MIN <= end:
            record = parse_record(window.at(offset), head.salt, head.id, offset)
            if record is None:
                lost_at = offset if lost_at < 0 else lost_at
                offset = window.find_magic(offset + step, step)
                continue
            if lost_at >= 0:
                log.error("event=records_lost segment=%016x from=%d to=%d", head.id, lost_at, offset)
                lost_at = -1
            if record.payload_offset + record.size > end:
                return
            yield record
            offset += record.length


def payload_is_good(file: File, record: Record) -> bool:
    """Read the payload and compare it with its checksum. Raise VolumeFailed if it cannot be read."""
    digest = xxhash.xxh3_128()
    buffer = memoryview(bytearray(min(record.size, _WINDOW)))
    offset, left = record.payload_offset, record.size
    while left:
        part = buffer[: min(left, _WINDOW)]
        if file.read_into(offset, part) < len(part):
            return False
        digest.update(part)
        offset += len(part)
        left -= len(part)
    return digest.digest() == record.checksum


def is_torn(file: File, head: Head, end: int, record: Record) -> bool:
    """Return whether a crash can have torn this record's payload, and did.

    A payload that cannot be read is damaged.
    """
    if record.kind != PIECE or record.offset < end - TORN_BYTES_MAX[head.kind]:
        return False
    try:
        return not payload_is_good(file, record)
    except VolumeFailed:
        return False


class _ScanWindow:
    """A part of a file in memory, moved along with a scan."""

    def __init__(self, file: File, end: int, length: int) -> None:
        self._file = file
        self._end = end
        self._bytes = bytearray(length)
        self._buffer = memoryview(self._bytes)
        self._start = 0
        self._count = 0
        self.unreadable = False

    def at(self, offset: int) -> memoryview:
        """Return the content of the file from ``offset`` on: at least a whole header, if the file has it."""
        have = self._start + self._count - offset
        if offset < self._start or (have < HEADER_MAX and self._start + self._count < self._end) or have <= 0:
            self._start = offset
            self._count = self._fill(offset)
        return self._buffer[offset - self._start : self._count]

    def _fill(self, offset: int) -> int:
        """Read the next part; one that cannot be read counts as damaged, like one that was changed."""
        part = self._buffer[: max(0, min(len(self._buffer), self._end - offset))]
        try:
            return self._file.read_into(offset, part)
        except VolumeFailed:
            self.unreadable = True
            part[:] = bytes(len(part))
            return len(part)

    def find_magic(self, offset: int, step: int) -> int:
        """Return the next offset, in steps, at which a header might begin; the end if there is none."""
        while offset + HEADER_MIN <= self._end:
            count = len(self.at(offset))
            begin = offset - self._start
            if step == BLOCK:
                if self._bytes.startswith(MAGIC, begin):
                    return offset
                offset += step
                continue
            found = self._bytes.find(MAGIC, begin, begin + count) - begin
            if found < 0:
                offset += max(step, (count - 3) & -step)
            elif found % step:
                offset += (found + step) & -step
            else:
                return offset + found
        return self._end
