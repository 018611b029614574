"""Invites: how a host that does not know the cluster's secret yet gets it, once, over a network that others listen to.

An invite has a random id. Its **key** is the HMAC of that id under the secret: it can be computed from the secret,
so it is kept nowhere, and a secret that is replaced takes its invites along. The **join token** carries id and key to
the new host, as one word, on a way that the operator trusts. From there on:

    new host → api node    id, its node's name, a nonce of its own, proof = HMAC(key; id, name, nonce)
    api node → new host    the secrets, sealed with AES-256-GCM under a key made of the invite's key and the nonce

The proof tells nothing of the key, a listener can open nothing, and only the cluster can have sealed it. A
replayed message gains nothing: the api node answers a used invite only to the nonce that used it.
"""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from flared.access.keys import SECRETS_BYTES_MAX, parse_secrets

if TYPE_CHECKING:
    from collections.abc import Sequence

INVITE_BYTES = 16
NONCE_BYTES = 16
KEY_BYTES = 16
IV_BYTES = 12
VALID_SECONDS_MAX = 7 * 86400
PREFIX = "flare1-"
TOKEN_CHARS_MAX = 4096
SEALED_BYTES_MAX = SECRETS_BYTES_MAX + 64
_CHECK_BYTES = 4
_URL = re.compile(r"https?://[!-~]{1,300}")


@dataclass(frozen=True, slots=True)
class JoinToken:
    """An invite as the host sees that it is for."""

    invite: bytes
    key: bytes
    apis: tuple[str, ...]
    """URLs of the api nodes, as that host reaches them."""
    node: str = ""
    """The only name the new node may have; empty: any."""


def format_token(token: JoinToken) -> str:
    """Return the token as one word."""
    content = token.invite + token.key + "\n".join((token.node, *token.apis)).encode()
    return PREFIX + urlsafe_b64encode(content + _check(content)).decode().rstrip("=")


def parse_token(text: str) -> JoinToken:
    """Return the token in a word. Raises ValueError with what is wrong."""
    wrong = ValueError(
        f"this is not a whole join token: copy the whole word, {PREFIX}…, that flarectl node invite printed"
    )
    word = text.strip()
    if not word.startswith(PREFIX) or len(word) > TOKEN_CHARS_MAX:
        raise wrong
    encoded = word.removeprefix(PREFIX)
    try:
        content = urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
        content, check = content[:-_CHECK_BYTES], content[-_CHECK_BYTES:]
        head, texts = content[: INVITE_BYTES + KEY_BYTES], content[INVITE_BYTES + KEY_BYTES :].decode()
    except ValueError:
        raise wrong from None
    node, *apis = texts.split("\n")
    if check != _check(content) or not apis or not all(map(_URL.fullmatch, apis)):
        raise wrong
    return JoinToken(head[:INVITE_BYTES], head[INVITE_BYTES:], tuple(apis), node)


def invite_key(secret: bytes, invite: bytes) -> bytes:
    """Return the key of an invite."""
    return mac(secret, b"invite", invite)[:KEY_BYTES]


def prove(key: bytes, invite: bytes, node: str, nonce: bytes) -> bytes:
    """Return the proof, 32 bytes, that the new host has the token."""
    return mac(key, b"proof", invite, node.encode(), nonce)


def find_key(secrets: Sequence[bytes], invite: bytes, node: str, nonce: bytes, proof: bytes) -> bytes | None:
    """Return the key of the invite, under the secret that its token was made with; None if the proof is wrong."""
    keys = (invite_key(secret, invite) for secret in secrets)
    return next((key for key in keys if hmac.compare_digest(prove(key, invite, node, nonce), proof)), None)


def is_of_cluster(token: JoinToken, secrets: Sequence[bytes]) -> bool:
    """Return whether the token was made by the cluster with one of these secrets."""
    return any(hmac.compare_digest(invite_key(secret, token.invite), token.key) for secret in secrets)


def seal(secrets: Sequence[bytes], key: bytes, invite: bytes, node: str, nonce: bytes, iv: bytes) -> bytes:
    """Return the secrets, sealed for the host that sent this nonce; ``iv`` is fresh and random. Loads OpenSSL once."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    sealing = AESGCM(mac(key, b"seal", nonce))
    return iv + sealing.encrypt(iv, b"\n".join(secrets), mac(key, b"bound", invite, node.encode(), nonce))


def unseal(sealed: bytes, key: bytes, invite: bytes, node: str, nonce: bytes) -> tuple[bytes, ...]:
    """Return the secrets. Raises ValueError if they were not sealed for us by this cluster."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    opening, iv = AESGCM(mac(key, b"seal", nonce)), sealed[:IV_BYTES]
    try:
        content = opening.decrypt(iv, sealed[IV_BYTES:], mac(key, b"bound", invite, node.encode(), nonce))
    except (InvalidTag, ValueError):
        raise ValueError("what came was not sealed for us by the cluster of this join token") from None
    return parse_secrets(content)


def mac(key: bytes, purpose: bytes, *parts: bytes) -> bytes:
    """Return the HMAC of the parts, none of which can pass for another: the length of each goes with it."""
    return hmac.digest(key, purpose + b"".join(b"\0%d:%b" % (len(part), part) for part in parts), sha256)


def _check(content: bytes) -> bytes:
    """Return what reveals a word that lost a letter; it proves nothing."""
    return sha256(content).digest()[:_CHECK_BYTES]
