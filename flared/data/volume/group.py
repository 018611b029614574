"""Group: the changes that one write appends to the active segment, where each goes, and the bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flared.data.disk.buffers import PieceBuffer
from flared.data.index.index import Location, Watermark
from flared.data.record import ALIGNED, BLOCK, Head, pack_piece, pack_quarantine, pack_tombstone, padding
from flared.data.volume.changes import Change, Hide, Put

if TYPE_CHECKING:
    from flared.data.disk.disk import Buffer, File
    from flared.data.volume.segment import Segment
    from flared.errors import FlareError


@dataclass(slots=True)
class Active:
    """The segment being written. Only the part below ``end`` is synced."""

    head: Head
    end: int = BLOCK
    allocated: int = BLOCK
    segment: Segment | None = None
    file: File | None = None
    error: FlareError | None = None
    """Why it could not be sealed."""


@dataclass(slots=True)
class Group:
    """One write: the changes, where each goes, and the bytes."""

    changes: list[Change]
    active: Active
    check: list[str]
    locations: list[Location] = field(default_factory=list)
    buffers: list[Buffer] = field(default_factory=list)
    end: int = 0
    existing: list[str] = field(default_factory=list)
    error: FlareError | None = None
    synced: bool = False
    """True if the failure came after the write: then the content of the disk remains unknown."""


def pack_small(group: Group, first_sequence: int) -> None:
    """Pack the changes for a small segment; payloads are not copied: the write gathers them from the callers'."""
    head = group.active.head
    segment, salt = head.id, head.salt
    offset = group.active.end
    buffers, locations, make = group.buffers, group.locations, tuple.__new__
    for sequence, change in enumerate(group.changes, first_sequence):
        if isinstance(change, Put):
            piece = change.piece
            size, length = piece.size, change.length
            buffers.append(pack_piece(piece, segment, offset, sequence, salt))
            if size:
                buffers.append(change.payload)  # type: ignore[arg-type]  # never a PieceBuffer in a small segment
                if size & 7:
                    buffers.append(padding(size))
            locations.append(make(Location, (segment, offset, size, length, sequence)))
        else:
            if isinstance(change, Hide):
                record = pack_quarantine(change.name, segment, offset, sequence, salt, change.since_ms)
            else:
                record = pack_tombstone(change.name, segment, offset, sequence, salt)
            length = len(record)
            buffers.append(record)
            locations.append(Location(segment, offset, 0, length, sequence))
        offset += length
    group.end = offset


def pack_large(group: Group, first_sequence: int) -> None:
    """Pack the puts for a large segment: each header goes into the room that its payload's buffer has for it."""
    head = group.active.head
    offset = group.active.end
    for sequence, change in enumerate(group.changes, first_sequence):
        assert isinstance(change, Put)
        assert isinstance(change.payload, PieceBuffer)
        size = change.piece.size
        length = change.length
        header = pack_piece(change.piece, head.id, offset, sequence, head.salt, ALIGNED)
        change.payload.header[:] = header.ljust(BLOCK, b"\0")
        whole = change.payload.whole
        whole[BLOCK + size : length] = bytes(length - BLOCK - size)  # overwrite the rest of an earlier piece
        group.buffers.append(whole[:length])
        group.locations.append(Location(head.id, offset, size, length, sequence))
        offset += length
    group.end = offset


def mark_of(active: Active, *, sealed: bool) -> Watermark:
    return Watermark(active.head.id, active.head.kind, active.head.salt, active.end, sealed)


def seal(active: Active) -> None:
    """Free the room preallocated beyond the last record, and cut off the rest of a failed write.

    Otherwise a power cut could bring back records that readers have been answered do not exist.
    """
    assert active.file
    assert active.segment
    try:
        rest = active.file.size() > active.end
        active.file.truncate(active.end)
        if rest:
            active.file.sync()
        active.segment.allocated = active.file.allocated()
    finally:
        active.file.close()
