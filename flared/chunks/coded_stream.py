"""Streams of coded chunks: data pieces are passed on as they are, one after the other.

A read of a part asks only the nodes that hold it. When a data piece cannot be had, or is known to lack before, the rest
of the chunk is decoded (``WholeStream``), and no node is asked again for what it has just denied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flared.chunks.blocks import Blocks
from flared.chunks.plain_stream import PlainStream
from flared.chunks.read import NOTHING_DENIED, Search
from flared.chunks.scheme import parse_scheme
from flared.chunks.whole_stream import WholeStream
from flared.cluster.states import NodeState
from flared.errors import ChunkLost, PiecesUnreachable

if TYPE_CHECKING:
    from flared.chunks.chunk import Chunks, PlacedChunk
    from flared.chunks.units import ChunkStream


class CodedStream:
    """A part of a large plain chunk of a systematic scheme. A ChunkStream."""

    def __init__(self, chunks: Chunks, chunk: PlacedChunk, start: int, length: int) -> None:
        self._chunks = chunks
        self._chunk = chunk
        self._at = start
        self._end = start + length
        self._size = parse_scheme(chunk.scheme).piece_size(chunk.stored)
        self._search: Search | None = None
        self._current: ChunkStream | None = None
        self._current_end = start
        self._decoding = False
        """The rest is read by a WholeStream."""

    async def prepare(self) -> None:
        if self._at >= self._end:
            return
        current = self._open_current()
        try:
            await current.prepare()
        except (ChunkLost, PiecesUnreachable):
            await self._decode_rest()

    async def next(self, *, slow: bool) -> bytes | memoryview | None:
        while self._at < self._end:
            if self._at >= self._current_end:
                await self.close()
            current = self._open_current()
            try:
                found = await current.next(slow=slow)
            except (ChunkLost, PiecesUnreachable):
                if self._decoding:
                    raise
                await self._decode_rest()
                continue
            assert found is not None, "a stream ends before its part does"
            self._at += len(found)
            return found
        return None

    async def put_back(self, count: int) -> bool:
        if self._current is None or not await self._current.put_back(count):
            return False
        self._at -= count
        return True

    async def close(self) -> None:
        current, self._current = self._current, None
        if current is not None:
            await current.close()

    def _open_current(self) -> ChunkStream:
        """Return the stream of the data piece that holds the next byte; of all the rest, if that is known to lack."""
        if self._current is not None:
            return self._current
        number, begin = divmod(self._at, self._size)
        if self._decoding or not self._is_sound(number):
            return self._open_whole()
        self._current_end = min(self._end, (number + 1) * self._size)
        self._search = Search(self._chunks, self._chunk, only=number)
        blocks = Blocks(self._search, self._chunk, self._size)
        self._current = PlainStream(self._chunks, blocks, self._size, begin, self._current_end - self._at)
        return self._current

    async def _decode_rest(self) -> None:
        await self.close()
        self._open_whole()

    def _open_whole(self) -> ChunkStream:
        self._decoding = True
        denied = NOTHING_DENIED if self._search is None else self._search.failures
        self._current_end = self._end
        self._current = WholeStream(self._chunks, self._chunk, self._at, self._end - self._at, denied=denied)
        return self._current

    def _is_sound(self, number: int) -> bool:
        """Return whether the piece is where the record says, as far as is known."""
        chunk, nodes = self._chunk, self._chunks.nodes
        node = chunk.nodes[number]
        return (
            node is not None
            and number not in chunk.missing
            and not self._chunks.damage.holds(chunk.id, number)
            and nodes.state(node) in (NodeState.ONLINE, NodeState.FULL)
        )
