"""TLS on a listener: encrypts and decrypts the bytes of a connection; everything above sees a plain Stream.

A port whose node has a certificate accepts both: a connection that begins with a TLS handshake is encrypted, any other
is plain HTTP, if ``plain`` allows that for its peer. So a cluster can move to TLS one host and one client at a time.

Connections in turns stay in turns: handshake and ciphers run where bytes are received and sent.
Memory of a connection: OpenSSL's own, and at most ``ENCRYPT_BYTES`` of ciphertext that the kernel has not accepted yet.

RFC 8446 (TLS 1.3), RFC 5246 (1.2), RFC 7301 (ALPN).
"""

from __future__ import annotations

import ssl
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from flared.errors import ConfigError, ConnectionLost
from flared.http.address import parse_address
from flared.http.error_body import JSON, pack_error
from flared.http.eviction import is_local
from flared.http.messages import pack_head
from flared.http.stream import connect_tcp

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence
    from pathlib import Path

    from flared.http.server import Listener
    from flared.http.stream import Buffer, Stream
    from flared.http.turns import Ready, Turns

ENCRYPT_BYTES = 256 * 1024
"""Plain bytes that are encrypted at once; the part that the kernel does not accept is held until it does."""
RECORD_BYTES = 16 * 1024 + 2048
"""Size of one receive: the largest record."""
HANDSHAKE = 0x16
"""The first byte of a TLS connection: the content type of its first record. No HTTP method begins with it."""
PLAIN_REFUSED = "this port speaks TLS only: use https:// in the URL"


class Tls:
    """The certificate of a node, for every connection accepted from now on; ``load`` may be called again."""

    def __init__(self, certificate: Path, key: Path, plain: str) -> None:
        """``plain``: whose connections may be without TLS: everyone's ("allow"), those of this machine ("local"),
        no one's ("refuse"). Raise ConfigError if the files cannot be read, or do not belong together."""
        self.plain = plain
        self.context = _load(certificate, key)

    def load(self, certificate: Path, key: Path, plain: str) -> None:
        """Load new files. Raise ConfigError, and keep the old ones, if they are not valid."""
        self.context, self.plain = _load(certificate, key), plain


def _load(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION
    try:
        if key.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH):
            raise ConfigError([f"tls.key: {key} can be read by everyone on this machine: chmod o= {key}"])
        context.load_cert_chain(certificate, key, password=_refuse_password)
    except ssl.SSLError as error:
        reason = (error.reason or str(error)).replace("_", " ").lower()
        raise ConfigError(
            [f"tls: {certificate} and {key} are not a certificate in PEM and its key: {reason}"]
        ) from None
    except OSError as error:
        raise ConfigError([f"tls: {error.filename or certificate} cannot be read: {error.strerror}"]) from None
    except ValueError:
        raise ConfigError([f"tls.key: {key} is encrypted with a passphrase; Flare needs one without"]) from None
    return context


def _refuse_password() -> str:
    raise ValueError("encrypted")


class TlsListener:
    """A Listener that detects which connections begin with a handshake."""

    def __init__(self, below: Listener, tls: Tls) -> None:
        self._below = below
        self._tls = tls

    async def accept(self) -> Stream:
        return SniffedStream(await self._below.accept(), self._tls)

    def close(self) -> None:
        self._below.close()


class _Covered:
    """The calls that a Stream passes on unchanged to the one below."""

    def __init__(self, below: Stream) -> None:
        self._below = below
        self.peer = below.peer

    def watch(self, turns: Turns, ready: Ready) -> None:
        self._below.watch(turns, ready)

    def forget(self, turns: Turns) -> None:
        self._below.forget(turns)

    def wait_writable(self) -> Awaitable[None]:
        return self._below.wait_writable()

    def unacknowledged(self) -> int:
        return self._below.unacknowledged()

    def finish_receiving(self) -> None:
        self._below.finish_receiving()

    def abort(self) -> None:
        self._below.abort()

    def close(self) -> None:
        self._below.close()


