"""Exchange: one small request, its body in hand, and its one reply; what a handler in turns holds instead of a task."""

from __future__ import annotations

import logging
from time import perf_counter
from typing import TYPE_CHECKING, Protocol

from flared.errors import LocalProtocolError
from flared.http.error_body import FAILED, JSON, pack_error
from flared.http.messages import pack_head

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flared.http.eviction import Standing
    from flared.http.parsing import RequestHead


log = logging.getLogger(__name__)


class Sender(Protocol):
    """The connection that an exchange came on."""

    peer: str

    def prove(self, standing: Standing) -> None: ...

    def answer(self, exchange: Exchange, reply: bytes) -> None: ...

    def hand_over(self, exchange: Exchange) -> None: ...


class QuickHandler(Protocol):
    """Answers small requests in turns. It decides; what waits for others is a value that it keeps, not a task."""

    body_bytes_max: int
    """Requests with larger bodies are not offered."""

    def begin(self, exchange: Exchange) -> bool:
        """Take the exchange: it will be sent, or handed over, now or in a later turn, exactly once.

        False if it needs the general way; then nothing must have happened yet.
        """

    def answered(self, exchange: Exchange, status: int) -> None:
        """Count a reply that is about to leave."""


class Exchange:
    """Attributes are those of ``messages.Request``, but for ``body``, which is all here."""

    __slots__ = (
        "_connection",
        "_handler",
        "about",
        "began",
        "body",
        "bucket",
        "call",
        "caller",
        "change",
        "fields",
        "left",
        "memo",
        "method",
        "once",
        "path",
        "peer",
        "query",
        "request_id",
        "sent",
        "sha256",
    )

    def __init__(
        self,
        connection: Sender,
        handler: QuickHandler,
        head: RequestHead,
        body: bytes | bytearray,
    ) -> None:
        self._connection = connection
        self._handler = handler
        self.peer = connection.peer
        self.method, self.path, self.query, _, shared, _ = head
        self.fields: Mapping[str, str] = shared.values
        self.body = body
        self.memo = shared.memo
        """Of the head: equal ones on one connection share it (``parsing.Fields``)."""
        self.began = perf_counter()
        self.request_id: int | str = 0
        self.bucket = ""
        self.call: object = None
        """What the handler takes the request for."""
        self.caller: object = None
        self.about = ""
        self.change: object = None
        """What the handler wants to know of a change once it is answered."""
        self.once: object = None
        """As of a ``messages.Request``."""
        self.sha256 = b""
        """Of the body, if it was computed already."""
        self.sent = False
        self.left: Callable[[], None] | None = None
        """Called when the client leaves before it was answered."""

    @property
    def secure(self) -> bool:
        """The connection is encrypted."""
        return bool(getattr(self._connection, "secure", False))

    def prove(self, standing: Standing) -> None:
        """The handler found that the client has proved so much, for this connection and as long as it lasts."""
        self._connection.prove(standing)

    def send(self, status: int, lines: bytes, body: bytes | memoryview = b"", *, length: int | None = None) -> None:
        """Send the whole reply. If the client has left, nothing happens.

        ``lines`` are ready field lines, each with its CRLF. ``length`` is the Content-Length where it is not that of
        ``body``: in the reply to a HEAD.
        """
        if self.sent:
            raise LocalProtocolError("this request was answered already")
        self.sent = True
        self._handler.answered(self, status)
        head = pack_head(status, lines, b"", len(body) if length is None else length)
        self._connection.answer(self, head if self.method == "HEAD" else b"".join((head, body)))

    def leave(self) -> None:
        """The client has left; a reply would go nowhere."""
        left, self.left = self.left, None
        if left is not None and not self.sent:
            left()

    def fail(self, error: Exception | None) -> None:
        """A bug ended the request: log it, and tell the client no more than that."""
        log.error("event=handler_failed method=%s path=%r", self.method, self.path, exc_info=error)
        self.send(500, JSON, pack_error("InternalError", FAILED, None))

    def hand_over(self) -> None:
        """Have a task begin the request again on the general way. Nothing visible may have happened yet."""
        self.sent = True
        self._connection.hand_over(self)
