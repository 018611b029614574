"""Access key: what a caller that is not the cluster itself proves to have. Pure.

    access key id = "FL" 18 of A-Z, 2-7      who is asking; it may be seen
    secret        = 40 of base64url          signs; it never travels after it was handed out

A key has a *name*: the identity that grants, owners of buckets and the audit log speak of. Replacing the key keeps it.
"""

from __future__ import annotations

import re
from base64 import b32encode, urlsafe_b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flared.access.grants import Permission
from flared.errors import BadName

if TYPE_CHECKING:
    from flared.access.grants import Grant

ID_BYTES = 12
SECRET_BYTES = 30
_ID_LETTERS = 18

_ID = re.compile(r"FL[A-Z0-9]{18}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True)
class AccessKey:
    """A key that may be used now."""

    id: str
    name: str
    secret: str = field(repr=False, compare=False)
    """Never shown, logged or compared but by ``hmac.compare_digest`` of what it signs."""
    grants: tuple[Grant, ...]
    expires_ms: int = 0
    """Wall clock; 0: never."""
    is_admin: bool = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_admin", any(grant.permission is Permission.ADMIN for grant in self.grants))


def make_id(random: bytes) -> str:
    """Return the access key id made of ``ID_BYTES`` random ones."""
    return "FL" + b32encode(random).decode()[:_ID_LETTERS]


def make_secret(random: bytes) -> str:
    """Return the secret made of ``SECRET_BYTES`` random ones: 240 bits."""
    return urlsafe_b64encode(random).decode()


def is_access_key_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None


def parse_key_name(text: str) -> str:
    """Check the name of an access key; raises BadName."""
    if not _NAME.fullmatch(text):
        raise BadName(f"{text[:80]!r} is not a valid name of a key: use 1 to 63 of A-Z, a-z, 0-9, '.', '_' and '-'")
    return text
