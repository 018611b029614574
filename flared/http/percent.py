"""Decode paths and queries: the one place where percent-encoding is removed. Pure."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote_to_bytes

from flared.errors import BadRequest

_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


def decode(raw: str) -> str:
    """Percent-decode once; ``+`` stays. Raise BadRequest unless the text is well-formed and UTF-8."""
    if "%" not in raw and raw.isascii():
        return raw
    if _BAD_PERCENT.search(raw):
        raise BadRequest("a '%' is not followed by two hex digits")
    try:
        return unquote_to_bytes(raw.encode("latin-1")).decode()
    except UnicodeDecodeError:
        raise BadRequest("the path or query is not UTF-8") from None


def encode_key(key: str) -> str:
    """Return a key encoded for a path; ``decode`` reverses it.

    Dots, double slashes and plus signs are part of the key. A part that is only dots is encoded, because HTTP
    libraries would resolve it.
    """
    parts = (part.replace(".", "%2E") if part in (".", "..") else quote(part, safe="") for part in key.split("/"))
    return "/".join(parts)


def parse_query(query: str, *known: str) -> dict[str, str]:
    """Return the names and values of a query; ``+`` is a space, as HTML forms write it.

    Raise BadRequest for a name that is not among ``known``, or is repeated: a part of the query would be ignored.
    """
    values: dict[str, str] = {}
    for part in query.split("&") if query else ():
        if not part:
            continue
        raw_name, _, value = part.replace("+", "%20").partition("=")
        name = decode(raw_name)
        if name not in known:
            raise BadRequest(f"unknown query parameter {name[:80]!r}; known here: {', '.join(known) or 'none'}")
        if name in values:
            raise BadRequest(f"the query parameter {name!r} is given twice")
        values[name] = decode(value)
    return values
