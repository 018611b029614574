"""Spans: send a large piece, or a part of it, one unit at a time."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from flared.data.disk.buffers import aligned_memory
from flared.data.pieces import BLOCK_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flared.data.volume.reader import OpenPiece
    from flared.http.messages import Reply

UNIT_BYTES = 4 * BLOCK_SIZE
"""Size of one read and one send of a large piece: whole blocks, so that each is verified before it is sent."""

UNITS_MAX = 32
"""Large pieces sent at once with a unit each; 32 MiB."""

SMALL_UNIT_BYTES = 64 * 1024
"""Size of the buffer for any further reader: with a thousand connections another 64 MiB."""


class Units:
    """Buffers of one unit each, 4 KiB-aligned, created when first needed and kept; a small one when all are leased.

    So a reader never waits for another one, which may be as slow as its client.
    """

    def __init__(self) -> None:
        self._lent = 0
        self._free: list[memoryview] = []

    @contextmanager
    def lease(self) -> Iterator[memoryview]:
        if self._lent >= UNITS_MAX:
            yield memoryview(aligned_memory(SMALL_UNIT_BYTES))
            return
        unit = self._free.pop() if self._free else memoryview(aligned_memory(UNIT_BYTES))
        self._lent += 1
        try:
            yield unit
        finally:
            self._lent -= 1
            self._free.append(unit)


async def send_span(reply: Reply, opened: OpenPiece, start: int, end: int, unit: memoryview, *, verify: bool) -> None:
    """Send the stored bytes from ``start`` to ``end`` through ``unit``.

    ``verify``: read whole blocks, and check each before any of its bytes is sent; only the requested part is sent.
    Raise PieceCorrupt, or NoSuchPiece if the piece was deleted in the meantime; a part may have been sent by then.
    """
    at = start - start % BLOCK_SIZE if verify else start
    last = min(opened.piece.size, end + -end % BLOCK_SIZE) if verify else end
    while at < last:
        count = await opened.read_into(at, unit[: min(len(unit), last - at)], verify=verify)
        await reply.write(unit[max(0, start - at) : min(count, end - at)])
        at += count
