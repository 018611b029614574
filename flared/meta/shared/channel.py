"""Channel: frames over a connected Unix socket, in turns.

What is sent leaves at once as far as the kernel takes it, else when it has room. What comes is given away in order, one
frame a call. A channel ends once, for whichever reason, and says so once.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from flared.meta.shared.frames import FRAME_BYTES_MAX, HEAD, BadFrame, Kind

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from flared.http.turns import Turns

log = logging.getLogger(__name__)

RECEIVE_BYTES = 256 * 1024
UNSENT_BYTES_MAX = 2 * FRAME_BYTES_MAX
"""An end that leaves so much lie is not coming back."""


class Channel:
    """One end. It owns the socket. ``receive`` gets each frame; it may raise BadFrame, which ends the channel."""

    def __init__(
        self,
        connected: socket.socket,
        turns: Turns,
        receive: Callable[[Kind, bytes], None],
        ended: Callable[[str], None],
    ) -> None:
        connected.setblocking(False)
        self._socket = connected
        self._turns = turns
        self._receive = receive
        self._ended = ended
        self._unsent = bytearray()
        self._received = bytearray()
        self._open = True
        turns.watch(connected.fileno(), self._ready)

    @property
    def open(self) -> bool:
        return self._open

    def send(self, kind: Kind, payload: bytes) -> None:
        """Send a frame. Once the channel has ended, nothing happens."""
        if len(payload) > FRAME_BYTES_MAX:
            raise ValueError(f"a frame of {len(payload)} bytes")
        if not self._open:
            return
        waiting = bool(self._unsent)
        self._unsent += HEAD.pack(len(payload), kind)
        self._unsent += payload
        if not waiting:
            self._push()
        elif len(self._unsent) > UNSENT_BYTES_MAX:
            self.close("it does not read what it is sent")

    def close(self, reason: str) -> None:
        """End it; ``ended`` gets the reason."""
        if not self._open:
            return
        self._open = False
        self._turns.forget(self._socket.fileno())
        self._socket.close()
        self._unsent.clear()
        self._ended(reason)

    def _push(self) -> None:
        try:
            while self._unsent:
                with memoryview(self._unsent) as view:
                    sent = self._socket.send(view)
                del self._unsent[:sent]
        except BlockingIOError:
            pass  # the rest goes when the socket is writable
        except OSError as error:
            self.close(error.strerror or str(error))

    def _ready(self, _flags: int) -> None:
        if self._unsent:
            self._push()
        while self._open:
            try:
                data = self._socket.recv(RECEIVE_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                return self.close(error.strerror or str(error))
            if not data:
                return self.close("it has closed the connection")
            self._received += data
            try:
                self._take_frames()
            except BadFrame as error:
                log.error("event=bad_frame message=%r", str(error))
                return self.close(str(error))

    def _take_frames(self) -> None:
        received, at = self._received, 0
        while self._open and len(received) - at >= HEAD.size:
            length, kind = HEAD.unpack_from(received, at)
            if length > FRAME_BYTES_MAX:
                raise BadFrame(f"a frame of {length} bytes is announced")
            end = at + HEAD.size + length
            if end > len(received):
                break
            payload = bytes(received[at + HEAD.size : end])
            at = end
            try:
                known = Kind(kind)
            except ValueError:
                raise BadFrame(f"a frame has the kind {kind}") from None
            self._receive(known, payload)
        del received[:at]
