"""Join tokens: the URLs at which other hosts reach the api node, and how long a token is valid."""

from __future__ import annotations

import ipaddress
import os
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flarectl.errors import Refusal, Usage
from flarectl.profile import check_endpoint, find_secret_file, read_secret
from flarectl.target import parse_duration
from flared.access.invites import VALID_SECONDS_MAX, JoinToken, format_token, invite_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flarectl.answers import Invite

OUR_SECRET = "/etc/flare/secret"
"""On the api node's host, if the Debian package is installed; root may read it."""
APIS_MAX = 16
_ELSEWHERE = {socket.AF_INET: ("192.0.2.1", 9), socket.AF_INET6: ("2001:db8::1", 9)}
"""Addresses for documentation (RFC 5737, RFC 3849): the route to them is the default route of this host."""


def find_secret() -> bytes:
    """Return the secret that signs an invite: the configured one, else that of the api node on this host.

    Raise Failure if there is none.
    """
    path, origin = find_secret_file()
    if not path and os.access(OUR_SECRET, os.R_OK):
        path, origin = OUR_SECRET, "this host"
    if not path:
        raise Usage(
            "an invite needs the secret of the cluster: run this as root on the api node's host, "
            "or name a file with it: flarectl config set secret_file FILE"
        )
    return read_secret(path, origin)


def parse_valid(text: str) -> int:
    """Return seconds; raise Usage for a text that is not a valid time."""
    try:
        seconds = parse_duration(text)
    except Usage:
        seconds = 0
    if not 0 < seconds <= VALID_SECONDS_MAX:
        raise Usage(f"--valid {text}: write a time such as 30min, 12h or 7d, which is the longest")
    return seconds


def parse_apis(urls: Sequence[str]) -> tuple[str, ...]:
    """Raises Usage."""
    if len(urls) > APIS_MAX:
        raise Usage(f"--api may be given at most {APIS_MAX} times")
    return tuple(check_endpoint(url, "--api") for url in urls)


def make_token(invite: Invite, secret: bytes, endpoint: str, named: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """Return the token and the URLs in it. Raise Failure if no other host could reach any of them."""
    apis = tuple(named) or (_find_api(invite.listen, endpoint, "https" if invite.tls else "http"),)
    identity = bytes.fromhex(invite.id)
    return format_token(JoinToken(identity, invite_key(secret, identity), apis, invite.node)), apis


def is_local(url: str) -> bool:
    """Return whether the URL means the host itself, on each host."""
    return _is_loopback(urlsplit(url).hostname or "")


def _find_api(listen: str, endpoint: str, scheme: str) -> str:
    """Return the URL at which other hosts reach an api node that listens there.

    The one of its TOML file, else the one that we use, else, if it is on this host, this host's own address.
    """
    where = urlsplit(f"http://{listen}")
    host, port = where.hostname or "", where.port or 80
    if _is_loopback(host):
        raise Refusal(
            f"the api node listens on {listen}, where no other host reaches it: set listen in its TOML file, "
            "or name the URL at which the new host reaches it with --api"
        )
    if not _is_wildcard(host):
        return f"{scheme}://{listen}"
    if not is_local(endpoint):
        return endpoint if scheme == "http" else f"https://{urlsplit(endpoint).netloc}"
    address = _own_address(socket.AF_INET6 if ":" in host else socket.AF_INET)
    if not address:
        raise Refusal(
            f"the api node listens on {listen}, and this host's own address is unknown: "
            "name the URL at which the new host reaches it with --api"
        )
    return f"{scheme}://{f'[{address}]' if ':' in address else address}:{port}"


def _own_address(family: socket.AddressFamily) -> str:
    """Return an address of this host for others: that of its name, else of its default route; empty if neither."""
    try:
        places = socket.getaddrinfo(socket.gethostname(), None, family, socket.SOCK_STREAM)
    except OSError:
        places = []
    for place in places:
        if not _is_loopback(str(place[4][0])) and "%" not in str(place[4][0]):
            return str(place[4][0])
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(_ELSEWHERE[family])  # UDP: connecting sends nothing
            return str(probe.getsockname()[0])
    except OSError:
        return ""


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_wildcard(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
