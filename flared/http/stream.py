"""One connection's bytes: try first, wait only when it would block; and the bytes received but not used yet.

``Stream`` is the port to the network. ``TcpStream`` is the real one, on the raw non-blocking socket: trio's own
SocketStream costs a checkpoint and a lock for each call, about a third of a small reply.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import socket
import struct
import sys
import termios
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import trio

from flared.errors import BodyTruncated, Busy, ConnectionLost, FlareError, RemoteProtocolError
from flared.http.address import parse_address
from flared.http.eviction import Standing
from flared.http.turns import Ready, Turns

Buffer = bytes | bytearray | memoryview

RECEIVE_BYTES = 16 * 1024
"""Size of one receive of a head: also holds a small body, and is cheap to allocate."""

UNBLOCKED_BYTES_MAX = 4 * 1024 * 1024
"""After so many bytes without waiting, let other tasks run: about a millisecond."""

UNSENT_BYTES_MAX = 512 * 1024
"""How many unsent bytes the kernel accepts from us. Without a limit it takes megabytes for each peer, even a slow one:
five hundred slow readers would have 1.4 GB read for them at once, and held."""

REFILL_COST = 256 * 1024
"""How many bytes one small receive counts as: parsing its content costs more than moving it."""

JOIN_BYTES_MAX = 16 * 1024
"""Up to this size copying parts into one send is cheaper than a sendmsg of them."""

SEND_PARTS_MAX = 512
"""Most parts of one sendmsg; Linux takes 1024."""

_RESET = struct.pack("ii", 1, 0)


class Stream(Protocol):
    """A connection: the bytes of one direction arrive in order or not at all. ConnectionLost once it is gone."""

    peer: str

    @property
    def received(self) -> int: ...

    @property
    def sent(self) -> int: ...

    def receive_nowait(self, size: int) -> bytes | None:
        """Return up to ``size`` bytes that are here; empty at the end; None if there are none yet."""

    def receive_into_nowait(self, buffer: memoryview) -> int | None:
        """As ``receive_nowait``, into ``buffer``; return the number of bytes, 0 at the end."""

    def send_nowait(self, data: Buffer) -> int:
        """Send as much as fits, perhaps nothing; return the number of bytes."""

    def send_parts_nowait(self, parts: Sequence[Buffer]) -> int:
        """As ``send_nowait``, for several buffers in one call."""

    def wait_readable(self) -> Awaitable[None]:
        """Wait until a receive may return something."""

    def wait_writable(self) -> Awaitable[None]:
        """Wait until a send may accept something."""

    def unacknowledged(self) -> int:
        """Return how many sent bytes the peer's host has not acknowledged, as far as that is known."""

    def watch(self, turns: Turns, ready: Ready) -> None:
        """Have ``ready`` called in a turn when a receive or send that would have blocked may succeed."""

    def forget(self, turns: Turns) -> None:
        """Stop the calls of ``watch``; to be called before ``close``."""

    def finish_sending(self) -> None:
        """Send the end of the stream to the peer."""

    def finish_receiving(self) -> None:
        """Make receivers see the end after the bytes that are already here."""

    def abort(self) -> None:
        """Cut the connection: waiting tasks wake up and raise ConnectionLost."""

    def close(self) -> None:
        """Close the connection. No task may be waiting on it."""


