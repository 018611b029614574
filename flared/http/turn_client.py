"""The client's end of one connection in turns: sends a whole request, and passes its whole reply to a callback."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from flared.errors import ConnectionLost, ProtocolError, RemoteProtocolError
from flared.http.parsing import Fields, HeadLimits, find_head_end, parse_reply_fields, parse_status_line
from flared.http.stream import RECEIVE_BYTES, SEND_PARTS_MAX
from flared.http.turns import WRITABLE

if TYPE_CHECKING:
    from flared.http.stream import Buffer, Stream
    from flared.http.turns import Turns

log = logging.getLogger(__name__)


class TurnReply(NamedTuple):
    status: int
    fields: Mapping[str, str]
    """Lower-case names. Read-only: equal heads share it."""
    body: bytes


Replied = Callable[["TurnReply | ProtocolError"], None]
"""Called once for each request, in a turn."""


class TurnClient:
    """One connection, for one request at a time. It owns its stream.

    ``lost`` is called once, when the connection has ended: after the callback of its last request.
    """

    def __init__(
        self, stream: Stream, turns: Turns, *, body_bytes_max: int, lost: Callable[[TurnClient], None]
    ) -> None:
        self._stream = stream
        self._turns = turns
        self._body_bytes_max = body_bytes_max
        self._lost = lost
        self._limits = HeadLimits()
        self._replied: Replied | None = None
        self._unsent: list[memoryview] = []
        self._data = b""
        self._status = 0
        self._fields: Fields | None = None
        """The fields of the reply being received, once its head is here."""
        self._body: bytearray | None = None
        self._filled = 0
        self._known_block = b""
        self._known: tuple[int, Fields] | None = None
        self._closed = False
        self.replies = 0
        """Whole replies so far: if there was one, and the connection then ends without a byte, it was idle too long."""
        stream.watch(turns, self._ready)

    @property
    def busy(self) -> bool:
        return self._replied is not None

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def moved(self) -> int:
        """Bytes moved in both directions, for a watchdog."""
        return self._stream.received + self._stream.sent

    @property
    def received(self) -> int:
        return self._stream.received

    def send(self, parts: Sequence[Buffer], replied: Replied) -> None:
        """Send a request, given as its head and body. The parts must not change until ``replied``."""
        assert self._replied is None, "a connection carries one request at a time"
        assert not self._closed
        self._replied = replied
        try:
            self._push([memoryview(part) for part in parts])
        except ConnectionLost as error:
            self.close(error)

    def close(self, reason: ProtocolError | None = None) -> None:
        """Close the connection; a request in progress gets ``reason``."""
        if self._closed:
            return
        self._shut()
        replied, self._replied = self._replied, None
        if replied is not None:
            replied(reason or ConnectionLost(f"the connection to {self._stream.peer} was closed"))
        self._lost(self)

    def _shut(self) -> None:
        self._closed = True
        self._stream.forget(self._turns)
        self._stream.close()
        self._unsent.clear()

    def _push(self, parts: list[memoryview]) -> None:
        """Send as much as the socket accepts, and the rest when it has room."""
        while parts:
            sent = self._stream.send_parts_nowait(parts[:SEND_PARTS_MAX])
            if not sent:
                break
            while parts and sent >= len(parts[0]):
                sent -= len(parts.pop(0))
            if sent:
                parts[0] = parts[0][sent:]
        self._unsent = parts

    def _ready(self, flags: int) -> None:
        try:
            if self._unsent and flags & WRITABLE:
                self._push(self._unsent)
            while not self._closed and self._receive():
                pass
        except ProtocolError as error:
            self.close(error)
        except Exception:
            log.exception("event=link_failed peer=%s", self._stream.peer)
            self.close()

    def _receive(self) -> bool:
        """Receive what has arrived; return False when there is nothing more for now."""
        if self._body is not None:
            return self._receive_body()
        data = self._stream.receive_nowait(RECEIVE_BYTES)
        if data is None:
            return False
        if not data or self._replied is None:
            # The end of an idle connection is normal; bytes without a request mean that the two ends disagree.
            self.close(ConnectionLost(f"{self._stream.peer} closed the connection without a reply"))
            return False
        self._data = self._data + data if self._data else data
        self._take_head()
        return not self._closed

    def _take_head(self) -> None:
        data = self._data
        end = find_head_end(data, 0, 0, self._limits)
        if end < 0:
            return
        block = data[:end]
        if self._known is None or block != self._known_block:
            # Replies of one size to one kind of request have equal heads: parse those only once.
            line_end = data.index(b"\n") + 1
            status, _ = parse_status_line(data[:line_end])
            fields = parse_reply_fields(data[line_end:end], self._limits)
            if status < 200 or fields.length is None or not 0 <= fields.length <= self._body_bytes_max:
                raise RemoteProtocolError(f"a reply with status {status} and a length of {fields.length}")
            self._known, self._known_block = (status, fields), block
        self._status, self._fields = self._known
        length = self._fields.length
        assert length is not None
        here = len(data) - end
        self._data = b""
        if here > length:
            raise RemoteProtocolError("more bytes than the reply announced")
        if here == length:
            return self._finish(data[end:])
        self._body = bytearray(length)
        self._body[:here] = memoryview(data)[end:]
        self._filled = here
        return None

    def _receive_body(self) -> bool:
        body = self._body
        assert body is not None
        with memoryview(body) as view:
            while self._filled < len(view):
                count = self._stream.receive_into_nowait(view[self._filled :])
                if count is None:
                    return False
                if not count:
                    raise ConnectionLost(f"{self._stream.peer} closed the connection in the middle of a reply")
                self._filled += count
        self._body = None
        self._finish(bytes(body))
        return True

    def _finish(self, body: bytes) -> None:
        replied, self._replied = self._replied, None
        fields = self._fields
        assert replied is not None
        assert fields is not None
        self.replies += 1
        last = bool(self._unsent) or fields.close
        if last:
            # An early reply, or the last one: close the connection before the callback can send another request on it.
            self._shut()
        replied(TurnReply(self._status, fields.values, body))
        if last:
            self._lost(self)
