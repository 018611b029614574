"""Origin: is a call made by a web page that came from somewhere else? Pure.

A browser lets every page send requests to every address that its machine reaches, this machine's loopback among them.
So what is allowed to this machine, or to everyone, would be allowed to every page that a user opens there. Two ways
lead here, and each leaves a mark that no page can remove:

- A form or a script asks us by our own address. The browser names the page's ``Origin`` with every write, and newer
  ones say ``Sec-Fetch-Site`` with everything (Fetch, 3.1; W3C Fetch Metadata). The page does not see our answers,
  because we never send a CORS field, but a write has happened by then.
- The page's own name is made to lead to our address (DNS rebinding). Then the page is of our origin and may read too.
  ``Host`` still has that name, so it must be one of ours.

Programs that are not browsers send no such marks, and a name or address of ours as ``Host``.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

SAFE_METHODS = frozenset({"GET", "HEAD"})
OWN_SITES = frozenset({"same-origin", "none"})
"""``none``: the user typed the address."""

_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:\[\]/@]+))(?::[0-9]{0,5})?")


def foreign_reason(method: str, fields: Mapping[str, str], names: frozenset[str]) -> str:
    """Return why this call counts as one of a foreign page, with what to do about it; empty if it does not.

    ``fields`` have lower-case names. ``names`` are the host names, in lower case, that we may be called by, beside
    ``localhost`` and every IP address.
    """
    host = fields.get("host", "")
    if not is_own_host(host, names):
        return (
            f"{host[:200]!r} is not a name of this node: call it by its IP address or as localhost, "
            "send the secret of the cluster, or add the name to 'hosts' in the api node's TOML file"
        )
    if "origin" in fields and not _is_same_origin(fields["origin"], host):
        return f"a web page of {fields['origin'][:200]!r} asks for this; only pages of this node may"
    if "sec-fetch-site" in fields and not _is_own_fetch(method, fields):
        return f"a web page of another site asks for this (Sec-Fetch-Site: {fields['sec-fetch-site'][:40]!r})"
    return ""


@lru_cache(256)
def is_own_host(host: str, names: frozenset[str]) -> bool:
    """Return whether a ``Host`` field is an IP address, localhost, one of ``names``, or empty: browsers send one."""
    if not host:
        return True
    match = _HOST.fullmatch(host)
    if match is None:
        return False
    name = (match[2] or "").lower().removesuffix(".")
    if name in names or name == "localhost" or name.endswith(".localhost"):
        return True  # RFC 6761, 6.3: no name server is asked for these
    try:
        ipaddress.ip_address(match[1] or name)
    except ValueError:
        return False
    return True


def _is_same_origin(origin: str, host: str) -> bool:
    """Return whether it is ``http://`` or, behind a proxy, ``https://`` and the host and port that were asked."""
    scheme, _, place = origin.lower().partition("://")
    return scheme in ("http", "https") and place == host.lower()


def _is_own_fetch(method: str, fields: Mapping[str, str]) -> bool:
    if fields["sec-fetch-site"].lower() in OWN_SITES:
        return True
    # The user followed a link to us: a read, shown in a window of its own, which the page that has the link cannot see.
    followed = (fields.get("sec-fetch-mode"), fields.get("sec-fetch-dest")) == ("navigate", "document")
    return followed and method in SAFE_METHODS
