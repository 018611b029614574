"""Dealing: the owner accepts every connection of the port and hands each to the process whose turn it is.

So the processes get equal shares, which neither a shared listening socket nor SO_REUSEPORT promises, systemd's socket
is used like our own, and a worker that dies takes no waiting connection with it. A descriptor travels over a Unix
socket of type SOCK_SEQPACKET with the peer's address as its message. On the way back a worker hands over one end of a
fresh connection on which it passes on a request for the owner.
"""

from __future__ import annotations

import logging
import socket
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from flared.http.server import TcpListener
from flared.http.stream import TcpStream

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flared.http.stream import Stream

log = logging.getLogger(__name__)

PEER_BYTES_MAX = 256
AT = "@"
"""Between the word of a port and the peer's address, which has none."""


def hand_over(through: socket.socket, stream: TcpStream, port: str = "") -> bool:
    """Give the connection to the other process; False if it takes none now, and then nothing has happened.

    ``port`` is the word for the port that it came in at, if that is not the node's own.
    """
    try:
        message = f"{port}{AT}{stream.peer}" if port else stream.peer
        socket.send_fds(through, [message.encode()], [stream.fileno()], socket.MSG_DONTWAIT)
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


class HandedPort:
    """A Listener of the connections of another port that ``HandedListener`` has taken."""

    def __init__(self) -> None:
        self._arrived: deque[Stream] = deque()
        self._more = trio.Event()
        self._closed = False

    def put(self, stream: Stream) -> None:
        """Take a connection. It waits for no longer than the accepting task needs to come round."""
        if self._closed:
            stream.close()
            return
        self._arrived.append(stream)
        self._more.set()

    async def accept(self) -> Stream:
        while not self._arrived:
            if self._closed:
                raise trio.ClosedResourceError
            self._more = trio.Event()
            await self._more.wait()
        return self._arrived.popleft()

    def close(self) -> None:
        self._closed = True
        self._more.set()


class HandedListener:
    """A Listener of connections that another process hands over. It owns the socket."""

    def __init__(self, through: socket.socket, ports: Mapping[str, HandedPort] | None = None) -> None:
        """``ports`` get the connections that came in at them; this listener all others."""
        through.setblocking(False)
        self._socket = through
        self._ports = ports or {}

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
                    port, _, peer = message.decode().rpartition(AT)
                    stream = TcpStream(socket.socket(fileno=descriptors[0]), peer)
                    if port not in self._ports:
                        return stream
                    self._ports[port].put(stream)
                await trio.lowlevel.checkpoint()  # in a flood nothing is waited for, so let others run
            else:  # the kernel has dropped it: this process may open no more files
                log.error("event=accept_failed error='a connection that was handed over found no free descriptor'")

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()
