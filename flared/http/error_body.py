"""The body of an answer that is an error, the same from every process of Flare. Pure.

body = {"error": {"code": error class, "message": sentence ["request_id": of the request]}}
"""

from __future__ import annotations

import json
from typing import NamedTuple

from flared.http.json_body import parse_json

JSON = b"content-type: application/json\r\n"
"""The line of the head that goes with it, and with every other JSON."""


FAILED = "the server failed at this request; its log says why"
"""What a client is told of a bug."""


class ErrorBody(NamedTuple):
    """What is not said is empty: all of it in an answer that some other program gave."""

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
