"""Digests a client promised for its body: computed while it passes, compared before anything is visible."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from flared.errors import BadDigest


@dataclass(frozen=True, slots=True)
class Digests:
    """The digest in the request: 16 bytes of MD5, 32 bytes of SHA-256, or nothing."""

    md5: bytes | None = None
    sha256: bytes | None = None


NO_DIGESTS = Digests()


class BodyDigests:
    """Computes only what was promised. Not thread-safe: feed it in order, one call at a time."""

    def __init__(self, promised: Digests) -> None:
        self._promised = promised
        # usedforsecurity=False: MD5 is the client's checksum here, and a FIPS build would refuse it otherwise.
        self._md5 = hashlib.md5(usedforsecurity=False) if promised.md5 is not None else None
        self._sha256 = hashlib.sha256() if promised.sha256 is not None else None

    @property
    def wanted(self) -> bool:
        return self._md5 is not None or self._sha256 is not None

    def update(self, data: bytes | memoryview) -> None:
        if self._md5 is not None:
            self._md5.update(data)
        if self._sha256 is not None:
            self._sha256.update(data)

    def check(self) -> None:
        """Raise BadDigest if the body is not the one promised."""
        if self._md5 is not None and self._md5.digest() != self._promised.md5:
            raise BadDigest(f"Content-MD5 does not match: the body's MD5 is {self._md5.hexdigest()} (hex)")
        if self._sha256 is not None and self._sha256.digest() != self._promised.sha256:
            raise BadDigest(f"x-flare-content-sha256 does not match: the body's SHA-256 is {self._sha256.hexdigest()}")
