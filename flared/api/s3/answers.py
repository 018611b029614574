"""Answers of the S3 face: the fields that each has, and XML."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

from flared.api.fields import format_date
from flared.log import name_request, request_id

if TYPE_CHECKING:
    from flared.http.messages import Reply

XML = b"content-type: application/xml\r\n"
HOST_ID = secrets.token_urlsafe(24)
"""Of this process: with the request id it finds the line of the log, also where several nodes answer."""


def reply_lines(request: int | str | None = None) -> bytes:
    """Return the field lines that every reply has. ``request``: in turns, its id; else it is the task's."""
    name = request_id() if request is None else name_request(request)
    return (f"x-amz-request-id: {name}\r\nx-amz-id-2: {HOST_ID}\r\ndate: {format_date(int(time.time()))}\r\n").encode()


async def send(reply: Reply, status: int, lines: bytes = b"", body: bytes = b"") -> None:
    await reply.send(status, reply_lines() + lines, body)


async def send_xml(reply: Reply, body: bytes, lines: bytes = b"") -> None:
    """Send a document of ``xml.document``."""
    await reply.send(200, reply_lines() + XML + lines, body)
