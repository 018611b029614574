"""Addresses: parse and print ``host:port``, and open listening sockets on it."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from ipaddress import ip_address
from typing import NamedTuple

from flared.errors import BadRequest

BACKLOG = 1024
"""Connections that the kernel queues while the event loop is busy; it caps this at net.core.somaxconn."""

LOOPBACK = ("127.", "[::1]:")
"""The beginnings of an address and port of this machine's loopback."""

HTTPS = "https://"
"""Begins the address of a node that is called with TLS."""

_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.%]+)\]|([^\s:\[\]/]+)):([0-9]{1,5})")


class Address(NamedTuple):
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Endpoint(NamedTuple):
    """Where another node is called, and whether with TLS."""

    host: str
    port: int
    tls: bool = False

    def __str__(self) -> str:
        return f"{HTTPS if self.tls else ''}{Address(self.host, self.port)}"


def parse_address(text: str) -> Address:
    """Parse ``host:port``, with an IPv6 host in brackets. Raise BadRequest with the rule that the text breaks."""
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match[3]) > 65535:
        raise BadRequest(f"{text!r} is not a valid address: write host:port, such as 10.0.0.5:9000 or [::1]:9000")
    return Address(match[1] or match[2], int(match[3]))


def open_listeners(address: str) -> list[socket.socket]:
    """Open listening sockets on every IP address of ``address``. Raise OSError if one of them cannot be opened.

    Port 0 takes any free port: ``listening_address`` returns which.
    """
    port = parse_address(address).port
    listeners: list[socket.socket] = []
    try:
        for family, place in _places(parse_address(address)):
            # Port 0 on a name with two addresses: the second gets the port of the first.
            wanted = listeners[0].getsockname()[1] if listeners and not port else port
            listeners.append(_listen(family, (place[0], wanted, *place[2:])))
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def resolve(address: Address) -> set[str]:
    """Return every IP address of ``address`` as ``host:port``. Raise OSError if it has none."""
    return {str(Address(str(place[0]), address.port)) for _, place in _places(address)}


def host_names(configured: Iterable[str], listen: Address) -> frozenset[str]:
    """Return the valid Host names of a node, in lower case: this machine's, its listen host, and ``configured``."""
    machine = socket.gethostname()
    return frozenset(name.lower() for name in (machine, machine.partition(".")[0], listen.host, *configured))


def inherited_listeners(descriptors: range) -> list[socket.socket]:
    """Return the listening sockets that another process, such as systemd, has opened for us."""
    return [socket.socket(fileno=descriptor) for descriptor in descriptors]


def listening_address(listener: socket.socket) -> str:
    """Return the address of ``listener`` as ``host:port``."""
    name = listener.getsockname()
    return str(Address(name[0], name[1]))


def _places(address: Address) -> list[tuple[int, tuple[str | int | bytes, ...]]]:
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((int(family), place) for family, _, _, _, place in found))


def _listen(family: int, place: tuple[str | int | bytes, ...]) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(place)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def leads_to_loopback(address: str) -> bool:
    """Return whether ``host:port`` is of this machine, by its loopback address or as localhost."""
    host = address.rpartition(":")[0].removeprefix("[").removesuffix("]")
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False  # another name, which may begin with any digits
