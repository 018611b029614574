"""Door: who may make which call of an api node, until there are access keys.

Whoever proves to know the cluster's secret may do everything, and so may this machine itself. What everybody else may
do is one setting.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flared.access.keys import API_AUDIENCE, Keyring

if TYPE_CHECKING:
    from collections.abc import Mapping

ANONYMOUS: Mapping[str, frozenset[str]] = {
    "none": frozenset(),
    "read": frozenset({"GET", "HEAD"}),
    "read-write": frozenset({"GET", "HEAD", "PUT", "POST", "DELETE"}),
}
"""The methods open to everybody, by the word of the setting."""

OPEN_PATHS = frozenset({"/healthz", "/cluster/heartbeat", "/cluster/join"})
"""Health tells nothing; a heartbeat and a host that joins have checks of their own."""

LOOPBACK = ("127.", "[::1]:")
NODE = "/cluster/node"
"""Nodes come and go by the operator's word alone, whatever everybody may do with objects."""


@dataclass(frozen=True, slots=True)
class Door:
    keyring: Keyring
    """Whose secret the Authorization field must prove; an empty one: nobody comes from elsewhere."""
    anonymous: frozenset[str]

    def admits(self, method: str, path: str, peer: str, authorization: str | None) -> bool:
        """Whether this call may be made. ``peer`` is an IP address and port."""
        if peer.startswith(LOOPBACK) or path in OPEN_PATHS:
            return True
        if method in self.anonymous and (path != NODE or method in ANONYMOUS["read"]):
            return True
        return self.keyring.admits(authorization, API_AUDIENCE)
