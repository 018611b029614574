"""Read one small chunk without a task: ask the best nodes, and the next ones when these fail or are slow.

A Gatherer in turns: the same search, checks and damage notes; only what waits is a callback. What is asked for in one
turn travels together (``data.transport.links``).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import outcome
import trio

from flared.chunks.chunk import INLINE_DIGEST_MAX
from flared.chunks.delays import HEDGE_SECONDS
from flared.chunks.gatherer import read_whole
from flared.chunks.read import Search, compare, decode_whole
from flared.chunks.scheme import parse_scheme
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

    __slots__ = ("_asked", "_chunk", "_chunks", "_done", "_payloads", "_request", "_scheme", "_search", "_used")

    def __init__(self, chunks: Chunks, chunk: PlacedChunk, done: Done, request: int | str) -> None:
        self._chunks = chunks
        self._chunk = chunk
        self._done: Done | None = done
        self._request = request
        self._scheme = parse_scheme(chunk.scheme)
        self._search = Search(chunks, chunk)
        self._asked: list[Source] = []
        """Whom it waits for."""
        self._used: list[Source] = []
        """The sources that have answered with a usable piece."""
        self._payloads: dict[int, bytes] = {}

    def start(self) -> None:
        """Ask for as many pieces as lack. ``done`` may be called before this returns."""
        needed = self._scheme.needed
        while self._done is not None and len(self._asked) + len(self._used) < needed:
            try:
                source = self._search.take()
            except FlareError as error:
                self._end(None, error)
                return
            self._asked.append(source)
            source.store.read_nowait(source.name, partial(self._heard, source), self._request)
            if self._search.has_spare and source in self._asked:
                self._chunks.hedges.add(partial(self._pass_over, source))

    def leave(self) -> None:
        """Drop the read, because its caller is gone."""
        self._done = None

    def _heard(self, source: Source, answer: tuple[Piece, bytes] | FlareError) -> None:
        if source not in self._asked or self._done is None:
            return  # it was passed over, and another one has been asked
        if isinstance(answer, FlareError):
            return self._fail(source, answer)
        piece, payload = answer
        try:
            compare(self._chunk, source.name, piece)
        except FlareError as error:
            return self._fail(source, error)
        self._asked.remove(source)
        self._used.append(source)
        self._payloads[source.number] = payload
        if len(self._used) == self._scheme.needed:
            self._finish()
        return None

    def _finish(self) -> None:
        """Enough is here: decode it, or go on without all of it."""
        try:
            plain = decode_whole(self._chunk, self._scheme.decode(self._payloads, self._chunk.stored))
        except FlareError as error:
            for source in self._used:
                self._search.fail(source, error)
            self._used, self._payloads = [], {}
            return self.start()
        self._chunks.recent.add(self._chunk.id, plain)
        done, self._done = self._done, None
        if done is not None:
            done(plain, None)
        return None

    def _pass_over(self, source: Source) -> None:
        """The hedge's time has come."""
        if source in self._asked and self._done is not None:
            self._fail(source, NodeUnreachable(source.node, f"no answer within {HEDGE_SECONDS} s"))

    def _fail(self, source: Source, error: FlareError) -> None:
        self._asked.remove(source)
        self._search.fail(source, error)
        self.start()

    def _end(self, plain: bytes | memoryview | None, error: FlareError | None) -> None:
        done, self._done = self._done, None
        self._asked = []
        if done is not None:
            done(plain, error)
