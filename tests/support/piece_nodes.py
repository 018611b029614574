"""A data node in memory, for tests of what stands above the wire. Its faults are set from outside."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NoReturn

import trio

from flared.data.pieces import LARGE_SIZE, Piece, piece_is_good
from flared.data.transport.wire import LIST_MAX
from flared.errors import (
    BadDigest,
    FlareError,
    NodeOutdated,
    NodeUnreachable,
    NoSuchPiece,
    PieceCorrupt,
    TooLarge,
    VolumeFull,
)
from flared.names import NodeName, PieceName, parse_piece
from tests.support.links import FakeLink

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from flared.chunks.nodes import PieceNode
    from flared.data.pieces import PieceStream, Span


STALL_SECONDS = 10.0
"""As patient as the real connections are."""
CLOSED = "its links are closed"


class MemoryNode:
    """Is a PieceNode, as ``tests/contract/piece_node.py`` has it.

    ``down`` refuses everything, ``full`` refuses puts, ``silent`` takes calls and never answers.
    """

    def __init__(self, name: str, *, delay: float = 0.001) -> None:
        self.name = NodeName(name)
        self.pieces: dict[str, tuple[Piece, bytes]] = {}
        self.quarantined: dict[str, tuple[Piece, bytes]] = {}
        """Hidden; a put or a read by name shows one again."""
        self.outdated = False
        """It is of a version that does not know quarantine."""
        self.found_damaged: set[str] = set()
        """Pieces that the node knows to be damaged: only these are stored again when they are put again."""
        self.down = False
        self.full = False
        self.silent = False
        self.refusal: FlareError | None = None
        """The error that every call gets, if any."""
        self.failed_volumes: tuple[str, ...] = ()
        """Failed volumes, whose pieces are unknown; ``pieces`` are those of the others."""
        self.delay = delay
        self.link = FakeLink()
        self.puts = 0
        self.lives = 0
        """Streams of an earlier life are cut."""
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None

    def flip(self, name: str, at: int = 0) -> None:
        piece, payload = self.pieces[name]
        changed = bytearray(payload)
        changed[at] ^= 1
        self.pieces[name] = piece, bytes(changed)

    def cut_streams(self) -> None:
        """As a server does with readers that take nothing for long."""
        self.lives += 1

    async def _request(self, size: int = 0) -> None:
        """A call on its way to the node, with so many bytes; raises what keeps it from having an effect."""
        link, resets = self.link, self.link.resets
        if self.silent or link.cut_off_to:
            await self._stall()
        await trio.sleep(self.delay + link.seconds_for(size))
        if link.refusing or resets != link.resets:
            raise NodeUnreachable(self.name, "connection reset")
        if self.refusal is not None:
            raise self.refusal
        if self.down:
            raise NodeUnreachable(self.name, "connection refused")

    async def _reply(self, size: int = 0) -> None:
        """The answer on its way back: what was asked has been done."""
        link = self.link
        if link.replies_to_lose:
            link.replies_to_lose -= 1
            link.replies_lost += 1
            raise NodeUnreachable(self.name, "connection reset")
        if link.cut_off_from:
            await self._stall()
        if link.is_slow:
            await trio.sleep(link.seconds_for(size))

    async def _stall(self) -> NoReturn:
        await trio.sleep(STALL_SECONDS)
        raise NodeUnreachable(self.name, "it stalled")

    def put_nowait(
        self,
        piece: Piece,
        payload: bytes | memoryview,
        done: Callable[[FlareError | None], None],
        request: int | str | None = None,
    ) -> None:
        async def answer() -> None:
            try:
                await self.put(piece, payload)
            except FlareError as error:
                done(error)
            except BaseException:
                done(NodeUnreachable(self.name, CLOSED))
                raise
            else:
                done(None)

        assert len(payload) == piece.size < LARGE_SIZE
        if self._nursery is None:
            done(NodeUnreachable(self.name, CLOSED))
        else:
            self._nursery.start_soon(answer)

    async def put(self, piece: Piece, payload: bytes | memoryview) -> None:
        self._refuse_small_if_stopped(piece.size)
        body = bytes(payload)
        await self._request(len(body))
        self._store(piece, body)
        await self._reply()

    def _refuse_small_if_stopped(self, size: int) -> None:
        if self._nursery is None and size < LARGE_SIZE:
            raise NodeUnreachable(self.name, CLOSED)

    def _store(self, piece: Piece, body: bytes) -> None:
        parse_piece(piece.name)
        if not piece_is_good(piece, body):
            raise BadDigest(f"the body of {piece.name} does not have its checksum")
        self._show(piece.name)
        if piece.name in self.pieces and piece.name not in self.found_damaged:
            return
        if self.full:
            raise VolumeFull(f"node {self.name} is full")
        self.puts += 1
        self.found_damaged.discard(piece.name)
        self.pieces[piece.name] = (piece, body)

    def read_nowait(
        self,
        name: PieceName,
        heard: Callable[[tuple[Piece, bytes] | FlareError], None],
        request: int | str | None = None,
    ) -> None:
        async def answer() -> None:
            try:
                answer = await self._read_small(name)
            except FlareError as error:
                heard(error)
            except BaseException:
                heard(NodeUnreachable(self.name, CLOSED))
                raise
            else:
                heard(answer)

        if self._nursery is None:
            heard(NodeUnreachable(self.name, CLOSED))
        else:
            self._nursery.start_soon(answer)

    async def _read_small(self, name: PieceName) -> tuple[Piece, bytes]:
        self._refuse_small_if_stopped(0)
        await self._request()
        piece, payload = self._find(name)
        if piece.size >= LARGE_SIZE:
            raise TooLarge(f"{name} has {piece.size} bytes: read it alone")
        if not piece_is_good(piece, payload):
            self.found_damaged.add(name)
            raise PieceCorrupt(f"{name} on {self.name} is damaged")
        await self._reply(len(payload))
        return piece, payload

    @asynccontextmanager
    async def read(self, name: PieceName, span: Span) -> AsyncIterator[PieceStream]:
        if span.size < LARGE_SIZE:
            try:
                piece, payload = await self._read_small(name)
            except TooLarge as error:
                raise PieceCorrupt(str(error)) from error
            yield _MemoryStream(piece, payload[span.begin : span.end], self)
            return
        await self._request()
        piece, payload = self._find(name)
        if span.begin and span.begin >= piece.size:
            raise NodeUnreachable(self.name, f"it has no bytes of {name} from {span.begin} on")
        await self._reply()
        yield _MemoryStream(piece, payload[span.begin : span.end], self)

    async def status(self) -> dict[str, object]:
        await self._request()
        await self._reply()
        return {}

    async def status_at(self, address: str) -> dict[str, object]:
        return await self.status()

    async def head(self, name: PieceName) -> Piece:
        await self._request()
        piece, _ = self._find(name)
        await self._reply()
        return piece

    def _find(self, name: str) -> tuple[Piece, bytes]:
        parse_piece(name)
        self._show(name)
        if name not in self.pieces:
            if self.failed_volumes:
                raise NodeUnreachable(self.name, "a volume could not be asked")
            raise NoSuchPiece(f"{name} is not on {self.name}")
        return self.pieces[name]

    async def delete(self, names: Sequence[PieceName]) -> list[FlareError | None]:
        await self._request()
        for name in names:
            parse_piece(name)
        for name in names:
            self.pieces.pop(name, None)
            self.quarantined.pop(name, None)
            self.found_damaged.discard(name)
        await self._reply()
        return [None] * len(names)

    async def quarantine(self, names: Sequence[PieceName]) -> list[FlareError | None]:
        await self._request()
        if self.outdated:
            raise NodeOutdated(f"node {self.name}: no such call")
        for name in names:
            parse_piece(name)
        for name in names:
            if name in self.pieces:
                self.quarantined[name] = self.pieces.pop(name)
        return [None] * len(names)

    def _show(self, name: str) -> None:
        if name in self.quarantined:
            self.pieces.setdefault(name, self.quarantined.pop(name))

    async def list_working(self, after: str, limit: int) -> tuple[list[tuple[str, int]], tuple[str, ...]]:
        await self._request()
        page, failed = self._page(after, limit), self.failed_volumes
        await self._reply()
        return page, failed

    async def list(self, after: str, limit: int) -> list[tuple[str, int]]:
        await self._request()
        if self.failed_volumes:
            raise NodeUnreachable(self.name, "a volume could not be asked")
        page = self._page(after, limit)
        await self._reply()
        return page

    def _page(self, after: str, limit: int) -> list[tuple[str, int]]:
        limit = min(limit, LIST_MAX)
        return [(name, self.pieces[name][0].size) for name in sorted(self.pieces) if name > after][:limit]


async def read_small(node: PieceNode, name: PieceName) -> tuple[Piece, bytes]:
    """A small piece, as it is read in turns; what ``heard`` is called with. It must be called once."""
    answers: list[tuple[Piece, bytes] | FlareError] = []
    finished = trio.Event()

    def heard(answer: tuple[Piece, bytes] | FlareError) -> None:
        answers.append(answer)
        finished.set()

    node.read_nowait(name, heard)
    await finished.wait()
    (answer,) = answers
    if isinstance(answer, FlareError):
        raise answer
    return answer


class _MemoryStream:
    def __init__(self, piece: Piece, payload: bytes, node: MemoryNode) -> None:
        self.piece = piece
        self._rest = memoryview(payload)
        self._node = node
        self._life = node.lives, node.link.resets

    async def receive_into(self, buffer: memoryview) -> int:
        node, link = self._node, self._node.link
        await trio.lowlevel.checkpoint()
        if link.is_slow:
            await trio.sleep(link.seconds_for(min(len(buffer), len(self._rest))))
        if (node.silent or link.cut_off_to or link.cut_off_from) and self._rest:
            await node._stall()
        if node.down or link.refusing or self._life != (node.lives, link.resets):
            raise NodeUnreachable(self._node.name, "connection reset")
        size = min(len(buffer), len(self._rest), 100_000)
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


class MemorySource:
    """A body in memory, given out in parts of ``part`` bytes with ``pause`` seconds before each."""

    def __init__(self, data: bytes, *, known: bool = True, part: int = 65_536, pause: float = 0.0) -> None:
        self.length = len(data) if known else None
        self._rest = memoryview(data)
        self._part = part
        self._pause = pause
        self._due: float | None = None

    async def receive_into(self, buffer: memoryview) -> int:
        if self._due is None:  # what is on its way arrives, whether somebody still waits for it or not
            self._due = trio.current_time() + self._pause
        await trio.sleep_until(self._due)
        self._due = None
        size = min(len(buffer), len(self._rest), self._part)
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size

    async def read_all(self, limit: int) -> bytes:
        await trio.lowlevel.checkpoint()
        assert len(self._rest) <= limit
        data, self._rest = bytes(self._rest), self._rest[:0]
        return data
