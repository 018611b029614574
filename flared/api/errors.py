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
    drop_tracebacks,
)
from flared.http.error_body import JSON, pack_error
from flared.log import current_request, request_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flared.http.exchange import Exchange
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
    drop_tracebacks(error)
    status = status_of(error)
    if reply.started:
        reply.close = True
    _log_error(request, error, status, cut=reply.started)
    if not reply.started:
        await send_error(reply, status, error.code, str(error), _fields(error, status))


def answer_error_in_turn(exchange: Exchange, error: FlareError) -> None:
    """The same for a request that is answered in turns."""
    status = status_of(error)
    token = current_request.set(exchange.request_id)  # for the log, and for the client
    try:
        _log_error(exchange, error, status, cut=False)
        body = pack_error(error.code, str(error), request_id())
    finally:
        current_request.reset(token)
    exchange.send(status, JSON + _fields(error, status), body)


async def send_error(reply: Reply, status: int, code: str, message: str, fields: bytes = b"") -> None:
    """``fields`` are more lines of the head."""
    await reply.send(status, JSON + fields, pack_error(code, message, request_id()))


def _log_error(request: Request | Exchange, error: FlareError, status: int, *, cut: bool) -> None:
    if status >= 500 or cut:
        level, event = logging.ERROR if error.data_at_risk else logging.WARNING, "request_failed"
    else:
        level, event = logging.DEBUG, "request_refused"
    if status >= 400 and log.isEnabledFor(level):
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
