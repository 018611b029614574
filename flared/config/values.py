"""Values: parsers for the values of keys. Each raises ValueError with a sentence that says what is allowed."""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
from typing import TYPE_CHECKING

from flared.chunks.scheme import KINDS, parse_scheme
from flared.errors import BadName, BadRequest
from flared.http.address import HTTPS, Address, Endpoint, parse_address
from flared.names import NodeName, parse_node

if TYPE_CHECKING:
    from collections.abc import Callable

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
TIB = 1024 * GIB
WORKERS_MAX = 64

SIZE_UNITS = {
    "B": 1,
    "KiB": KIB,
    "MiB": MIB,
    "GiB": GIB,
    "TiB": TIB,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
}
DURATION_UNITS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}

_HOST_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63}){0,9}")
_REGION = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)")


def parse_listen(value: object) -> Address:
    """Parse ``host:port`` or ``[ipv6]:port``. Raise ValueError with what is allowed."""
    try:
        return parse_address(value if isinstance(value, str) else "")
    except BadRequest:
        raise ValueError("use host:port, such as 127.0.0.1:8000 or [::1]:8000") from None


def is_loopback(address: Address | Endpoint) -> bool:
    """Return whether only this machine can reach the address."""
    try:
        return address.host == "localhost" or ipaddress.ip_address(address.host).is_loopback
    except ValueError:
        return False


def parse_size(value: object) -> int:
    """Return bytes from a number, or a text such as ``96MiB``. Raise ValueError."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if not match or match[2] not in SIZE_UNITS:
        raise ValueError("write a number of bytes, or a text such as '64KiB', '96MiB' or '5TiB'")
    return int(float(match[1]) * SIZE_UNITS[match[2]])


def parse_duration(value: object) -> float:
    """Return seconds from a text such as ``10min``. Raise ValueError."""
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if not match or match[2] not in DURATION_UNITS:
        raise ValueError("write a text such as '30s', '10min', '12h' or '30d'")
    return float(match[1]) * DURATION_UNITS[match[2]]


def format_size(size: int) -> str:
    """Return the shortest exact text that ``parse_size`` reads back."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size and size % SIZE_UNITS[unit] == 0:
            return f"{size // SIZE_UNITS[unit]}{unit}"
    return f"{size}B"


def size(low: int, high: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        rule = f"from {format_size(low)} to {format_size(high)}"
        try:
            count = parse_size(value)
        except ValueError as error:
            raise ValueError(f"{error}, {rule}") from None
        if not low <= count <= high:
            raise ValueError(rule)
        return count

    return parse


def duration(low: float, high: float) -> Callable[[object], float]:
    def parse(value: object) -> float:
        rule = f"from {low:g} seconds to {high / 86400:g} days"
        try:
            seconds = parse_duration(value)
        except ValueError as error:
            raise ValueError(f"{error}, {rule}") from None
        if not low <= seconds <= high:
            raise ValueError(rule)
        return seconds

    return parse


def number(low: int, high: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return value

    return parse


def workers(value: object) -> int:
    """How many processes serve clients; "auto" is one for each core that this process may use."""
    if value == "auto":
        return min(WORKERS_MAX, len(os.sched_getaffinity(0)))
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= WORKERS_MAX:
        raise ValueError(f"a whole number from 1 to {WORKERS_MAX}, or 'auto'")
    return value


def one_of(*words: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        if not isinstance(value, str) or value not in words:
            near = difflib.get_close_matches(str(value), words, 1)
            hint = f" (did you mean '{near[0]}'?)" if near else ""
            raise ValueError("one of " + ", ".join(f"'{word}'" for word in words) + hint)
        return value

    return parse


def text(value: object) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("a text that is not empty")
    return value


def texts(rule: str) -> Callable[[object], tuple[str, ...]]:
    def parse(value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or not value or not all(isinstance(item, str) and item for item in value):
            raise ValueError(rule)
        return tuple(str(item) for item in value)

    return parse


def host_names(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) and _HOST_NAME.fullmatch(item) for item in value):
        raise ValueError("a list of host names without ports, such as ['flare.example.com']")
    return tuple(str(item) for item in value)


def host_name(value: object) -> str:
    if not isinstance(value, str) or not _HOST_NAME.fullmatch(value):
        raise ValueError("a host name without a port, such as 's3.example.com'")
    return value.lower()


def region(value: object) -> str:
    if not isinstance(value, str) or not _REGION.fullmatch(value):
        raise ValueError("the name of a region, 1 to 63 of a-z, 0-9 and '-', such as 'us-east-1'")
    return value


def urls(value: object) -> tuple[Endpoint, ...]:
    rule = "a list of the api nodes, such as ['http://127.0.0.1:8000']"
    try:
        return tuple(parse_url(url) for url in texts(rule)(value))
    except ValueError:
        raise ValueError(rule) from None


def parse_url(text: str) -> Endpoint:
    """Parse ``http://host:port`` or ``https://host:port``. Raise ValueError."""
    scheme, separator, place = text.partition("://")
    if not separator or scheme not in ("http", "https"):
        raise ValueError("write http://HOST:PORT or https://HOST:PORT")
    return Endpoint(*parse_listen(place.rstrip("/")), scheme == "https")


def parse_advertised(value: object) -> Endpoint:
    """Parse ``host:port``, or ``https://host:port`` of a node that is called with TLS. Raise ValueError."""
    if isinstance(value, str) and value.startswith(HTTPS):
        return parse_url(value)
    return Endpoint(*parse_listen(value))


def boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def node(value: object) -> NodeName:
    try:
        return parse_node(value if isinstance(value, str) else "")
    except BadName:
        raise ValueError("a node's name has 1 to 63 of A-Z, a-z, 0-9, '.', '_' and '-', such as 'data1'") from None


def zone(value: object) -> str:
    try:
        return parse_node(value if isinstance(value, str) else "")
    except BadName:
        raise ValueError("a zone's name has 1 to 63 of A-Z, a-z, 0-9, '.', '_' and '-', such as 'rack1'") from None


def scheme(value: object) -> str:
    try:
        return parse_scheme(value if isinstance(value, str) else "").text
    except BadRequest:
        raise ValueError(f"{' or '.join(form for form, _ in KINDS)}, such as 'replica:3' or 'rs:4+2'") from None