class TcpStream:
    """A Stream on a connected socket, of TCP or within this machine, which it owns."""

    __slots__ = ("_fd", "_receive", "_receive_into", "_send", "_socket", "peer", "received", "sent")

    def __init__(self, connected: socket.socket, peer: str) -> None:
        connected.setblocking(False)
        if connected.family != socket.AF_UNIX:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES_MAX)
        self._socket = connected
        self._fd = connected.fileno()
        self._receive = connected.recv
        self._receive_into = connected.recv_into
        self._send = connected.send
        self.peer = peer
        self.received = 0
        self.sent = 0

    def fileno(self) -> int:
        return self._fd

    def receive_nowait(self, size: int) -> bytes | None:
        try:
            data = self._receive(size)
        except BlockingIOError:
            return None
        except OSError as error:
            raise _lost(self.peer, error) from error
        self.received += len(data)
        return data

    def receive_into_nowait(self, buffer: memoryview) -> int | None:
        try:
            count = self._receive_into(buffer)
        except BlockingIOError:
            return None
        except OSError as error:
            raise _lost(self.peer, error) from error
        self.received += count
        return count

    def send_nowait(self, data: Buffer) -> int:
        try:
            count = self._send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise _lost(self.peer, error) from error
        self.sent += count
        return count

    def send_parts_nowait(self, parts: Sequence[Buffer]) -> int:
        try:
            count = self._socket.sendmsg(parts)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise _lost(self.peer, error) from error
        self.sent += count
        return count

    def wait_readable(self) -> Awaitable[None]:
        return trio.lowlevel.wait_readable(self._fd)  # noqa: ASYNC105  # the caller awaits it

    def wait_writable(self) -> Awaitable[None]:
        return trio.lowlevel.wait_writable(self._fd)  # noqa: ASYNC105  # the caller awaits it

    def unacknowledged(self) -> int:
        count = bytearray(4)
        try:
            fcntl.ioctl(self._fd, termios.TIOCOUTQ, count)  # SIOCOUTQ of tcp(7): includes unsent bytes
        except OSError:
            return 0  # the connection is gone, or this is not a TCP socket
        return int.from_bytes(count, sys.byteorder)

    def watch(self, turns: Turns, ready: Ready) -> None:
        turns.watch(self._fd, ready)

    def forget(self, turns: Turns) -> None:
        turns.forget(self._fd)

    def finish_sending(self) -> None:
        self._shut(socket.SHUT_WR)

    def finish_receiving(self) -> None:
        self._shut(socket.SHUT_RD)

    def abort(self) -> None:
        try:
            # The peer accepts nothing: have the kernel drop its unsent bytes instead of keeping them for minutes.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        except OSError:
            return  # closed already
        self._shut(socket.SHUT_RDWR)

    def close(self) -> None:
        self._socket.close()

    def _shut(self, how: int) -> None:
        with contextlib.suppress(OSError):  # the peer has closed it already
            self._socket.shutdown(how)


async def connect_tcp(address: str) -> Stream:
    """Connect to ``host:port``. Raise ConnectionLost if that fails."""
    host, port = parse_address(address)
    try:
        connected = await trio.open_tcp_stream(host, port)
    except OSError as error:
        raise ConnectionLost(f"{address}: {error}") from error
    return TcpStream(socket.socket(fileno=connected.socket.detach()), address)


