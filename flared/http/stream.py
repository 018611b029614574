"""One connection's bytes: try first, wait only when it would block; and what was received but not used yet.

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
"""One receive of a head: also holds a small body, and is cheap to allocate."""

UNBLOCKED_BYTES_MAX = 4 * 1024 * 1024
"""So much may move without waiting before the other tasks get a turn: about a millisecond."""

UNSENT_BYTES_MAX = 512 * 1024
"""What the kernel takes of us beyond what it has sent to the peer. Without a limit it takes megabytes for each peer,
however slow: five hundred that hardly read would have 1.4 GB read for them at once, and held."""

REFILL_COST = 256 * 1024
"""What one small receive counts towards that: parsing its content costs more than moving it."""

JOIN_BYTES_MAX = 16 * 1024
"""Up to here copying parts into one send is cheaper than a sendmsg of them."""

SEND_PARTS_MAX = 512
"""Parts of one sendmsg; Linux takes 1024."""

_RESET = struct.pack("ii", 1, 0)


class Stream(Protocol):
    """A connection: the bytes of one direction arrive in order or not at all. ConnectionLost once it is gone."""

    peer: str

    @property
    def received(self) -> int: ...

    @property
    def sent(self) -> int: ...

    def receive_nowait(self, size: int) -> bytes | None:
        """What is there, up to ``size`` bytes; empty at the end; None if there is nothing yet."""

    def receive_into_nowait(self, buffer: memoryview) -> int | None:
        """The same into ``buffer``; 0 at the end."""

    def send_nowait(self, data: Buffer) -> int:
        """Hand over as much as fits, perhaps nothing; the number of bytes."""

    def send_parts_nowait(self, parts: Sequence[Buffer]) -> int:
        """The same for several buffers, in one go."""

    def wait_readable(self) -> Awaitable[None]:
        """Await it to go on when a receive may bring something."""

    def wait_writable(self) -> Awaitable[None]:
        """Await it to go on when a send may take something."""

    def unacknowledged(self) -> int:
        """How many of the bytes sent have not been acknowledged by the peer's host, as far as that can be known."""

    def watch(self, turns: Turns, ready: Ready) -> None:
        """Have ``ready`` called in a turn when a receive or a send that would have blocked may bring something."""

    def forget(self, turns: Turns) -> None:
        """Call it no more; before ``close``."""

    def finish_sending(self) -> None:
        """Tell the peer that nothing more will come."""

    def finish_receiving(self) -> None:
        """Whoever waits for bytes sees the end, after those that are already here."""

    def abort(self) -> None:
        """Cut the connection: whoever waits on it wakes and finds it gone."""

    def close(self) -> None:
        """Give it up. Nobody may be waiting on it."""


class TcpStream:
    """A Stream on a connected TCP socket, which it owns."""

    __slots__ = ("_fd", "_receive", "_receive_into", "_send", "_socket", "peer", "received", "sent")

    def __init__(self, connected: socket.socket, peer: str) -> None:
        connected.setblocking(False)
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
            fcntl.ioctl(self._fd, termios.TIOCOUTQ, count)  # SIOCOUTQ of tcp(7): what is not sent yet, too
        except OSError:
            return 0  # the peer was faster, or this is no socket of the internet
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
            # The peer takes nothing: drop what the kernel still holds for it, instead of keeping it for minutes.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        except OSError:
            return  # closed already
        self._shut(socket.SHUT_RDWR)

    def close(self) -> None:
        self._socket.close()

    def _shut(self, how: int) -> None:
        with contextlib.suppress(OSError):  # the peer was faster
            self._socket.shutdown(how)


async def connect_tcp(address: str) -> Stream:
    """Connect to ``host:port``; ConnectionLost if nobody answers there."""
    host, port = parse_address(address)
    try:
        connected = await trio.open_tcp_stream(host, port)
    except OSError as error:
        raise ConnectionLost(f"{address}: {error}") from error
    return TcpStream(socket.socket(fileno=connected.socket.detach()), address)


class Link:
    """A Stream with what was received from it and not used yet; both ends of HTTP read and write through it.

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
        """What the peer has proved on this connection; only a server's handler says so."""
        self.prove: Callable[[Standing], None] | None = None
        self.ended_here = False
        """Called when it rises."""
        self.waiting = False
        """Whether some task waits for the peer just now; the server's sweeper looks at it."""

    def finish_receiving(self) -> None:
        """Take no more than what is already here, because the server stops or needs the room."""
        self.ended_here = True
        self.stream.finish_receiving()

    def truncated(self, message: str) -> FlareError:
        """What the end of the stream in the middle of a body means: the peer's fault, or ours."""
        if self.ended_here:
            return Busy("the node closed the connection before the body was here: it is stopping or short of room")
        return BodyTruncated(message)

    def raise_standing(self, standing: Standing) -> None:
        """The peer has proved so much; it keeps the most it ever proved."""
        if standing is not self.standing and standing > self.standing:
            self.standing = standing
            if self.prove is not None:
                self.prove(standing)

    async def refill(self) -> bool:
        """Receive some more bytes behind those that are here; False at the end."""
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
        """Take what is there without waiting; whether there was anything, be it the end."""
        more = self.stream.receive_nowait(RECEIVE_BYTES)
        if more:
            self.data = self.data[self.at :] + more
            self.at = 0
        return more is not None

    async def receive_into(self, buffer: memoryview) -> int:
        """1 to len(buffer) bytes: first those that are here, then straight from the stream; 0 at the end."""
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
        """The next ``count`` bytes have been used."""
        self.at += count
        if self.at == len(self.data):
            self.data = b""
            self.at = 0

    async def read_line(self, limit: int) -> bytes:
        """The next line without its CRLF, at most ``limit`` bytes. RemoteProtocolError; empty data at the end too."""
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
        """Send all of it; when this returns ``data`` may be reused."""
        count = self.stream.send_nowait(data)
        if count != len(data) or count > REFILL_COST:
            await self.send_rest(data, count)

    async def send_parts(self, parts: Sequence[Buffer]) -> None:
        """Send all of them, in as few calls as they fit in."""
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
        """Send what is left of ``data`` after ``count`` bytes."""
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
        """Send what the peer takes, within about ``seconds``, of what is left of ``data`` after ``count`` bytes; how
        many of its bytes are sent then."""
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
        """Let the others have a turn when this connection never has to wait."""
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
