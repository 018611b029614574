"""Dealing: the owner accepts every connection of the port and hands each to the process whose turn it is.

So the processes get equal shares, which neither a shared listening socket nor SO_REUSEPORT promises, systemd's socket
is used like our own, and a worker that dies takes no waiting connection with it. A descriptor travels over a Unix
socket of type SOCK_SEQPACKET with the peer's address as its message. On the way back a worker hands over one end of a
fresh connection on which it passes on a request for the owner.
"""

from __future__ import annotations

import logging
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from flared.http.server import TcpListener
from flared.http.stream import TcpStream

if TYPE_CHECKING:
    from collections.abc import Callable

    from flared.http.stream import Stream

log = logging.getLogger(__name__)

PEER_BYTES_MAX = 256


def hand_over(through: socket.socket, stream: TcpStream) -> bool:
    """Give the connection to the other process; False if it takes none now, and then nothing has happened."""
    try:
        socket.send_fds(through, [stream.peer.encode()], [stream.fileno()], socket.MSG_DONTWAIT)
    except OSError:
        return False
    stream.close()
    return True


class DealingListener:
    """A Listener of the owner: accepts the connections whose turn is the owner's, and deals the others."""

    def __init__(self, listening: socket.socket, deal: Callable[[TcpStream], bool]) -> None:
        """``deal`` returns whether it has handed the connection over."""
        self._below = TcpListener(listening)
        self._deal = deal

    async def accept(self) -> Stream:
        while True:
            stream = await self._below.accept()
            assert isinstance(stream, TcpStream)
            if not self._deal(stream):
                return stream
            await trio.lowlevel.checkpoint()

    def close(self) -> None:
        self._below.close()


class HandedListener:
    """A Listener of connections that another process hands over. It owns the socket."""

    def __init__(self, through: socket.socket) -> None:
        through.setblocking(False)
        self._socket = through

    async def accept(self) -> Stream:
        while True:
            try:
                message, descriptors, _, _ = socket.recv_fds(self._socket, PEER_BYTES_MAX, 1)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._socket)
                continue
            except OSError as error:
                raise trio.ClosedResourceError from error
            if not message:
                raise trio.ClosedResourceError
            if descriptors:
                with suppress(OSError):  # the peer has gone meanwhile
                    return TcpStream(socket.socket(fileno=descriptors[0]), message.decode())
            else:  # the kernel has dropped it: this process may open no more files
                log.error("event=accept_failed error='a connection that was handed over found no free descriptor'")

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()
