"""Answers in JSON and numbers of a query, for several calls of the native face."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from flared.errors import BadRequest
from flared.http.error_body import JSON

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flared.http.messages import Reply


async def send_json(reply: Reply, status: int, answer: Mapping[str, object]) -> None:
    await reply.send(status, JSON, json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")


def parse_number(query: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 20 and low <= int(text) <= high):
        raise BadRequest(f"{name}={text[:80]} is not a whole number from {low} to {high}")
    return int(text)
