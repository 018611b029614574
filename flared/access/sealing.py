"""Sealing: secrets of access keys as they are kept, so that metadata and its backups do not give them away. Pure.

    sealed = iv, 12 bytes | AES-256-GCM of the secret, with its tag
    key    = HKDF-SHA256 (RFC 5869) of the cluster's secret
    bound to the access key id and the name: a row whose content came from another one does not open

A signature is checked with the secret itself, so a digest of it would not do. While the cluster's secret is being
replaced there are several: the first one seals, each one opens.
"""

from __future__ import annotations

import hmac
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

IV_BYTES = 12
_SALT = b"flare"
_PURPOSE = b"access key secrets, 1"


class Opened(NamedTuple):
    secret: str
    newest: bool
    """It was sealed with the secret of the cluster that seals now."""


def seal(cluster_secret: bytes, secret: str, access_key_id: str, name: str, iv: bytes) -> bytes:
    """Return the secret, sealed; ``iv`` is fresh and random. Loads OpenSSL once."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return iv + AESGCM(_sealing_key(cluster_secret)).encrypt(iv, secret.encode(), _bound(access_key_id, name))


def unseal(cluster_secrets: Sequence[bytes], sealed: bytes, access_key_id: str, name: str) -> Opened | None:
    """Return the secret; None if none of the cluster's secrets opens it, or it belongs to another key."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    iv, bound = sealed[:IV_BYTES], _bound(access_key_id, name)
    for number, cluster_secret in enumerate(cluster_secrets):
        try:
            secret = AESGCM(_sealing_key(cluster_secret)).decrypt(iv, sealed[IV_BYTES:], bound)
        except (InvalidTag, ValueError):
            continue
        return Opened(secret.decode(), newest=not number)
    return None


def _bound(access_key_id: str, name: str) -> bytes:
    return f"{access_key_id}\0{name}".encode()


@lru_cache(16)
def _sealing_key(cluster_secret: bytes) -> bytes:
    """HKDF; one block of SHA-256 is all that AES-256 takes."""
    extracted = hmac.digest(_SALT, cluster_secret, sha256)
    return hmac.digest(extracted, _PURPOSE + b"\x01", sha256)
