"""Path templates to targets and parameters, and the one place where percent-encoding ends. Pure.

``/bucket/{bucket}/object/{key*}``: a parameter is one segment, a starred one is the rest of the path, slashes and all.
"""

from __future__ import annotations

import re
from typing import Generic, NamedTuple, TypeVar
from urllib.parse import unquote_to_bytes

from flared.errors import BadRequest

T = TypeVar("T")

_PARAMETER = re.compile(r"\{(\w+)(\*?)\}")
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


class Match(NamedTuple, Generic[T]):
    target: T
    parameters: dict[str, str]


class Routes(Generic[T]):
    """Which target answers which method and path. Filled once at the start; first come, first matched."""

    def __init__(self) -> None:
        self._by_first_segment: dict[str, list[tuple[re.Pattern[str], dict[str, T]]]] = {}

    def add(self, method: str, template: str, target: T) -> None:
        """``template`` begins with a literal segment."""
        pattern = re.compile(_PARAMETER.sub(_group, template))
        routes = self._by_first_segment.setdefault(_first_segment(template), [])
        for known, targets in routes:
            if known == pattern:
                targets[method] = target
                return
        routes.append((pattern, {method: target}))

    def find(self, method: str, path: str) -> Match[T] | None:
        """The target for a path as it was sent; None if there is none. BadRequest if it is badly encoded."""
        for pattern, targets in self._by_first_segment.get(_first_segment(path), ()):
            match = pattern.fullmatch(path)
            if match and method in targets:
                return Match(targets[method], {name: decode(text) for name, text in match.groupdict().items()})
        return None

    def methods(self, path: str) -> list[str]:
        """Which methods the path knows: for the Allow field of a 405; none for a 404."""
        routes = self._by_first_segment.get(_first_segment(path), ())
        return sorted({method for pattern, targets in routes if pattern.fullmatch(path) for method in targets})


def decode(raw: str) -> str:
    """Percent-decode once; ``+`` is itself. BadRequest unless it is well-formed and UTF-8."""
    if "%" not in raw and raw.isascii():
        return raw
    if _BAD_PERCENT.search(raw):
        raise BadRequest("a '%' is not followed by two hex digits")
    try:
        return unquote_to_bytes(raw.encode("latin-1")).decode()
    except UnicodeDecodeError:
        raise BadRequest("the path or query is not UTF-8") from None


def parse_query(query: str) -> dict[str, str]:
    """Names and values of a query; as every HTML form writes it, ``+`` is a space. The last of equal names counts."""
    values: dict[str, str] = {}
    for part in query.split("&"):
        if part:
            name, _, value = part.replace("+", "%20").partition("=")
            values[decode(name)] = decode(value)
    return values


def _first_segment(path: str) -> str:
    end = path.find("/", 1)
    return path if end < 0 else path[:end]


def _group(match: re.Match[str]) -> str:
    return f"(?P<{match[1]}>.*)" if match[2] else f"(?P<{match[1]}>[^/]+)"
