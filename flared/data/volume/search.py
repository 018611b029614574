"""Search: small pieces are looked for on one volume after the other. It reads none: its caller does, with or without
waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flared.data.pieces import LARGE_SIZE
from flared.data.volume.reader import Found, Wanted
from flared.errors import Busy, FlareError, NoSuchPiece, PieceCorrupt, TooLarge, VolumeFailed

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from flared.data.volume.volume import Volume


def search(
    volumes: Sequence[Volume], names: Sequence[str], unsure: FlareError | None
) -> Generator[tuple[Volume, list[Wanted]], Sequence[Found | FlareError], list[Found | FlareError]]:
    """Yield a volume and what to read from it; the caller sends the answers, or throws the VolumeFailed it met.

    Return the answers for all names. ``unsure`` is why one that is not found may exist all the same, or None.
    """
    answers: dict[str, Found | FlareError] = {}
    make = tuple.__new__
    left: Sequence[str] = names
    for volume in volumes:
        try:
            locations = volume.piece_map.find_many(left)
        except FlareError as error:
            unsure = error
            continue
        if not volume.piece_map.complete:
            unsure = Busy(f"volume {volume.path} is not completely indexed yet")
        wanted = []
        for name, location in locations.items():
            if location.size < LARGE_SIZE:
                wanted.append(make(Wanted, (name, location)))
            else:
                answers[name] = TooLarge(f"{name} has {location.size} bytes: open it instead")
        if wanted:
            try:
                read = yield volume, wanted
            except VolumeFailed as error:
                unsure = error
                continue
            for (name, _), answer in zip(wanted, read, strict=True):
                if type(answer) is tuple or not isinstance(answer, NoSuchPiece):
                    answers[name] = answer
        # If a piece is damaged here, another volume may have a good copy.
        left = [name for name in left if name not in answers or isinstance(answers[name], PieceCorrupt)]
        if not left:
            break
    return [answers[name] if name in answers else missing(name, unsure) for name in names]


def missing(name: str, unsure: FlareError | None) -> FlareError:
    """Return the error for a piece that was not found; ``unsure`` is what speaks against saying so."""
    return unsure or NoSuchPiece(f"{name} is not on this node")
