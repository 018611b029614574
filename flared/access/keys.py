"""Keys: how the nodes of one cluster prove to each other that they share its secret.

The secret itself never travels. Each listener has an audience of its own, so a token caught at one data node is
worth nothing at another, nor at the api node.
"""

from __future__ import annotations

import hmac
from hashlib import sha256

from flared.names import NodeName

API_AUDIENCE = "api"
SCHEME = "Flare "


def data_audience(node: NodeName) -> str:
    """The audience of calls to this data node."""
    return f"data:{node}"


def node_token(secret: bytes, audience: str) -> str:
    """The token that opens ``audience``: 64 hex digits."""
    return hmac.new(secret, audience.encode(), sha256).hexdigest()


def authorization(token: str) -> str:
    """The value of the Authorization field that carries ``token``."""
    return SCHEME + token


def is_authorized(field: str | None, token: str | None) -> bool:
    """Whether an Authorization field carries ``token``, in time that does not depend on where they differ.

    Without a token (a node on loopback, no secret configured) everybody is.
    """
    if token is None:
        return True
    if field is None:
        return False
    return hmac.compare_digest(field.encode("utf-8", "surrogateescape"), authorization(token).encode())
