"""Blocks of a piece, verified: the way of all reads that pass on bytes before they have the whole chunk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from flared.chunks.delays import HEDGE_SECONDS
from flared.chunks.read import Search, Source, compare, fill, verify_blocks
from flared.data.pieces import BLOCK_SIZE, Span
from flared.errors import FlareError, NodeUnreachable, PieceCorrupt, Unavailable

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from flared.chunks.chunk import PlacedChunk
    from flared.data.pieces import PieceStream


class Blocks:
    """Blocks of one piece, verified, from the best node that ``search`` finds; from the next one if that fails.

    ``size`` is the piece's. Raises what ``search.take`` raises when there is none left.
    """

    def __init__(self, search: Search, chunk: PlacedChunk, size: int) -> None:
        self._search = search
        self._chunk = chunk
        self._size = size
        self._source: Source | None = None
        self._context: AbstractAsyncContextManager[PieceStream] | None = None
        self._stream: PieceStream | None = None
        self._stream_at = 0

    async def prepare(self, begin: int, end: int) -> None:
        if self._stream is None:
            await self._open_best(begin, end)

    async def fetch(self, begin: int, view: memoryview, end: int) -> None:
        """Fill ``view`` with the blocks from ``begin`` on, from a stream that goes on to ``end``."""
        while True:
            opened = self._stream is None or self._stream_at != begin
            if opened:
                await self.close()
                await self._open_best(begin, end)
            assert self._stream is not None
            assert self._source is not None
            try:
                await fill(self._stream, self._source, view)
                verify_blocks(self._stream.piece, self._source, begin // BLOCK_SIZE, view)
                break
            except trio.Cancelled:
                self._stream_at = -1  # it stands somewhere inside a block: the next call asks anew
                raise
            except FlareError as error:
                await self.close()
                # A stream that rested while a slow client read may have been cut, which is not the fault of the node.
                if opened or not isinstance(error, Unavailable):
                    self._drop_source(error)
        self._stream_at = begin + len(view)
        if self._stream_at >= end:
            await self.close()

    async def fail(self, error: PieceCorrupt) -> None:
        """Discard the last fetch, which did not make the chunk, though its blocks are what was written."""
        await self.close()
        self._drop_source(error)

    def _drop_source(self, error: FlareError) -> None:
        assert self._source is not None
        self._search.fail(self._source, error)
        self._source = None

    async def close(self) -> None:
        context, self._context, self._stream = self._context, None, None
        if context is not None:
            await context.__aexit__(None, None, None)

    async def _open_best(self, begin: int, end: int) -> None:
        while True:
            if self._source is None:
                self._source = self._search.take()
            try:
                await self._open(self._source, begin, end)
                return
            except FlareError as error:
                await self.close()
                self._drop_source(error)

    async def _open(self, source: Source, begin: int, end: int) -> None:
        context = source.store.read(source.name, Span(begin, end, self._size))
        if self._search.has_spare:
            with trio.move_on_after(HEDGE_SECONDS) as scope:
                stream = await context.__aenter__()
            if scope.cancelled_caught:
                raise NodeUnreachable(source.node, f"no answer within {HEDGE_SECONDS} s")
        else:
            stream = await context.__aenter__()
        self._context, self._stream, self._stream_at = context, stream, begin
        compare(self._chunk, source.name, stream.piece)


def blocks_end(end: int, stored: int) -> int:
    """The end of the block that holds the byte before ``end``."""
    return min(-(-end // BLOCK_SIZE) * BLOCK_SIZE, stored)
