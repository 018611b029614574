"""Space: compute how much of a disk pieces may use, and the size of segments. Pure; all sizes are bytes."""

from __future__ import annotations

MIB = 1024 * 1024
SEGMENT_SIZE_MAX = 1024 * MIB
SEGMENT_SIZE_MIN = MIB
RESERVE_MAX = 256 * MIB
SEGMENTS_MIN = 64
"""Also a small disk has so many segments, so that compaction finds room for the next one."""
RESERVE_SHARE = 8
"""At most one of so many parts of a small disk is reserved."""
LOW_MAX = 64 * MIB


def find_segment_size(wanted: int, capacity: int) -> int:
    """Return the largest size of a segment: as configured, or less on a small disk."""
    return max(SEGMENT_SIZE_MIN, min(wanted, capacity // SEGMENTS_MIN))


def find_reserve(wanted: int, capacity: int) -> int:
    """Return the room reserved for deletes: as configured, or less on a small disk."""
    return min(wanted, capacity // RESERVE_SHARE)


def is_low(free: int, capacity: int) -> bool:
    """Return whether a volume with so much room left for pieces counts as full."""
    return free < min(LOW_MAX, capacity // SEGMENTS_MIN)
