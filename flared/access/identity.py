"""Identity: who calls, as far as the call proves it. Pure.

There are four answers: a caller that proves to know the cluster's secret, one that proves to have an access key, this
machine itself, and everybody else. What each of them may do is decided in ``authorize``, never here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from flared.access.keys import API_AUDIENCE
from flared.http.address import LOOPBACK
from flared.http.eviction import GUEST, STRANGER, TRUSTED, Standing

if TYPE_CHECKING:
    from flared.access.access_key import AccessKey
    from flared.access.keys import Keyring


class Who(Enum):
    ANONYMOUS = "anonymous"
    LOCAL = "local"
    """A process of this machine: the connection comes over its loopback."""
    CLUSTER = "cluster"
    """A holder of the cluster's secret: a node or an operator."""
    KEY = "key"
    """A holder of an access key."""


BY_ANONYMOUS, BY_LOCAL, BY_CLUSTER, BY_KEY = Who
"""The same, for the way of every request: Python 3.11 takes half a microsecond to find a member of an enumeration."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The caller, and what the call proves about the connection."""

    who: Who
    proved: Standing
    claimed: bool = False
    """An Authorization field came along that proved nothing: a wrong secret, or one that was replaced."""
    key: AccessKey | None = None
    """Only of ``KEY``."""

    @property
    def name(self) -> str:
        """Of the access key; empty without one."""
        return self.key.name if self.key is not None else ""

    def __str__(self) -> str:
        """How logs name the caller: ``key:NAME``, or who it is."""
        return f"key:{self.key.name}" if self.key is not None else self.who.value


ANONYMOUS = Identity(BY_ANONYMOUS, STRANGER)
WRONG_SECRET = Identity(BY_ANONYMOUS, STRANGER, claimed=True)
LOCAL = Identity(BY_LOCAL, TRUSTED)
CLUSTER = Identity(BY_CLUSTER, TRUSTED)


def key_identity(key: AccessKey) -> Identity:
    """Return the identity of a caller whose signature was made with this key, found by ``KeyStore.find`` just now."""
    return Identity(BY_KEY, TRUSTED if key.is_admin else GUEST, key=key)


def identify(keyring: Keyring, peer: str, authorization: str | None) -> Identity:
    """Return the identity of a caller at ``peer``, an IP address and port, with this Authorization field.

    A cluster without a secret knows no holder of it: there the field proves nothing.
    """
    if authorization is not None and keyring.secrets and keyring.admits(authorization, API_AUDIENCE):
        return CLUSTER
    if is_local(peer):
        return LOCAL
    return ANONYMOUS if authorization is None else WRONG_SECRET


def is_local(peer: str) -> bool:
    """Return whether this is an address and port of this machine's loopback."""
    return peer.startswith(LOOPBACK)
