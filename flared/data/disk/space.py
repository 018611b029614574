"""Space: how much of a disk pieces may have, and in segments of what size. Pure; all sizes are bytes."""

from __future__ import annotations

MIB = 1024 * 1024
SEGMENT_SIZE_MAX = 1024 * MIB
SEGMENT_SIZE_MIN = MIB
RESERVE_MAX = 256 * MIB
SEGMENTS_MIN = 64
"""A small disk has as many of them all the same, so that compaction finds room for the next one."""
RESERVE_SHARE = 8
"""At most one part in so many of a small disk is held back."""
LOW_MAX = 64 * MIB


def find_segment_size(wanted: int, capacity: int) -> int:
    """How large a segment may become: what the settings want, and on a small disk less."""
    return max(SEGMENT_SIZE_MIN, min(wanted, capacity // SEGMENTS_MIN))


def find_reserve(wanted: int, capacity: int) -> int:
    """The room that is held back for deletes: what the settings want, and on a small disk less."""
    return min(wanted, capacity // RESERVE_SHARE)


def is_low(free: int, capacity: int) -> bool:
    """Whether a volume with so much room left for pieces counts as full."""
    return free < min(LOW_MAX, capacity // SEGMENTS_MIN)
