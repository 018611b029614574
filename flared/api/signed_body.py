"""SignedBody: a body whose digest was signed. Its end is handed on only if the whole is what was signed."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

from flared.errors import BadSignature
from flared.http.messages import Body

if TYPE_CHECKING:
    from collections.abc import Callable

    from flared.chunks.chunker import BodySource
    from flared.http.messages import Request
    from flared.objects.digests import Digests


class SignedBody(Body):
    """Reads another body, and digests it on the event loop: for small ones, and forms, which come in small parts.

    ``check`` gets the SHA-256 of the whole, and raises if it is not the one that was signed. Of a body of known length
    that is when its last bytes come, which are then not handed on; else at its end. ``by_chunks``: it gets the SHA-256
    of the digests of the chunks of an object, so such a body can only be put.
    """

    __slots__ = ("_checked", "_left", "_sha256", "body", "by_chunks", "check")

    def __init__(self, body: Body, check: Callable[[bytes], None], *, by_chunks: bool = False) -> None:
        self.length = body.length
        self.body = body
        self.check = check
        self.by_chunks = by_chunks
        self._checked = False
        self._left = body.length
        self._sha256 = sha256()

    async def receive_into(self, buffer: memoryview) -> int:
        count = await self.body.receive_into(buffer)
        self._sha256.update(buffer[:count])
        if self._left is not None:
            self._left -= count
        if not count or self._left == 0:
            self._check_once()
        return count

    async def read_all(self, limit: int) -> bytes:
        if self._left is None:
            return await super().read_all(limit)
        data = await self.body.read_all(limit)
        self._sha256.update(data)
        self._left = 0
        self._check_once()
        return data

    @property
    def left(self) -> int | None:
        return self.body.left

    def _check_once(self) -> None:
        if self.by_chunks:
            raise BadSignature("only an object that is put may be signed by the digests of its chunks")
        if not self._checked:
            self.check(self._sha256.digest())
            self._checked = True


def body_to_put(request: Request, digests: Digests) -> tuple[BodySource, Digests]:
    """Return the body for a put, and what is asked of it: a signed one is digested and checked by the put itself, in a
    thread and beside everything else."""
    body = request.body
    if isinstance(body, SignedBody):
        if body.by_chunks:
            return body.body, replace(digests, check_chunks=body.check)
        return body.body, replace(digests, check=body.check)
    return body, digests
