"""SeenMark: how new the metadata was when an api node last said so. ``volume/mark_file.py`` keeps it.

Metadata that was rolled back, lost its log, or is a copy that went on alone is older than what the nodes have seen, and
nothing in itself says so. A data node does not judge: it keeps what it is told, and says it again.
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
    """When that metadata was last restored, or accepted although it was old; 0 if never. Marks from before such a step
    back say nothing against the metadata that it led to."""
    time_ms: int
    """When it was said, by the api node's clock: for people."""

    def is_behind(self, other: SeenMark) -> bool:
        """Whether the same opening had committed less then."""
        return self.opening == other.opening and self.number < other.number


def mark_fields(mark: SeenMark) -> dict[str, object]:
    """As it travels, and lies on disk."""
    return {"opening": mark.opening, "number": mark.number, "accepted": mark.accepted_ms, "time": mark.time_ms}


def parse_mark(fields: object) -> SeenMark:
    """What ``mark_fields`` made, checked; what else is there is passed over. Raises BadRequest."""
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
