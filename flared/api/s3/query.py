"""Queries of S3 requests: names and values. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flared.api.s3.errors import S3Error
from flared.http.percent import decode

if TYPE_CHECKING:
    from collections.abc import Mapping

NUMBER_DIGITS_MAX = 10


def parse_query(query: str) -> dict[str, str]:
    """Return names and values; a name without ``=`` has an empty one, ``+`` is a space. Raise S3Error, BadRequest.

    A name that stands twice is refused: two programs might take different ones for the one that counts.
    """
    values: dict[str, str] = {}
    for part in query.split("&") if query else ():
        if not part:
            continue
        raw_name, _, value = part.replace("+", "%20").partition("=")
        name = decode(raw_name)
        if name in values:
            raise S3Error("InvalidArgument", f"the query parameter {name[:80]!r} is given twice")
        values[name] = decode(value)
    return values


def parse_count(query: Mapping[str, str], name: str, default: int, most: int) -> int:
    """Return a whole number from 0 on; what is over ``most`` counts as it. Raise S3Error."""
    text = query.get(name)
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= NUMBER_DIGITS_MAX) or int(text) >= 1 << 31:
        raise S3Error("InvalidArgument", f"Argument {name} must be an integer between 0 and 2147483647")
    return min(int(text), most)
