"""Enrolment: how a node that knows the cluster's secret gets a certificate, over a network that others listen to. Pure.

    node → api node    its name, a nonce, its request (``certificates``), proof = HMAC(key; name, nonce, request)
    api node → node    authority and certificate, sealed with AES-256-GCM under a key made of ``key`` and the nonce

``key`` is the HMAC of a text under the secret. Neither side needs TLS for it, so it is also how the first certificate
comes, and a node believes the authority because only the cluster can have sealed it. A replayed message gains nothing:
its sender cannot open the answer, whose certificate is for the same key as before.
"""

from __future__ import annotations

import hmac
import json
from typing import TYPE_CHECKING, NamedTuple

from flared.access.invites import IV_BYTES, mac

if TYPE_CHECKING:
    from collections.abc import Sequence

SEALED_BYTES_MAX = 64 * 1024


class Issued(NamedTuple):
    """The answer: both in PEM."""

    authority: bytes
    certificate: bytes


def prove_request(secret: bytes, node: str, nonce: bytes, request: bytes) -> bytes:
    """Return the proof, 32 bytes, that the node knows the secret."""
    return mac(_key(secret), b"proof", node.encode(), nonce, request)


def find_prover(secrets: Sequence[bytes], node: str, nonce: bytes, request: bytes, proof: bytes) -> bytes | None:
    """Return the secret that the proof was made with; None if it is none of these."""
    return next(
        (secret for secret in secrets if hmac.compare_digest(prove_request(secret, node, nonce, request), proof)), None
    )


def seal_issued(issued: Issued, secret: bytes, node: str, nonce: bytes, iv: bytes) -> bytes:
    """Return the answer, sealed for the node that sent this nonce; ``iv`` is fresh and random."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    content = json.dumps([part.decode("ascii") for part in issued]).encode()
    key = _key(secret)
    return iv + AESGCM(mac(key, b"seal", nonce)).encrypt(iv, content, mac(key, b"bound", node.encode(), nonce))


def open_issued(sealed: bytes, secret: bytes, node: str, nonce: bytes) -> Issued:
    """Return what was sealed. Raise ValueError if that was not done for us by this cluster."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    key, iv = _key(secret), sealed[:IV_BYTES]
    opening = AESGCM(mac(key, b"seal", nonce))
    try:
        content = opening.decrypt(iv, sealed[IV_BYTES:], mac(key, b"bound", node.encode(), nonce))
    except (InvalidTag, ValueError):
        raise ValueError("what came was not sealed for us by the cluster of our secret") from None
    authority, certificate = json.loads(content)
    return Issued(authority.encode(), certificate.encode())


def _key(secret: bytes) -> bytes:
    return mac(secret, b"certificates")
