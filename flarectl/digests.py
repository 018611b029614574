"""ChunkDigests: the SHA-256 of each chunk of a body that passes by, and of the whole if that is wanted."""

from __future__ import annotations

import hashlib

DEFAULT_CHUNK_SIZE = 8 * 1024 * 1024
SURELY_ONE_CHUNK = 64 * 1024
"""No bucket has smaller chunks."""


class ChunkDigests:
    """Digests a body that is fed in order, in parts of any size; large parts release the interpreter lock."""

    def __init__(self, chunk_size: int, *, whole: bool = False) -> None:
        """``whole``: the digest of the whole will be asked for, too; it takes as long again."""
        self.chunk_size = chunk_size
        self._room = chunk_size
        self._current = hashlib.sha256()
        self._finished: list[bytes] = []
        self._whole = hashlib.sha256() if whole else None

    def update(self, data: memoryview) -> None:
        if self._whole is not None:
            self._whole.update(data)
        while len(data) > 0:
            part = data[: self._room]
            self._current.update(part)
            self._room -= len(part)
            data = data[len(part) :]
            if not self._room:
                self._close()

    def finish(self) -> list[bytes]:
        """Return the digests of all chunks; none for an empty body."""
        if self._room < self.chunk_size:
            self._close()
        return self._finished

    @property
    def by_chunks(self) -> bool:
        """Return whether ``sha256`` is of the chunks' digests."""
        return self._whole is None

    def sha256(self) -> str:
        """Return the digest of the whole, in hex, if it was asked for at the start; else that of the digests of all
        chunks. The body has ended."""
        return (self._whole or hashlib.sha256(b"".join(self.finish()))).hexdigest()

    def _close(self) -> None:
        self._finished.append(self._current.digest())
        self._current = hashlib.sha256()
        self._room = self.chunk_size
