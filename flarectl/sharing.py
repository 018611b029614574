"""Share links: URLs that open one object for a while, signed with an access key."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flarectl.errors import Refusal, Usage
from flarectl.profile import check_endpoint
from flarectl.proof import find_key
from flarectl.settings import find_setting
from flarectl.target import object_path, parse_duration
from flared.access.signing import LINK_SECONDS_MAX, ShareLink, link_query
from flared.http.address import LOOPBACK

if TYPE_CHECKING:
    from flarectl.proof import KeyProof
    from flarectl.target import Target


def parse_expires(text: str) -> int:
    """Return seconds; raise Usage for a text that is not a valid time, or longer than links may work."""
    try:
        seconds = parse_duration(text)
    except Usage:
        seconds = 0
    if not 0 < seconds <= LINK_SECONDS_MAX:
        raise Usage(f"--expires {text}: write a time such as 30min, 12h or 7d, which is the longest")
    return seconds


def find_signer() -> KeyProof:
    """Return the access key that is set. Raise Usage without one."""
    if (key := find_key()) is None:
        raise Usage(
            "a link is signed with an access key, and none is set: flarectl config set access_key ID, "
            "and flarectl config set secret_key (an admin makes one: flarectl key create)"
        )
    return key


def find_public(endpoint: str) -> str:
    """Return the URL by which others reach the api node at ``endpoint``. Raise Usage if that setting is not valid."""
    found = find_setting("public_endpoint")
    return check_endpoint(*found) if found else endpoint


def make_link(key: KeyProof, endpoint: str, method: str, target: Target, until: int) -> str:
    """Return the URL that opens ``target`` at this endpoint until then, seconds since 1970.

    Raise Refusal for a key that no URL can name.
    """
    if {".", ".."} & set(target.key.split("/")):
        raise Refusal(f"{target}: curl and browsers resolve '.' and '..' in a link, so this key cannot be shared")
    path = object_path(target.bucket, target.object_key())
    return f"{endpoint}{path}?{link_query(key.secret, ShareLink(key.access_key, until, method), path)}"


def is_loopback(endpoint: str) -> bool:
    """Return whether an endpoint leads only to the machine that it is used on."""
    host = urlsplit(endpoint).hostname or ""
    return host == "localhost" or f"{host}:".startswith(LOOPBACK) or host == "::1"
