"""Digests of a body: computed once, while it passes, compared with what the client promised before anything is visible.

A request may promise digests before its body or behind it (``late``), ask for others to be stored, and take the ETag of
its object from the MD5. Each is computed once; the SHA-256 of a body of one chunk is that of the chunk.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Protocol

import trio

from flared.chunks.chunk import INLINE_DIGEST_MAX, digest_of
from flared.errors import BadDigest
from flared.objects.crc import CRC32, CRC32C, CRC64NVME, Crc, Data, combine, updating

if TYPE_CHECKING:
    from flared.background import Threads

MD5, SHA1, SHA256 = "md5", "sha1", "sha256"
CRCS = {"crc32": CRC32, "crc32c": CRC32C, "crc64nvme": CRC64NVME}
CHECKSUMS = (*CRCS, SHA1, SHA256)
"""The algorithms of checksums that are stored and returned."""
SIZES = {MD5: 16, SHA1: 20, SHA256: 32} | {name: crc.size for name, crc in CRCS.items()}


class Tag(Enum):
    """What the ETag of an object is made of."""

    CHUNKS = "the digests of its chunks"
    MD5 = "the MD5 of its body"


Etag = Tag | str
"""A text: the ETag itself, as of a copy."""


@dataclass(frozen=True, slots=True)
class Digests:
    """What a request says of its body: raw digests by algorithm, or nothing."""

    md5: bytes | None = None
    sha256: bytes | None = None
    checksums: Mapping[str, bytes] | None = None
    """Promised, and stored when they are right; of CHECKSUMS."""
    wanted: tuple[str, ...] = ()
    """To be computed and stored, promised or not; of CHECKSUMS."""
    late: Callable[[], Mapping[str, bytes]] | None = None
    """Asked when the body has ended: what came behind it; of ``wanted``."""
    etag: Etag = Tag.CHUNKS
    check: Callable[[bytes], None] | None = None
    """Gets the SHA-256 of the body when it has ended, and raises if it is wrong."""
    check_chunks: Callable[[bytes], None] | None = None
    """Gets the SHA-256 of the digests of its chunks, which are computed anyway, and raises if it is wrong."""


NO_DIGESTS = Digests()


class BodySums(NamedTuple):
    """What is known of a body that is right."""

    etag: str
    """Empty: it is made of the chunks' digests."""
    checksums: dict[str, str]
    """To be stored: base64 by algorithm."""


NO_SUMS = BodySums("", {})


class Running(Protocol):
    """A digest under way: hashlib's, or ours."""

    def update(self, data: Data, /) -> None: ...
    def digest(self) -> bytes: ...


class _RunningCrc:
    def __init__(self, crc: Crc) -> None:
        self._size = crc.size
        self._update = updating(crc)
        self._value = 0

    def update(self, data: Data, /) -> None:
        self._value = self._update(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._size, "big")


def begin(algorithm: str) -> Running:
    """Begin a digest: MD5, or one of CHECKSUMS."""
    crc = CRCS.get(algorithm)
    # usedforsecurity=False: they are checksums here, and a FIPS build would refuse MD5 otherwise.
    return hashlib.new(algorithm, usedforsecurity=False) if crc is None else _RunningCrc(crc)


class BodyDigests:
    """Computes what is asked for, and no more. Not thread-safe: feed it in order, one call at a time."""

    def __init__(self, asked: Digests) -> None:
        self._asked = asked
        self._kept = tuple(dict.fromkeys((*(asked.checksums or ()), *asked.wanted)))
        promised = [*(asked.checksums or {}).items()]
        promised += [
            (name, digest) for name, digest in ((MD5, asked.md5), (SHA256, asked.sha256)) if digest is not None
        ]
        self._promised = promised
        names = {*self._kept, *(name for name, _ in promised)}
        if asked.etag is Tag.MD5:
            names.add(MD5)
        if asked.check is not None:
            names.add(SHA256)
        self._running = {name: begin(name) for name in sorted(names)}
        self._whole: bytes | None = None

    @property
    def wanted(self) -> bool:
        """False: the body need not pass here; ``finish`` alone is enough."""
        return bool(self._running)

    def update(self, data: Data, *, sha256: bytes | None = None) -> None:
        """Take the next bytes. ``sha256``: they are the whole body, and this is its digest."""
        self._whole = sha256
        for name, running in self._running.items():
            if sha256 is None or name != SHA256:
                running.update(data)

    async def update_in(self, threads: Threads, data: memoryview, *, sha256: bytes | None = None) -> None:
        """The same, each algorithm in a thread of its own. The memory is in use until it returns, cancelled or not."""
        if len(data) <= INLINE_DIGEST_MAX:
            return self.update(data, sha256=sha256)
        self._whole = sha256
        async with trio.open_nursery() as nursery:
            for name, running in self._running.items():
                if sha256 is None or name != SHA256:
                    nursery.start_soon(threads.run, running.update, data)
        return None

    def finish(self, chunks: bytes | None = None) -> BodySums:
        """Return what is kept of a body that has ended. Raises BadDigest if it is not the one promised.

        ``chunks`` is the SHA-256 of the digests of its chunks; None where no one can ask for it.
        """
        asked = self._asked
        if asked.check_chunks is not None:
            assert chunks is not None, "the digests of the chunks are not compared here"
            asked.check_chunks(chunks)
        if not self._running:
            return NO_SUMS if asked.etag is Tag.CHUNKS else BodySums(str(asked.etag), {})
        found = {name: running.digest() for name, running in self._running.items()}
        if self._whole is not None and SHA256 in found:
            found[SHA256] = self._whole
        late = [*asked.late().items()] if asked.late is not None else []
        for name, promised in self._promised + late:
            if found.get(name) != promised:
                raise _wrong(name, found.get(name, b""))
        if asked.check is not None:
            asked.check(found[SHA256])
        return BodySums(_etag(asked.etag, found), {name: to_text(found[name]) for name in self._kept})


async def sum_up(threads: Threads, plain: memoryview, passing: BodyDigests) -> tuple[bytes, BodySums]:
    """Return the SHA-256 of a body of a single chunk, and what else is asked about it. Raises BadDigest."""
    digest = await digest_of(threads, plain)
    if passing.wanted:
        await passing.update_in(threads, plain, sha256=digest)
    return digest, passing.finish(hashlib.sha256(digest).digest())


def to_text(digest: bytes) -> str:
    """Return a digest as it is stored and sent."""
    return base64.b64encode(digest).decode()


def composite(algorithm: str, parts: Sequence[bytes]) -> str:
    """Return the checksum of a body in parts that is made of theirs: the digest of them all, and how many there are."""
    running = begin(algorithm)
    for digest in parts:
        running.update(digest)
    return f"{to_text(running.digest())}-{len(parts)}"


def full_object(algorithm: str, parts: Iterable[tuple[bytes, int]]) -> str:
    """Return the CRC of a whole body from those of its parts, each with its length."""
    crc, value = CRCS[algorithm], 0
    for digest, length in parts:
        value = combine(crc, value, int.from_bytes(digest, "big"), length)
    return to_text(value.to_bytes(crc.size, "big"))


def _etag(asked: Etag, found: Mapping[str, bytes]) -> str:
    if isinstance(asked, str):
        return asked
    return found[MD5].hex() if asked is Tag.MD5 else ""


def _wrong(algorithm: str, found: bytes) -> BadDigest:
    return BadDigest(
        f"the {algorithm.upper()} of the body is {to_text(found)} (base64), {found.hex()} (hex), not the one promised",
        algorithm=algorithm,
    )
