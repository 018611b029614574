"""Read one small chunk without a task: ask the best node, and the next one when that fails or is slow.

The same search, the same checks and the same damage notes as in ``chunks.read``; only what waits is a callback. What is
asked for in one turn travels together (``data.transport.links``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import outcome
import trio

from flared.chunks.chunk import INLINE_DIGEST_MAX
from flared.chunks.delays import HEDGE_SECONDS
from flared.chunks.read import Search, compare, decode_whole, read_whole
from flared.errors import FlareError, NodeUnreachable
from flared.log import current_request

if TYPE_CHECKING:
    from flared.chunks.chunk import Chunks, PlacedChunk
    from flared.chunks.read import Source
    from flared.data.pieces import Piece

Done = Callable[["bytes | memoryview | None", "FlareError | None"], None]


async def read_small(chunks: Chunks, chunk: PlacedChunk) -> bytes | memoryview:
    """All plain bytes of a small chunk, verified, from memory if it was read just now. Raises as ``read_whole``."""
    known = chunks.recent.find(chunk.id)
    if known is not None:
        return known
    if chunk.size > INLINE_DIGEST_MAX:
        plain = await read_whole(chunks, chunk)
        chunks.recent.add(chunk.id, plain)
        return plain
    task = trio.lowlevel.current_task()

    def done(plain: bytes | memoryview | None, error: FlareError | None) -> None:
        trio.lowlevel.reschedule(task, outcome.Value(plain) if error is None else outcome.Error(error))

    read = SmallRead(chunks, chunk, done, current_request.get())

    def leave(_: object) -> trio.lowlevel.Abort:
        read.leave()
        return trio.lowlevel.Abort.SUCCEEDED

    chunks.turns.at_end(read.start)
    found: bytes | memoryview = await trio.lowlevel.wait_task_rescheduled(leave)
    return found


class SmallRead:
    """One read on its way. ``done`` is called once, in a turn, unless the reader leaves before.

    The chunk has at most INLINE_DIGEST_MAX plain bytes, so that its digest is computed in the turn.
    """

    __slots__ = ("_chunk", "_chunks", "_done", "_request", "_search", "_source")

    def __init__(self, chunks: Chunks, chunk: PlacedChunk, done: Done, request: int | str) -> None:
        self._chunks = chunks
        self._chunk = chunk
        self._done: Done | None = done
        self._request = request
        self._search = Search(chunks, chunk)
        self._source: Source | None = None
        """Whom it waits for."""

    def start(self) -> None:
        """Ask the best node. ``done`` may be called before this returns."""
        if self._done is None:
            return
        try:
            source = self._source = self._search.best()
        except FlareError as error:
            self._end(None, error)
            return
        source.store.get_nowait(source.name, lambda answer: self._heard(source, answer), self._request)
        if self._search.has_spare and self._source is source:
            self._chunks.hedges.add(lambda: self._pass_over(source))

    def leave(self) -> None:
        """Nobody waits for it any more."""
        self._done = None

    def _heard(self, source: Source, answer: tuple[Piece, bytes] | FlareError) -> None:
        if self._source is not source or self._done is None:
            return  # it was passed over, and another one has been asked
        if isinstance(answer, FlareError):
            return self._fail(source, answer)
        piece, stored = answer
        try:
            compare(self._chunk, source.name, piece)
            plain = decode_whole(self._chunk, piece, stored)
        except FlareError as error:
            return self._fail(source, error)
        self._chunks.recent.add(self._chunk.id, plain)
        return self._end(plain, None)

    def _pass_over(self, source: Source) -> None:
        """The hedge's time has come."""
        if self._source is source and self._done is not None:
            self._fail(source, NodeUnreachable(source.node, f"no answer within {HEDGE_SECONDS} s"))

    def _fail(self, source: Source, error: FlareError) -> None:
        self._search.fail(source, error)
        self.start()

    def _end(self, plain: bytes | memoryview | None, error: FlareError | None) -> None:
        done, self._done, self._source = self._done, None, None
        if done is not None:
            done(plain, error)
