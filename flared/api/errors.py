"""What an error looks like in HTTP: the one table from error to status, and how a client is told."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from flared.access.keys import CHALLENGE
from flared.errors import (
    BadRange,
    Conflict,
    ConnectionLost,
    Damaged,
    FlareError,
    Forbidden,
    LocalProtocolError,
    MetadataFull,
    NoSuchBucket,
    NoSuchObject,
    NotModified,
    PreconditionFailed,
    ProtocolError,
    Refused,
    SlowDown,
    TooLarge,
    Unauthenticated,
    Unavailable,
    VolumeFull,
)
from flared.http.error_body import JSON, pack_error
from flared.log import request_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flared.http.messages import Reply, Request

log = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 3
"""A heartbeat: before that the cluster cannot know better."""


STATUSES: Mapping[type[FlareError], int] = {
    FlareError: 500,
    Refused: 400,
    BadRange: 416,
    TooLarge: 413,
    NoSuchBucket: 404,
    NoSuchObject: 404,
    Conflict: 409,
    PreconditionFailed: 412,
    NotModified: 304,
    Unauthenticated: 401,
    Forbidden: 403,
    Unavailable: 503,
    VolumeFull: 507,
    MetadataFull: 507,
    SlowDown: 429,
    Damaged: 500,
    # The peer broke off or broke HTTP; what we broke ourselves is our fault.
    ProtocolError: 400,
    LocalProtocolError: 500,
}
"""The status of an error is that of its nearest class in here."""


def status_of(error: FlareError) -> int:
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)


async def answer_error(request: Request, reply: Reply, error: FlareError) -> None:
    """Tell the client what went wrong; if the reply is already under way, all that is left is to cut it."""
    if isinstance(error, ConnectionLost):
        raise error
    status = status_of(error)
    if reply.started:
        reply.close = True
    if status >= 500 or reply.started:
        level = logging.ERROR if error.data_at_risk else logging.WARNING
        _log(level, "request_failed", request, error, status, cut=reply.started)
    elif status >= 400 and log.isEnabledFor(logging.DEBUG):
        _log(logging.DEBUG, "request_refused", request, error, status, cut=False)
    if not reply.started:
        await send_error(reply, status, error.code, str(error), _fields(error, status))


async def send_error(reply: Reply, status: int, code: str, message: str, fields: bytes = b"") -> None:
    """``fields`` are more lines of the head."""
    await reply.send(status, JSON + fields, pack_error(code, message, request_id()))


def _log(level: int, event: str, request: Request, error: FlareError, status: int, *, cut: bool) -> None:
    log.log(
        level, "event=%s method=%s path=%r status=%d cut=%s error=%s message=%r",
        event, request.method, request.path, status, cut, error.code, str(error),
    )  # fmt: skip


def _fields(error: FlareError, status: int) -> bytes:
    if isinstance(error, BadRange):
        return b"content-range: bytes */%d\r\n" % error.size
    if isinstance(error, Unauthenticated):
        return CHALLENGE
    if status in (429, 503):
        return b"retry-after: %d\r\n" % RETRY_AFTER_SECONDS
    return b""
