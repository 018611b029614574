"""Parse JSON from another process. Pure.

The only parser of JSON bodies, for client and server. It refuses JSON that two programs might read differently
(RFC 8259, 4, 6 and 8.2; RFC 7493): repeated names, numbers that are not finite or too long, halves of surrogate
pairs, and any encoding but UTF-8. It also refuses deep nesting, which would end in a RecursionError.
"""

from __future__ import annotations

import json
import math
import re

from flared.errors import BadRequest

DEPTH_MAX = 32
"""The deepest nesting of lists and objects; Flare itself sends at most 5 levels."""
DIGITS_MAX = 24
"""Longest whole number: 64 bits have 20 digits, and int() takes quadratic time."""

# The last quote may be missing: otherwise every quote of an unterminated string would start another search.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_NOT_BRACKETS = re.compile(rb"[^][{}]++")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def parse_json(body: bytes) -> object:
    """Return the value in ``body``. Raise ValueError with what is wrong, as a sentence without its subject.

    The caller has limited the size of the body. Takes linear time and memory.
    """
    _check_depth(body)
    try:
        value: object = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_object,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_whole,
        )
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error.msg} at character {error.pos}") from None
    if _SURROGATE.search(body):
        _check_surrogates(value)
    return value


def parse_json_object(body: bytes, what: str) -> dict[str, object]:
    """Return the JSON object in ``body``. Raise BadRequest with what is wrong; ``what`` names it in the message."""
    try:
        value = parse_json(body)
    except ValueError as error:
        raise BadRequest(f"{what} {error}") from None
    if not isinstance(value, dict):
        raise BadRequest(f"{what} is not a JSON object")
    return value


def _check_depth(body: bytes) -> None:
    """Refuse deep nesting before anything recurses: remove pairs of brackets from the inside out."""
    if body.count(b"[") + body.count(b"{") <= DEPTH_MAX:
        return
    brackets = _NOT_BRACKETS.sub(b"", _STRING.sub(b"", body))
    for _ in range(DEPTH_MAX):
        fewer = brackets.replace(b"[]", b"").replace(b"{}", b"")
        # "[{}]" loses both levels in one round, so up to twice the depth may pass; that is still safe.
        if not fewer:
            return
        if len(fewer) == len(brackets):
            raise ValueError("is not JSON: its brackets do not match")
        brackets = fewer
    raise ValueError(f"is nested more than {DEPTH_MAX} levels deep")


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"has the name {twice[:80]!r} twice in one object")
    return fields


def _refuse_constant(text: str) -> object:
    raise ValueError(f"holds {text}, which is not a number in JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"holds the number {text[:40]}, which is too large")
    return number


def _whole(text: str) -> int:
    if len(text) > DIGITS_MAX:
        raise ValueError(f"holds a whole number of more than {DIGITS_MAX} digits")
    return int(text)


def _check_surrogates(value: object) -> None:
    """Refuse half of a surrogate pair: it cannot be encoded as UTF-8, so a later use of the text would fail."""
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("holds half of a surrogate pair") from None