class Link:
    """A Stream with the bytes received and not used yet; client and server read and write through it.

    ``stall_seconds`` limits each wait for the peer (a client's watchdog); the server has a sweeper instead.
    """

    __slots__ = ("at", "data", "ended_here", "prove", "stall_seconds", "standing", "stream", "unblocked", "waiting")

    def __init__(self, stream: Stream, *, stall_seconds: float = math.inf) -> None:
        self.stream = stream
        self.data = b""
        self.at = 0
        self.stall_seconds = stall_seconds
        self.unblocked = 0
        self.standing = Standing.STRANGER
        """How much the peer has proved on this connection; set by a server's handler."""
        self.prove: Callable[[Standing], None] | None = None
        self.ended_here = False
        """Called when the standing rises."""
        self.waiting = False
        """True while a task waits for the peer; the server's sweeper reads it."""

    def finish_receiving(self) -> None:
        """Receive nothing beyond what is already here: the server stops, or needs the room."""
        self.ended_here = True
        self.stream.finish_receiving()

    def truncated(self, message: str) -> FlareError:
        """Return the error for a stream that ends in the middle of a body: the peer's fault, or ours."""
        if self.ended_here:
            return Busy("the node closed the connection before the whole body arrived: it is stopping or short of room")
        return BodyTruncated(message)

    def raise_standing(self, standing: Standing) -> None:
        """Raise the standing of the peer, if this is more than it has proved before."""
        if standing is not self.standing and standing > self.standing:
            self.standing = standing
            if self.prove is not None:
                self.prove(standing)

    async def refill(self) -> bool:
        """Wait for more bytes and append them; return False at the end."""
        while True:
            more = self.stream.receive_nowait(RECEIVE_BYTES)
            if more is not None:
                break
            await self.wait_readable()
        self.data = self.data[self.at :] + more
        self.at = 0
        await self.moved(REFILL_COST)
        return bool(more)

    def refill_nowait(self) -> bool:
        """Receive without waiting; return whether there was anything, including the end."""
        more = self.stream.receive_nowait(RECEIVE_BYTES)
        if more:
            self.data = self.data[self.at :] + more
            self.at = 0
        return more is not None

    async def receive_into(self, buffer: memoryview) -> int:
        """Receive into ``buffer``, first from the bytes here, then from the stream; return the number, 0 at the end."""
        here = len(self.data) - self.at
        if here:
            count = min(here, len(buffer))
            buffer[:count] = memoryview(self.data)[self.at : self.at + count]
            self.skip(count)
            return count
        while True:
            received = self.stream.receive_into_nowait(buffer)
            if received is not None:
                await self.moved(received)
                return received
            await self.wait_readable()

    def skip(self, count: int) -> None:
        """Drop the next ``count`` bytes, because they have been used."""
        self.at += count
        if self.at == len(self.data):
            self.data = b""
            self.at = 0

    async def read_line(self, limit: int) -> bytes:
        """Return the next line, of at most ``limit`` bytes, without its CRLF.

        Raise RemoteProtocolError, also at the end.
        """
        while True:
            end = self.data.find(b"\n", self.at, self.at + limit + 2)
            if end >= 0:
                break
            if len(self.data) - self.at >= limit + 2:
                raise RemoteProtocolError(f"a line of a chunked body is longer than {limit} bytes")
            if not await self.refill():
                raise self.truncated("the connection ended inside a chunked body")
        line = self.data[self.at : end + 1]
        self.skip(len(line))
        if not line.endswith(b"\r\n") or line.find(b"\r") != len(line) - 2:
            raise RemoteProtocolError("a line of a chunked body does not end in CRLF")
        return line[:-2]

    async def send(self, data: Buffer) -> None:
        """Send all of ``data``. When this returns it may be reused."""
        count = self.stream.send_nowait(data)
        if count != len(data) or count > REFILL_COST:
            await self.send_rest(data, count)

    async def send_parts(self, parts: Sequence[Buffer]) -> None:
        """Send all parts, in as few calls as possible."""
        if sum(map(len, parts)) <= JOIN_BYTES_MAX:
            return await self.send(b"".join(parts))
        at = 0
        while at < len(parts):
            group = parts[at : at + SEND_PARTS_MAX]
            at += len(group)
            count = self.stream.send_parts_nowait(group)
            for part in group:
                if count < len(part):
                    await self.send_rest(part, count)
                    count = 0
                else:
                    count -= len(part)

    async def send_rest(self, data: Buffer, count: int) -> None:
        """Send the rest of ``data`` after ``count`` bytes."""
        await self.moved(count)
        with memoryview(data) as view:
            while count < len(view):
                sent = self.stream.send_nowait(view[count:])
                if sent:
                    count += sent
                    await self.moved(sent)
                else:
                    await self.wait_writable()

    async def send_some(self, data: Buffer, count: int, seconds: float) -> int:
        """Send, for about ``seconds``, from ``data`` after ``count`` bytes.

        Return how many of its bytes are sent then.
        """
        end = trio.current_time() + seconds
        await self.moved(count)
        with memoryview(data) as view:
            while count < len(view):
                sent = self.stream.send_nowait(view[count:])
                if sent:
                    count += sent
                    await self.moved(sent)
                    continue
                with trio.move_on_at(end) as scope:
                    await self.wait_writable()
                if scope.cancelled_caught:
                    break
        return count

    async def moved(self, count: int) -> None:
        """Let other tasks run if this connection never has to wait."""
        self.unblocked += count
        if self.unblocked >= UNBLOCKED_BYTES_MAX:
            self.unblocked = 0
            await trio.lowlevel.checkpoint()

    async def wait_readable(self) -> None:
        await self._wait(self.stream.wait_readable)

    async def wait_writable(self) -> None:
        await self._wait(self.stream.wait_writable)

    async def _wait(self, wait: Callable[[], Awaitable[None]]) -> None:
        self.unblocked = 0
        self.waiting = True
        try:
            if self.stall_seconds == math.inf:
                await wait()
                return
            with trio.move_on_after(self.stall_seconds):
                await wait()
                return
        finally:
            self.waiting = False
        raise ConnectionLost(f"{self.stream.peer} did not move a byte for {self.stall_seconds:g} s")


def _lost(peer: str, error: OSError) -> ConnectionLost:
    return ConnectionLost(f"the connection to {peer} was lost: {error.strerror or error}")
