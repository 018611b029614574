"""Keys: how the nodes of one cluster prove to each other that they share its secret.

The secret itself never travels. Each listener has an audience of its own, so a token caught at one data node is
worth nothing at another, nor at the api node.

While a secret is being replaced there are several: the first one signs, each one opens. So every node may learn
a new one before the first of them uses it.
"""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flared.names import NodeName

API_AUDIENCE = "api"
SCHEME = "Flare "
CHALLENGE = b"www-authenticate: Flare\r\n"
"""The line of the head that goes with every 401 (RFC 9110, 11.6.1)."""

SECRETS_MAX = 8
"""In one file. Two is what a replacement takes; each one more is one more that may be lost."""
SECRET_BYTES_MIN = 16
"""64 bits even if it is all hex digits; below that the key could be searched for."""
SECRET_BYTES_MAX = 4096
SECRETS_BYTES_MAX = SECRETS_MAX * (SECRET_BYTES_MAX + 2)
"""Of the whole file."""


def parse_secrets(content: bytes) -> tuple[bytes, ...]:
    """Return the secrets in a file, one a line, the one that signs first; surrounding white space is ignored.

    Raises ValueError with what is wrong.
    """
    if len(content) > SECRETS_BYTES_MAX:
        raise ValueError(f"it has more than {SECRETS_BYTES_MAX} bytes; a secret has at most {SECRET_BYTES_MAX}")
    secrets: list[bytes] = []
    for number, line in enumerate(content.split(b"\n"), 1):
        secret = line.strip()
        if not secret:
            continue
        if not SECRET_BYTES_MIN <= len(secret) <= SECRET_BYTES_MAX:
            raise ValueError(
                f"line {number} holds {len(secret)} bytes; a secret has from {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX}"
            )
        if secret in secrets:
            raise ValueError(f"line {number} repeats an earlier one; give each secret once")
        secrets.append(secret)
    if not secrets:
        raise ValueError("it is empty; it should hold the secret of the cluster")
    if len(secrets) > SECRETS_MAX:
        raise ValueError(f"it holds {len(secrets)} secrets; at most {SECRETS_MAX}, one a line")
    return tuple(secrets)


def data_audience(node: NodeName) -> str:
    """Return the audience of calls to this data node."""
    return f"data:{node}"


def node_token(secret: bytes, audience: str) -> str:
    """Return the token that opens ``audience``: 64 hex digits."""
    return hmac.new(secret, audience.encode(), sha256).hexdigest()


def authorization(token: str) -> str:
    """Return the value of the Authorization field that carries ``token``."""
    return SCHEME + token


class Keyring:
    """The secrets that this process goes by now. All who hold it see a change at once."""

    def __init__(self, secrets: Sequence[bytes] = ()) -> None:
        self.change(secrets)

    def change(self, secrets: Sequence[bytes]) -> None:
        """From now on go by these; none: a node on loopback, which lets everyone in."""
        self.secrets = tuple(secrets)
        self._fields: dict[str, tuple[bytes, ...]] = {}

    def token(self, audience: str) -> str | None:
        """Return the token for ``audience``; None if there is no secret."""
        return node_token(self.secrets[0], audience) if self.secrets else None

    def admits(self, field: str | None, audience: str) -> bool:
        """Return whether an Authorization field opens ``audience``, in time that does not depend on where it differs.

        Without a secret everyone is admitted.
        """
        if not self.secrets:
            return True
        if field is None:
            return False
        wanted = self._fields.get(audience)
        if wanted is None:
            wanted = tuple(authorization(node_token(secret, audience)).encode() for secret in self.secrets)
            self._fields[audience] = wanted
        shown = field.encode("utf-8", "surrogateescape")
        return any(hmac.compare_digest(shown, one) for one in wanted)
