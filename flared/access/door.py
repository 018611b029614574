"""Door: who may make which call of an api node, until there are access keys.

Whoever proves to know the cluster's secret may do everything, and so may this machine itself. What everybody else may
do is one setting.

What is allowed to this machine or to everybody is not allowed to web pages that came from elsewhere (``origin``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flared.access.keys import API_AUDIENCE, Keyring
from flared.access.origin import foreign_reason
from flared.errors import Forbidden, Unauthenticated
from flared.http.address import LOOPBACK
from flared.http.eviction import GUEST, STRANGER, TRUSTED, Standing

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

UNCHECKED_ORIGIN_PATHS = frozenset({"/healthz", "/cluster/join"})
"""Calls that a foreign page may make: it learns nothing, and changes nothing without a join token."""

OPERATOR_PATHS = frozenset({"/cluster/node", "/cluster/orphans", "/cluster/metadata"})
"""Nodes come and go, what is held back is deleted, and old metadata is accepted by the operator's word alone, whatever
everybody may do with objects."""


SHUT = (
    "this call needs the secret of the cluster (flarectl config set secret_file FILE), "
    "or 'anonymous' in the api node's TOML file must allow it"
)
WRONG_SECRET = "the secret that came with this call is not this cluster's (flarectl config set secret_file FILE)"


@dataclass(frozen=True, slots=True)
class Door:
    keyring: Keyring
    """Whose secret the Authorization field must prove; an empty one: nobody comes from elsewhere."""
    anonymous: frozenset[str]
    hosts: frozenset[str] = frozenset()
    """The names, in lower case, that callers without the secret may call this node by."""

    def check(self, method: str, path: str, peer: str, fields: Mapping[str, str]) -> Standing:
        """Return what the caller has proved if this call may be made; ``peer`` is an IP address and port.

        Raises Unauthenticated for a caller that must prove itself and did not, Forbidden for a foreign web page.
        """
        if peer.startswith(LOOPBACK):
            standing = TRUSTED
        elif path in OPEN_PATHS:
            standing = STRANGER
        elif method in self.anonymous and (path not in OPERATOR_PATHS or method in ANONYMOUS["read"]):
            standing = GUEST
        else:
            self._check_secret(fields.get("authorization"))
            if self.keyring.secrets:
                return TRUSTED
            standing = GUEST
        if path in UNCHECKED_ORIGIN_PATHS:
            return standing
        reason = foreign_reason(method, fields, self.hosts)
        if reason and not self._has_secret(fields):
            raise Forbidden(reason)
        return standing

    def _check_secret(self, authorization: str | None) -> None:
        if not self.keyring.admits(authorization, API_AUDIENCE):
            raise Unauthenticated(SHUT if authorization is None else WRONG_SECRET)

    def _has_secret(self, fields: Mapping[str, str]) -> bool:
        return bool(self.keyring.secrets) and self.keyring.admits(fields.get("authorization"), API_AUDIENCE)
