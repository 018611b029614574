"""Statuses: what a data node answers for a request or a record, and the errors that they stand for at the other end."""

from __future__ import annotations

from collections.abc import Mapping

from flared.errors import (
    BadDigest,
    BadName,
    BadRange,
    BadRequest,
    Damaged,
    FlareError,
    Forbidden,
    NodeOutdated,
    NodeUnreachable,
    NoSuchPiece,
    PieceCorrupt,
    TooLarge,
    Unauthenticated,
    Unavailable,
    VolumeFailed,
    VolumeFull,
)

GOT = 200
STORED = 201
THERE = 200
DELETED = 204
DELETED_WHERE_ASKED = 202
"""Deleted from every working volume; a failed one may still have it, and will list it when it is back."""
ABSENT = 404
ASK_AGAIN = 206
"""Status of a record of a get that did not fit into this answer. The first record always fits."""

ERROR_FIELD = "x-flare-error"
"""The error's code, also on answers to HEAD, which have no body. A 404 without it is not ours."""


_STATUSES: Mapping[type[FlareError], int] = {
    NoSuchPiece: ABSENT,
    TooLarge: 413,
    BadRange: 416,
    Unauthenticated: 401,
    Forbidden: 403,
    VolumeFull: 507,
    VolumeFailed: 503,  # Nothing is known to be lost: this copy cannot be read or made now.
    Damaged: 500,
    Unavailable: 503,
}


def status_of(error: FlareError) -> int:
    """Return the status for an error, of a request or of one record."""
    for kind in type(error).__mro__:
        status = _STATUSES.get(kind)
        if status is not None:
            return status
    return 400


_PUT_ERRORS: Mapping[int, type[FlareError]] = {400: BadDigest, 413: TooLarge, 507: VolumeFull}
_GET_ERRORS: Mapping[int, type[FlareError]] = {404: NoSuchPiece, 413: TooLarge, 500: PieceCorrupt}
_CODES: Mapping[str, type[FlareError]] = {
    kind.__name__: kind
    for kind in (BadDigest, BadName, BadRequest, NoSuchPiece, PieceCorrupt, TooLarge, Unauthenticated, VolumeFull)
} | {"Forbidden": Unauthenticated, "NoSuchPath": NodeOutdated}


def put_error(node: str, name: str, status: int) -> FlareError | None:
    """Return the error for the status of one put record."""
    if status in (STORED, THERE):
        return None
    return _record_error(_PUT_ERRORS, node, name, status)


def get_error(node: str, name: str, status: int) -> FlareError:
    """Return the error for the status of one record of a get that is not GOT."""
    return _record_error(_GET_ERRORS, node, name, status)


def delete_error(node: str, name: str, status: int) -> FlareError | None:
    """Return the error for the status of one deleted record. A missing one counts as deleted, and so does one that
    only a failed volume may have: ``upkeep.deletion.reconcile`` finds it when the volume is back."""
    if status in (DELETED, DELETED_WHERE_ASKED, ABSENT):
        return None
    return NodeUnreachable(node, f"answered {status} to the delete of {name}")


def quarantine_error(node: str, name: str, status: int) -> FlareError | None:
    """Return the error for the status of one record that was to be hidden; as for a delete."""
    if status in (DELETED, DELETED_WHERE_ASKED, ABSENT):
        return None
    return NodeUnreachable(node, f"answered {status} to the quarantine of {name}")


def request_error(node: str, status: int, code: str, message: str) -> FlareError:
    """Return the error for an unexpected answer to a whole request. ``code`` is its ERROR_FIELD, or empty."""
    kind = _CODES.get(code)
    if kind is not None:
        return kind(f"node {node}: {message or code}")
    return NodeUnreachable(node, f"answered {status} {message or code}".rstrip())


def _record_error(kinds: Mapping[int, type[FlareError]], node: str, name: str, status: int) -> FlareError:
    kind = kinds.get(status)
    if kind is not None:
        return kind(f"node {node} answered {status} for {name}")
    return NodeUnreachable(node, f"answered {status} for {name}")