class TlsStream(_Covered):
    """A Stream whose bytes travel encrypted over the Stream ``below``, which it owns.

    ``send_nowait`` encrypts before it knows how much the kernel accepts. Bytes that were encrypted and not accepted are
    counted by a later call, which begins with the same bytes: every sender continues at the first uncounted byte.
    """

    def __init__(
        self, below: Stream, context: ssl.SSLContext, received: bytes = b"", *, host: str | None = None
    ) -> None:
        """``received``: bytes that were already received from ``below``. With a ``host`` this is the client's end, and
        the peer's certificate must have that name."""
        super().__init__(below)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, host is None, host)
        self._incoming.write(received)
        self._unsent = memoryview(b"")
        """Ciphertext that the kernel has not accepted."""
        self._owed = 0
        """Plain bytes, encrypted or not, that no call has counted as sent."""
        self.received = self.sent = 0

    def receive_nowait(self, size: int) -> bytes | None:
        parts: list[bytes] = []
        left = size
        # Read until the size is reached or the kernel has no more: after a short read the next byte raises an edge.
        while left:
            data = self._read(left)
            if data is None:
                break
            if not data:
                if not parts:
                    return b""
                break
            parts.append(data)
            left -= len(data)
        if left == size:
            return None
        self.received += size - left
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def receive_into_nowait(self, buffer: memoryview) -> int | None:
        data = self.receive_nowait(len(buffer))
        if data is None:
            return None
        buffer[: len(data)] = data
        return len(data)

    def _read(self, size: int) -> bytes | None:
        """Return the next plain bytes; None if the kernel has no more, empty at the end. Sends TLS's own answers."""
        while True:
            try:
                return self._tls.read(size)
            except ssl.SSLWantReadError:
                self._push()
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLEOFError:
                return b""  # without close_notify; HTTP itself marks the ends of its messages
            except ssl.SSLError as error:
                self._push()  # send the alert
                raise ConnectionLost(f"{self.peer}: TLS failed: {error.reason or error}") from error
            data = self._below.receive_nowait(RECORD_BYTES)
            if data is None:
                return None
            if data:
                self._incoming.write(data)
            else:
                self._incoming.write_eof()

    def send_nowait(self, data: Buffer) -> int:
        if not self._owed:
            try:
                self._owed = self._tls.write(memoryview(data)[:ENCRYPT_BYTES])
            except ssl.SSLWantReadError:
                self._owed = 0  # the handshake is not over: a receive continues it
            except ssl.SSLError as error:
                raise ConnectionLost(f"{self.peer}: TLS failed: {error.reason or error}") from error
        if not self._push():
            return 0
        count = min(self._owed, len(data))
        self._owed -= count
        self.sent += count
        return count

    def send_parts_nowait(self, parts: Sequence[Buffer]) -> int:
        total = 0
        for part in parts:
            count = self.send_nowait(part)
            total += count
            if count < len(part):
                break
        return total

    def _push(self) -> bool:
        """Pass the ciphertext to the kernel; return False if it did not accept all."""
        if self._outgoing.pending:
            fresh = self._outgoing.read()
            self._unsent = memoryview(bytes(self._unsent) + fresh if self._unsent else fresh)
        if self._unsent:
            self._unsent = self._unsent[self._below.send_nowait(self._unsent) :]
        return not self._unsent

    async def shake_hands(self) -> None:
        """Finish the handshake, as a client must before it sends. Raise ConnectionLost."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._push()
            except ssl.SSLCertVerificationError as error:
                raise ConnectionLost(f"{self.peer}: its certificate is not trusted: {error.verify_message}") from error
            except ssl.SSLError as error:
                raise ConnectionLost(f"{self.peer}: TLS failed: {error.reason or error}") from error
            else:
                self._push()
                return
            while (data := self._below.receive_nowait(RECORD_BYTES)) is None:
                await self._below.wait_readable()
            if data:
                self._incoming.write(data)
            else:
                self._incoming.write_eof()

    async def wait_readable(self) -> None:
        if self._tls.pending() or self._incoming.pending:
            await trio.lowlevel.checkpoint()
        else:
            await self._below.wait_readable()

    def finish_sending(self) -> None:
        with suppress(ssl.SSLError):  # the peer has not sent close_notify yet, or there was no handshake
            self._tls.unwrap()
        with suppress(ConnectionLost):  # the peer has closed it already
            self._push()
        self._below.finish_sending()


class SniffedStream(_Covered):
    """A Stream that is encrypted if its first byte is that of a handshake, else plain if the peer may omit TLS."""

    def __init__(self, below: Stream, tls: Tls) -> None:
        super().__init__(below)
        self._tls: Tls | None = tls
        """None once it is known."""
        self._stream = below

    @property
    def received(self) -> int:
        return self._stream.received

    @property
    def sent(self) -> int:
        return self._stream.sent

    def receive_nowait(self, size: int) -> bytes | None:
        if self._tls is None:
            return self._stream.receive_nowait(size)
        data = self._below.receive_nowait(size)
        if not data:
            return data
        tls, self._tls = self._tls, None
        if data[0] == HANDSHAKE:
            self._stream = TlsStream(self._below, tls.context, data)
            return self._stream.receive_nowait(size)
        if tls.plain == "refuse" or (tls.plain == "local" and not is_local(self.peer)):
            body = pack_error("TlsRequired", PLAIN_REFUSED, None)
            self._below.send_nowait(pack_head(400, JSON, b"connection: close\r\n", len(body)) + body)
            self._below.finish_sending()
            raise ConnectionLost(f"{self.peer} connected without TLS")
        return data

    def receive_into_nowait(self, buffer: memoryview) -> int | None:
        if self._tls is None:
            return self._stream.receive_into_nowait(buffer)
        data = self.receive_nowait(len(buffer))
        if data is None:
            return None
        buffer[: len(data)] = data
        return len(data)

    def send_nowait(self, data: Buffer) -> int:
        return self._stream.send_nowait(data)

    def send_parts_nowait(self, parts: Sequence[Buffer]) -> int:
        return self._stream.send_parts_nowait(parts)

    def wait_readable(self) -> Awaitable[None]:
        return self._stream.wait_readable()

    def finish_sending(self) -> None:
        self._stream.finish_sending()


async def connect_tls(address: str, context: ssl.SSLContext) -> Stream:
    """Connect to ``host:port`` and shake hands; the peer's certificate must be valid for that host.

    Raise ConnectionLost if nothing answers there, or the certificate is not trusted; the message says why.
    """
    host, _ = parse_address(address)
    below = await connect_tcp(address)
    stream = TlsStream(below, context, host=host)
    try:
        await stream.shake_hands()
    except BaseException:
        stream.close()
        raise
    return stream
