"""The calls for one piece: of any size, whole or a span. ``docs/chunk-api.md`` says what each promises."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from flared.data.pieces import CODEC_PLAIN, LARGE_SIZE, PIECE_SIZE_MAX, Piece, describe_piece
from flared.data.transport import statuses, wire
from flared.data.transport.batch_calls import BINARY
from flared.data.transport.read_coalescer import ReadCoalescer
from flared.data.transport.spans import Units, send_span
from flared.errors import BadRequest, FlareError, TooLarge
from flared.names import parse_piece

if TYPE_CHECKING:
    from flared.data.transport.metrics import CallCounts
    from flared.data.volume.volumes import Volumes
    from flared.http.messages import Reply, Request

_PIECE = BINARY + b"accept-ranges: bytes\r\n"


class PieceCalls:
    """Puts, gets, heads and deletes of one. Small ones that are read at once are read together."""

    def __init__(self, volumes: Volumes, counts: CallCounts) -> None:
        self._volumes = volumes
        self._counts = counts
        self._units = Units()
        self._gather = ReadCoalescer(volumes.read_many)

    async def put(self, request: Request, reply: Reply) -> None:
        started = trio.current_time()
        name = parse_piece(request.path[len(wire.PATH_ONE) :])
        size = request.body.length
        if size is None:
            raise BadRequest("a piece is sent with its Content-Length")
        if size > PIECE_SIZE_MAX:
            raise TooLarge(f"a piece has at most {PIECE_SIZE_MAX} bytes")
        if size < LARGE_SIZE:
            payload = await request.body.read_all(size)
            [stored] = await self._volumes.put_many([(_describe(request, name, payload), payload)])
        else:
            stored = await self._put_large(request, name, size)
        if isinstance(stored, FlareError):
            raise stored
        self._counts.stored += stored
        self._counts.bytes_stored += size
        self._counts.seconds["put"].observe(trio.current_time() - started)
        await reply.send(statuses.STORED if stored else statuses.THERE, b"")

    async def _put_large(self, request: Request, name: str, size: int) -> bool:
        if wire.says_piece(request.fields):
            wire.parse_piece_fields(request.fields, name, size)  # refused before its body is taken
        async with self._volumes.buffers.lease(size) as buffer:
            payload = buffer.payload[:size]
            at = 0
            while at < size:
                at += await request.body.receive_into(payload[at:])
            return await self._volumes.put_large(_describe(request, name, payload), buffer)

    async def get(self, request: Request, reply: Reply) -> None:
        started = trio.current_time()
        name = parse_piece(request.path[len(wire.PATH_ONE) :])
        answer = await self._gather.read(name)
        if isinstance(answer, TooLarge):
            await self._send_large(name, request, reply)
        elif isinstance(answer, FlareError):
            raise answer
        else:
            piece, payload = answer
            span = wire.parse_range(request.fields.get("range"), piece.size)
            body = payload if span is None else memoryview(payload)[span[0] : span[1]]
            await reply.send(200 if span is None else 206, _piece_lines(piece, span), body)
            self._counts.bytes_sent += len(body)
        self._counts.sent += 1
        self._counts.seconds["get"].observe(trio.current_time() - started)

    async def _send_large(self, name: str, request: Request, reply: Reply) -> None:
        opened = await self._volumes.open(name)
        try:
            piece = opened.piece
            span = wire.parse_range(request.fields.get("range"), piece.size)
            start, end = span or (0, piece.size)
            verify = wire.VERIFIES_FIELD not in request.fields
            with self._units.lease() as unit:
                await reply.start(200 if span is None else 206, _piece_lines(piece, span), end - start)
                await send_span(reply, opened, start, end, unit, verify=verify)
            self._counts.bytes_sent += end - start
        finally:
            opened.close()

    async def head(self, request: Request, reply: Reply) -> None:
        piece = await self._volumes.head(parse_piece(request.path[len(wire.PATH_ONE) :]))
        await reply.start(200, _piece_lines(piece, None), piece.size)

    async def delete(self, request: Request, reply: Reply) -> None:
        started = trio.current_time()
        [deleted] = await self._volumes.delete_many([parse_piece(request.path[len(wire.PATH_ONE) :])])
        if isinstance(deleted, FlareError):
            raise deleted
        self._counts.deleted += deleted
        self._counts.seconds["delete"].observe(trio.current_time() - started)
        await reply.send(statuses.DELETED_WHERE_ASKED if self._volumes.left_out else statuses.DELETED, b"")


def _describe(request: Request, name: str, payload: bytes | memoryview) -> Piece:
    """The Piece as its sender described it; a sender that did not (curl) has it computed here."""
    fields = request.fields
    if wire.says_piece(fields):
        return wire.parse_piece_fields(fields, name, len(payload))
    scheme = wire.parse_scheme_field(fields)
    return describe_piece(name, payload, codec=CODEC_PLAIN, scheme=scheme, plain_size=len(payload))


def _piece_lines(piece: Piece, span: tuple[int, int] | None) -> bytes:
    lines = _PIECE + wire.piece_lines(piece)
    return lines + b"content-range: bytes %d-%d/%d\r\n" % (span[0], span[1] - 1, piece.size) if span else lines
