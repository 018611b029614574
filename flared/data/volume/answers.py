"""Answers: how those of several volumes become those of one call. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from flared.errors import FlareError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flared.data.disk.disk import Buffer
    from flared.data.pieces import Piece
    from flared.data.volume.changes import Answer, Answers
    from flared.data.volume.volume import Volume


class Route(NamedTuple):
    """Where the pieces of one call go."""

    volume: Volume | None
    items: Sequence[tuple[Piece, Buffer]]
    """The pieces that this volume stores."""
    numbers: Sequence[int]
    """Where these stand in the call; empty if they are the call."""
    answers: Answers
    """For the call, where they are decided: False for what another volume has."""

    def merge(self, stored: Answers) -> Answers:
        """Return the answers for the whole call, given those of the volume."""
        if not self.answers:
            return stored
        for number, answer in zip(self.numbers, stored, strict=False):
            self.answers[number] = answer
        return self.answers


def combine(one: Answer, other: Answer) -> Answer:
    """Return the answer for a piece that two volumes have answered for."""
    if isinstance(one, FlareError):
        return one
    if isinstance(other, FlareError):
        return other
    return one or other
