"""Remote: one data node as the api node sees it.

``put`` and ``read`` take a piece of any size. Small ones join batches (``links``); a large one is a request of its own,
from and into the caller's buffers.
Any failure on the way becomes NodeUnreachable here: the rooms above know nothing of HTTP.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import quote

import trio

from flared.access.keys import authorization
from flared.data.pieces import LARGE_SIZE, PieceStream
from flared.data.transport import statuses, wire
from flared.data.transport.arriving import ArrivedPiece, ArrivingPiece
from flared.data.transport.links import LINKS, GetLinks, LinkStatistics, PutLinks
from flared.errors import BadRequest, FlareError, NodeUnreachable, PieceCorrupt, ProtocolError, TooLarge
from flared.http.error_body import parse_error
from flared.http.json_body import parse_json
from flared.http.messages import encode_fields
from flared.http.pool import Pool, PoolSettings, PoolStatistics, Response
from flared.http.stream import Stream, connect_tcp
from flared.http.turn_client import TurnReply
from flared.http.turn_pool import TurnPool
from flared.log import current_request, request_id
from flared.names import REQUEST_FIELD, NodeName, PieceName

if TYPE_CHECKING:
    from types import TracebackType

    from flared.data.pieces import Piece, Span
    from flared.http.turns import Turns

Connect = Callable[[str], Awaitable[Stream]]

CONTROL_CONNECTIONS = 4
"""Deletes, inventories and questions, beside the links: they never wait behind large pieces."""

ANSWER_BYTES_MAX = 1024 * 1024
"""JSON that is not an inventory."""


@dataclass(frozen=True, slots=True)
class RemoteSettings:
    connections_max: int = 16
    """Large pieces under way at once, to and from one node; more wait their turn."""
    links: int = LINKS
    """Batches of small puts under way at once, and as many of gets."""
    connect_seconds: float = 3.0
    stall_seconds: float = 10.0
    """How long the node may move no byte: a slow sync is seconds, a dead host is for ever."""


@dataclass(frozen=True, slots=True)
class RemoteStatistics:
    puts: LinkStatistics
    gets: LinkStatistics
    put_links: PoolStatistics
    get_links: PoolStatistics
    small: PoolStatistics
    large: PoolStatistics


class Remote:
    """One data node. Raises NoSuchPiece, PieceCorrupt, VolumeFull, TooLarge, Unauthenticated and NodeUnreachable."""

    def __init__(
        self,
        name: NodeName,
        address: str,
        token: str | None,
        turns: Turns,
        settings: RemoteSettings | None = None,
        *,
        connect: Connect = connect_tcp,
    ) -> None:
        self.name = name
        self._turns = turns
        self._settings = settings or RemoteSettings()
        self._connect = connect
        self.set_token(token)
        self._put_pool, self._get_pool = [
            TurnPool(
                address,
                turns,
                self._pool_settings(self._settings.links),
                body_bytes_max=wire.GET_BODY_BYTES_MAX,
                connect=connect,
            )
            for _ in range(2)
        ]
        self._puts = PutLinks(name, partial(self._post_batch, self._put_pool), turns, self._settings.links)
        self._gets = GetLinks(name, partial(self._post_batch, self._get_pool), turns, self._settings.links)
        # The forms for turns, which every small request calls, are those of the links.
        self.put_nowait = self._puts.put_nowait
        self.read_nowait = self._gets.read_nowait
        self._make_pools(address)

    @property
    def address(self) -> str:
        return self._small.address

    def set_address(self, address: str) -> None:
        """Use a new address: calls in progress finish on the old one, the others take the new one."""
        if address != self.address:
            self._close_pools()
            self._make_pools(address)
            self._put_pool.move(address)
            self._get_pool.move(address)

    def set_token(self, token: str | None) -> None:
        """Set the token that the next requests carry."""
        self._token = token
        self._fields = [("authorization", authorization(token))] if token else []
        self._small_fields = encode_fields(self._fields)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the links open while the node is known. Small calls are refused before and afterwards."""
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(self._put_pool.run)
                await nursery.start(self._get_pool.run)
                self._puts.open()
                self._gets.open()
                task_status.started()
        finally:
            self._puts.close()
            self._gets.close()
            self._close_pools()

    async def put(self, piece: Piece, payload: bytes | memoryview) -> None:
        """Store one piece; returns when it is durable at the node, or was there already. A small one joins the next
        batch, and is copied if it is not ``bytes``: cancelled, it may be sent all the same. A large one is not read any
        more when this has returned."""
        if piece.size < LARGE_SIZE:
            await self._puts.put(piece, bytes(payload))
            return
        fields = [*self._fields, *wire.piece_fields(piece), *_request_fields()]
        with self._reachable():
            async with self._large.request(
                "PUT", _path(piece.name), fields, [memoryview(payload)], repeatable=True
            ) as response:
                await self._check(response, (statuses.STORED, statuses.THERE))

    def read(self, name: PieceName, span: Span) -> AbstractAsyncContextManager[PieceStream]:
        """Part of a piece, to be received inside the block. Of a small one all comes in the next batch, verified. The
        reader verifies a large one, and compares what it is given with what it asked for."""
        if span.size < LARGE_SIZE:
            return _SmallReading(self, name, span)
        return _LargeReading(self, name, span)

    async def head(self, name: PieceName) -> Piece:
        with self._reachable():
            async with self._small.request("HEAD", _path(name), self._small_fields, repeatable=True) as response:
                await self._check(response, (200,))
                return self._described(response, name)

    async def delete(self, names: Sequence[PieceName]) -> list[FlareError | None]:
        """Delete the pieces; a missing one counts as deleted. Return None or the error for each, in their order."""
        return await self._ask_each(wire.PATH_DELETE, names, statuses.delete_error)

    async def quarantine(self, names: Sequence[PieceName]) -> list[FlareError | None]:
        """Hide the pieces and have them deleted after days; as ``delete`` answers. A put or a read of one of these
        names shows it again. Raises NodeOutdated if the node does not know quarantine."""
        return await self._ask_each(wire.PATH_QUARANTINE, names, statuses.quarantine_error)

    async def _ask_each(
        self, path: str, names: Sequence[PieceName], explain: Callable[[str, str, int], FlareError | None]
    ) -> list[FlareError | None]:
        errors: list[FlareError | None] = []
        for start in range(0, len(names), wire.RECORDS_MAX):
            some = names[start : start + wire.RECORDS_MAX]
            answer = await self._post(path, wire.pack_names(some), 2 * len(some))
            with self._reachable():
                codes = wire.parse_statuses(answer, len(some))
            errors += [explain(self.name, name, status) for name, status in zip(some, codes, strict=True)]
        return errors

    async def _list(self, query: str) -> tuple[list[tuple[str, int]], tuple[str, ...]]:
        page = wire.parse_page(await self._get_json(f"{wire.PATH_LIST}?{query}", wire.LIST_BYTES_MAX))
        if page is None:
            raise NodeUnreachable(self.name, "its inventory is not one")
        return page

    async def list_working(self, after: str, limit: int) -> tuple[list[tuple[str, int]], tuple[str, ...]]:
        """As ``list``, without the volumes that have failed; also return the paths of these."""
        limit = min(limit, wire.LIST_MAX)
        return await self._list(f"after={quote(after, safe='')}&limit={limit}&{wire.WORKING_QUERY}=1")

    async def list(self, after: str, limit: int) -> list[tuple[str, int]]:
        """Return names and sizes of at most ``limit`` pieces after ``after``, in name order; fewer only at the end."""
        return (await self._list(f"after={quote(after, safe='')}&limit={min(limit, wire.LIST_MAX)}"))[0]

    async def status(self) -> dict[str, object]:
        """Return the node's status."""
        answer = await self._get_json("/status", ANSWER_BYTES_MAX)
        if not isinstance(answer, dict):
            raise NodeUnreachable(self.name, "its status is not a JSON object")
        return answer

    async def status_at(self, address: str) -> dict[str, object]:
        """Return the status of a process at another address that claims to be this node, on its own connection."""
        other = Remote(self.name, address, self._token, self._turns, self._settings, connect=self._connect)
        try:
            return await other.status()
        finally:
            other._close_pools()

    def statistics(self) -> RemoteStatistics:
        return RemoteStatistics(
            self._puts.statistics(),
            self._gets.statistics(),
            self._put_pool.statistics(),
            self._get_pool.statistics(),
            self._small.statistics(),
            self._large.statistics(),
        )

    async def _post(self, path: str, body: bytes, limit: int) -> bytes:
        fields = self._small_fields + encode_fields(_request_fields())
        with self._reachable():
            async with self._small.request("POST", path, fields, (body,), repeatable=True) as response:
                await self._check(response, (200,))
                return await self._read(response, limit)

    def _post_batch(
        self, pool: TurnPool, path: str, body: bytes, requests: str, answered: Callable[[bytes | FlareError], None]
    ) -> None:
        fields = self._small_fields + (encode_fields([(REQUEST_FIELD, requests)]) if requests else b"")
        pool.post(path, fields, (body,), lambda reply: answered(self._read_batch(reply)))

    def _read_batch(self, reply: TurnReply | ProtocolError) -> bytes | FlareError:
        """Return the body of a 200, or the error for the reply."""
        if isinstance(reply, ProtocolError):
            return NodeUnreachable(self.name, str(reply))
        if reply.status == 200:
            return reply.body
        return statuses.request_error(
            self.name, reply.status, reply.fields.get(statuses.ERROR_FIELD, ""), parse_error(reply.body).message
        )

    async def _get_json(self, target: str, limit: int) -> object:
        with self._reachable():
            async with self._small.request("GET", target, self._small_fields, repeatable=True) as response:
                await self._check(response, (200,))
                raw = await self._read(response, limit)
        answer = _parse_json(raw)
        if answer is None:
            raise NodeUnreachable(self.name, "its answer is not JSON")
        return answer

    async def _read(self, response: Response, limit: int) -> bytes:
        try:
            return await response.body.read_all(limit)
        except TooLarge as error:
            raise NodeUnreachable(self.name, f"its answer is too long: {error}") from error

    async def _check(self, response: Response, wanted: Sequence[int]) -> None:
        """Raise the error for the answer unless its status is one of ``wanted``."""
        if response.status in wanted:
            return
        message = parse_error(await self._read(response, ANSWER_BYTES_MAX)).message
        raise statuses.request_error(self.name, response.status, response.fields.get(statuses.ERROR_FIELD, ""), message)

    def _described(self, response: Response, name: str) -> Piece:
        """Return the Piece in the answer's fields, which must be the requested one."""
        if wire.PIECE_FIELD not in response.fields:
            raise NodeUnreachable(self.name, "its answer does not say which piece it is")
        try:
            return wire.parse_piece_fields(response.fields, name)
        except BadRequest as error:
            raise NodeUnreachable(self.name, f"its answer does not describe {name}: {error}") from error

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        try:
            yield
        except ProtocolError as error:
            raise NodeUnreachable(self.name, str(error)) from error

    def _make_pools(self, address: str) -> None:
        self._small, self._large = [
            Pool(address, self._pool_settings(connections), self._connect)
            for connections in (CONTROL_CONNECTIONS, self._settings.connections_max)
        ]

    def _pool_settings(self, connections: int) -> PoolSettings:
        settings = self._settings
        return PoolSettings(
            connections_max=connections,
            connect_seconds=settings.connect_seconds,
            stall_seconds=settings.stall_seconds,
        )

    def _close_pools(self) -> None:
        self._small.close()
        self._large.close()

    def _ask(self, name: PieceName, span: Span) -> AbstractAsyncContextManager[Response]:
        fields = [*self._fields, (wire.VERIFIES_FIELD, "1"), *_request_fields()]
        if not _is_whole(span):
            fields.append(("range", f"bytes={span.begin}-{span.end - 1}"))
        return self._large.request("GET", _path(name), fields, repeatable=True)

    async def _accept(self, response: Response, name: PieceName, span: Span) -> PieceStream:
        await self._check(response, (200, 206))
        piece = self._described(response, name)
        wanted = piece.size if _is_whole(span) else max(0, min(span.end, piece.size) - span.begin)
        if response.body.length != wanted:
            raise NodeUnreachable(self.name, f"it sends {response.body.length} bytes of {name} instead of {wanted}")
        return ArrivingPiece(self.name, piece, response.body)


