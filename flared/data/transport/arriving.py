"""Arriving: the bytes of a piece on their way from a data node, or here already; what ``PieceNode.read`` gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flared.errors import NodeUnreachable, ProtocolError

if TYPE_CHECKING:
    from flared.data.pieces import Piece
    from flared.http.messages import Body
    from flared.names import NodeName


class ArrivingPiece:
    """A PieceStream on its connection."""

    __slots__ = ("_body", "_node", "piece")

    def __init__(self, node: NodeName, piece: Piece, body: Body) -> None:
        self.piece = piece
        self._node = node
        self._body = body

    async def receive_into(self, buffer: memoryview) -> int:
        try:
            return await self._body.receive_into(buffer)
        except ProtocolError as error:
            raise NodeUnreachable(self._node, str(error)) from error


class ArrivedPiece:
    """A PieceStream of what is here already."""

    __slots__ = ("_rest", "piece")

    def __init__(self, piece: Piece, part: memoryview) -> None:
        self.piece = piece
        self._rest = part

    async def receive_into(self, buffer: memoryview) -> int:
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count
