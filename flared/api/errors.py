"""Errors in HTTP: from error to answer, for both ways that a request is answered.

``JSON_ERRORS`` are the answers of native and admin. A face that words its errors otherwise makes
``ErrorAnswers`` of its own.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flared.access.keys import CHALLENGE
from flared.errors import (
    BadMethod,
    BadRange,
    Conflict,
    ConnectionLost,
    Damaged,
    FlareError,
    Forbidden,
    IsDeleteMarker,
    LocalProtocolError,
    MetadataFull,
    NoSuchBucket,
    NoSuchKey,
    NoSuchObject,
    NoSuchPath,
    NoSuchUpload,
    NotModified,
    ObjectLocked,
    PreconditionFailed,
    ProtocolError,
    Refused,
    SlowDown,
    TooLarge,
    TooSmall,
    Unauthenticated,
    Unavailable,
    VolumeFull,
    drop_tracebacks,
)
from flared.http.error_body import JSON, pack_error
from flared.log import current_request, request_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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
    TooSmall: 400,
    NoSuchBucket: 404,
    NoSuchObject: 404,
    NoSuchPath: 404,
    NoSuchKey: 404,
    NoSuchUpload: 404,
    IsDeleteMarker: 404,
    ObjectLocked: 403,
    BadMethod: 405,
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


@dataclass(frozen=True, slots=True)
class ErrorAnswers:
    """How a face answers with an error."""

    status_of: Callable[[FlareError], int]
    pack: Callable[[FlareError, int, Request | Exchange], tuple[bytes, bytes]]
    """From error, status and request to the field lines and the body; ``log.request_id`` is the request's."""

    async def answer(self, request: Request, reply: Reply, error: FlareError) -> None:
        """Send the error to the client. If the reply is already under way, it can only be cut off."""
        if isinstance(error, ConnectionLost):
            raise error
        drop_tracebacks(error)
        status = self.status_of(error)
        if reply.started:
            reply.close = True
        _log_error(request, error, status, cut=reply.started)
        if not reply.started:
            await reply.send(status, *self.pack(error, status, request))

    def answer_in_turn(self, exchange: Exchange, error: FlareError) -> None:
        """The same for a request that is answered in turns."""
        status = self.status_of(error)
        token = current_request.set(exchange.request_id)  # for the log, and for the client
        try:
            _log_error(exchange, error, status, cut=False)
            lines, body = self.pack(error, status, exchange)
        finally:
            current_request.reset(token)
        exchange.send(status, lines, body)


def pack_json_error(error: FlareError, status: int, _request: Request | Exchange) -> tuple[bytes, bytes]:
    return JSON + _fields(error, status), pack_error(error.code, str(error), request_id())


JSON_ERRORS = ErrorAnswers(status_of, pack_json_error)


def _log_error(request: Request | Exchange, error: FlareError, status: int, *, cut: bool) -> None:
    # A call that S3 has and we have not is answered 501: a refusal nevertheless.
    if (status >= 500 and not isinstance(error, Refused)) or cut:
        level, event = logging.ERROR if error.data_at_risk else logging.WARNING, "request_failed"
    else:
        level, event = logging.DEBUG, "request_refused"
    if status >= 400 and log.isEnabledFor(level):
        lacking = f" lacking={grant[:200]!r}" if (grant := getattr(error, "lacking", "")) else ""
        log.log(
            level, "event=%s method=%s path=%r status=%d cut=%s error=%s message=%r%s",
            event, request.method, request.path, status, cut, error.code, str(error), lacking,
        )  # fmt: skip


def _fields(error: FlareError, status: int) -> bytes:
    if isinstance(error, BadRange):
        return b"content-range: bytes */%d\r\n" % error.size
    if isinstance(error, BadMethod):
        return f"allow: {', '.join(error.allowed)}\r\n".encode()
    if isinstance(error, Unauthenticated):
        return CHALLENGE
    if status in (429, 503):
        return b"retry-after: %d\r\n" % getattr(error, "retry_after", RETRY_AFTER_SECONDS)
    return b""
