"""Proof: what a call shows to say who makes it: the signature of an access key, the cluster's secret, or nothing."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from flarectl.errors import Usage
from flarectl.profile import read_secret, secret_fields_of
from flarectl.settings import VARIABLES, Source, sources

if TYPE_CHECKING:
    from collections.abc import Mapping

EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"""Of a call without a body."""
IN_TRAILER = "TRAILER"
"""In place of the SHA-256 of a body that is followed by its digest."""
CHUNKS_IN_TRAILER = "TRAILER-CHUNKS"
"""The same for the digest of the digests of its chunks."""


class Proof:
    """Shows nothing. ``signs`` says whether bodies are covered, too."""

    signs = False

    def fields(
        self, method: str, target: str, host: str, fields: Mapping[str, str], sha256: str = EMPTY_SHA256
    ) -> dict[str, str]:
        """Return the fields that go with a call: one attempt of it. ``target`` is path and query as they are sent,
        ``host`` the field; ``sha256`` in hex is of the body, or says that its digest follows it."""
        return {}

    def trailer(self, head: Mapping[str, str], sha256: str, *, by_chunks: bool) -> dict[str, str]:
        """Return the fields behind a body, below a head that was signed with IN_TRAILER or CHUNKS_IN_TRAILER."""
        return {}


class SecretProof(Proof):
    """Shows that we know the secret of the cluster."""

    def __init__(self, secret: bytes) -> None:
        self._fields = secret_fields_of(secret)

    def fields(
        self, method: str, target: str, host: str, fields: Mapping[str, str], sha256: str = EMPTY_SHA256
    ) -> dict[str, str]:
        return self._fields


class KeyProof(Proof):
    """Signs with an access key, in the strict form of ``flared.access.signing``."""

    signs = True

    def __init__(self, access_key: str, secret: str, origin: str) -> None:
        self.access_key = access_key
        self.secret = secret
        self.origin = origin

    def fields(
        self, method: str, target: str, host: str, fields: Mapping[str, str], sha256: str = EMPTY_SHA256
    ) -> dict[str, str]:
        from flared.access.signing import Claim, sign, signed_fields

        path, _, query = target.partition("?")
        claim = Claim(self.access_key, int(time.time()), sha256, "", os.urandom(16).hex())
        return signed_fields(claim, sign(self.secret, claim, method, path, query, {**fields, "host": host}))

    def trailer(self, head: Mapping[str, str], sha256: str, *, by_chunks: bool) -> dict[str, str]:
        from flared.access.signing import CONTENT_SHA256, SIGNATURE, TRAILER_SIGNATURE, sign_trailer

        signature = sign_trailer(self.secret, head[SIGNATURE], sha256, by_chunks=by_chunks)
        return {CONTENT_SHA256: sha256, TRAILER_SIGNATURE: signature}


def find_proof() -> Proof:
    """Return the proof that is set: an access key before a file with the secret, where both stand in one place.

    Raise Failure if half of a key is set, or the file cannot be read.
    """
    for source in sources("access_key", "secret_key", "secret_file"):
        if (key := _key_in(source)) is not None:
            return key
        if path := source.values.get("secret_file"):
            return SecretProof(read_secret(path, source.origin("secret_file")))
    return Proof()


def find_key() -> KeyProof | None:
    """Return the access key that every call is signed with; None if there is none. Raise Failure as above."""
    proof = find_proof()
    return proof if isinstance(proof, KeyProof) else None


def _key_in(source: Source) -> KeyProof | None:
    access_key, secret = source.values.get("access_key"), source.values.get("secret_key")
    if access_key is None and secret is None:
        return None
    if access_key is None or secret is None:
        there, lacking = ("access_key", "secret_key") if secret is None else ("secret_key", "access_key")
        advice = f"flarectl config set {lacking}" if source.is_file else f"set {VARIABLES[lacking]} as well"
        raise Usage(f"{source.origin(there)} has a {there} without a {lacking}: {advice}")
    return KeyProof(access_key.strip(), secret.strip(), source.origin("access_key"))