class _LargeReading(AbstractAsyncContextManager[PieceStream]):
    """A request of its own: errors of the node become NodeUnreachable, those of the block inside stay what they are."""

    def __init__(self, remote: Remote, name: PieceName, span: Span) -> None:
        self._remote = remote
        self._name = name
        self._span = span
        self._request = remote._ask(name, span)

    async def __aenter__(self) -> PieceStream:
        with self._remote._reachable():
            response = await self._request.__aenter__()
            try:
                return await self._remote._accept(response, self._name, self._span)
            except BaseException as error:
                await self._request.__aexit__(type(error), error, error.__traceback__)
                raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        # Leaving early may find the connection gone: the pool drops it, and the rest is not needed.
        with suppress(ProtocolError):
            return await self._request.__aexit__(kind, error, traceback)
        return None


class _SmallReading(AbstractAsyncContextManager[PieceStream]):
    """A record of a batch."""

    def __init__(self, remote: Remote, name: PieceName, span: Span) -> None:
        self._remote = remote
        self._name = name
        self._span = span

    async def __aenter__(self) -> PieceStream:
        try:
            piece, payload = await self._remote._gets.read(self._name)
        except TooLarge as error:
            raise PieceCorrupt(f"piece {self._name} on {self._remote.name} is too large: {error}") from error
        return ArrivedPiece(piece, memoryview(payload)[self._span.begin : self._span.end])

    async def __aexit__(self, *_: object) -> None:
        pass


def _is_whole(span: Span) -> bool:
    return span.begin == 0 and span.end == span.size


def _request_fields() -> list[tuple[str, str]]:
    """The field that ties the node's log lines to the request, or the requests, that this call is for."""
    return [(REQUEST_FIELD, request_id())] if current_request.get() else []


def _path(name: str) -> str:
    return wire.PATH_ONE + name


def _parse_json(raw: bytes) -> object:
    """Return the value; None for null and for a text that is not JSON."""
    try:
        value: object = parse_json(raw)
    except ValueError:
        return None
    return value
