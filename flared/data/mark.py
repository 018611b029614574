"""SeenMark: how new the metadata was when an api node last reported it. ``volume/mark_file.py`` stores it.

Metadata that was rolled back, lost its log, or is a copy that went on alone is older than data nodes have seen, but
cannot show it by itself. A data node does not judge: it stores the mark that it receives, and reports it back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flared.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

NUMBER_MAX = 1 << 63
TIME_MAX_MS = 10**15
OPENING_CHARACTERS_MAX = 64


@dataclass(frozen=True, slots=True)
class SeenMark:
    """Everything that one opening of the metadata had committed up to a number (``meta.kv.Mark``)."""

    opening: str
    number: int
    accepted_ms: int
    """When that metadata was last restored, or accepted although it was old; 0 if never. An older mark, from before
    that step back, does not count against the metadata."""
    time_ms: int
    """When the api node reported it, by its clock; for people."""

    def is_behind(self, other: SeenMark) -> bool:
        """Return whether it is of the same opening, which had committed less then."""
        return self.opening == other.opening and self.number < other.number


def mark_fields(mark: SeenMark) -> dict[str, object]:
    """Return the mark as JSON fields, for the wire and the disk."""
    return {"opening": mark.opening, "number": mark.number, "accepted": mark.accepted_ms, "time": mark.time_ms}


def parse_mark(fields: object) -> SeenMark:
    """Parse the fields of ``mark_fields``; ignore unknown ones. Raise BadRequest."""
    if not isinstance(fields, dict):
        raise BadRequest("a mark of the metadata is a JSON object")
    opening = fields.get("opening")
    if not isinstance(opening, str) or not 0 < len(opening) <= OPENING_CHARACTERS_MAX or not opening.isalnum():
        raise BadRequest(f"a mark's opening is 1 to {OPENING_CHARACTERS_MAX} letters and digits, not {opening!r:.80}")
    number = _count(fields, "number", NUMBER_MAX)
    return SeenMark(opening, number, _count(fields, "accepted", TIME_MAX_MS), _count(fields, "time", TIME_MAX_MS))


def _count(fields: Mapping[str, object], name: str, limit: int) -> int:
    value = fields.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < limit:
        raise BadRequest(f"a mark needs {name!r} as a whole number, not {value!r:.80}")
    return value
