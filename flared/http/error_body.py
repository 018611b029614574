"""The body of an error reply, the same for every process of Flare. Pure.

body = {"error": {"code": error class, "message": sentence ["request_id": of the request]}}
"""

from __future__ import annotations

import json
from typing import NamedTuple

from flared.http.json_body import parse_json

JSON = b"content-type: application/json\r\n"
"""The field line of an error body, and of every other JSON body."""


FAILED = "the server failed at this request; its log says why"
"""The message for a client after a bug."""


class ErrorBody(NamedTuple):
    """The fields of an error body; missing ones are empty, all of them in an answer of another program."""

    code: str
    message: str
    request_id: str


def pack_error(code: str, message: str, request_id: str | None = None) -> bytes:
    error = {"code": code, "message": message}
    if request_id is not None:
        error["request_id"] = request_id
    return json.dumps({"error": error}).encode() + b"\n"


def parse_error(body: bytes) -> ErrorBody:
    try:
        answer: object = parse_json(body)
    except ValueError:
        answer = None
    error = answer.get("error") if isinstance(answer, dict) else None
    fields = error if isinstance(error, dict) else {}
    return ErrorBody(*(text if isinstance(text := fields.get(name), str) else "" for name in ErrorBody._fields))
