"""Byte ranges as values: resolve one against an object (RFC 9110, section 14)."""

from __future__ import annotations

from dataclasses import dataclass

from flared.errors import BadRange


@dataclass(frozen=True, slots=True)
class RangeRequest:
    """``first-last``, ``first-`` (last None), or the last ``last`` bytes (first None).

    With ``if_range`` it applies only to the object with that tag, or of that time; else the whole object is meant.
    """

    first: int | None
    last: int | None
    if_range: str | int | None = None

    def applies(self, etag: str, modified: float) -> bool:
        if self.if_range is None:
            return True
        if isinstance(self.if_range, int):
            return int(modified) == self.if_range
        return self.if_range == etag


@dataclass(frozen=True, slots=True)
class PartRequest:
    """The bytes that one part of the upload brought."""

    number: int


def resolve(wanted: RangeRequest, size: int) -> tuple[int, int]:
    """Start and length in bytes of ``wanted`` in an object of ``size`` bytes; raises BadRange if it touches none."""
    if wanted.first is None:
        length = min(wanted.last or 0, size)
        if not length:
            raise BadRange("the suffix range is empty", size=size)
        return size - length, length
    if wanted.first >= size:
        raise BadRange(f"the range begins at {wanted.first}, the object has {size} bytes", size=size)
    last = size - 1 if wanted.last is None else min(wanted.last, size - 1)
    return wanted.first, last - wanted.first + 1
