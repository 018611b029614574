"""TLS on a connection: encrypts and decrypts the bytes of a connection; everything above sees a plain Stream.

A port whose node has a certificate accepts both: a connection that begins with a TLS handshake is encrypted, any other
is plain HTTP, if ``plain`` allows that for its peer. So a cluster can move to TLS one host and one client at a time.

Connections in turns stay in turns: handshake and ciphers run where bytes are received and sent.
Memory of a connection: OpenSSL's own, and ciphertext that the kernel has not accepted yet: about ``UNSENT_BYTES_MAX``.

RFC 8446 (TLS 1.3), RFC 5246 (1.2), RFC 7301 (ALPN).
"""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, cast

import trio

from flared.errors import ConnectionLost
from flared.http.address import parse_address
from flared.http.error_body import JSON, pack_error
from flared.http.eviction import is_local
from flared.http.messages import pack_head
from flared.http.stream import connect_tcp

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from flared.http.stream import Buffer, Stream
    from flared.http.turns import Ready, Turns

ENCRYPT_BYTES = 256 * 1024
"""Plain bytes that are encrypted at once; the part that the kernel does not accept is held until it does."""
UNSENT_BYTES_MAX = ENCRYPT_BYTES + 64 * 1024
"""Ciphertext held for a peer that goes on sending: such a part, and TLS's own answers, which are few and small."""
RECORD_BYTES = 16 * 1024 + 2048
"""Size of one receive: the largest record."""
RECEIVE_BYTES_MAX = 256 * 1024
"""Size of one receive of a large body: ciphertext that waits to be decrypted at once."""
HANDSHAKE = 0x16
"""The first byte of a TLS connection: the content type of its first record. No HTTP method begins with it."""
PLAIN_REFUSED = "this port speaks TLS only: use https:// in the URL"


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
        self._finished = self._dropping = False
        self.received = self.sent = 0

    def receive_nowait(self, size: int) -> bytes | None:
        if self._dropping:
            return self._drop()
        parts: list[bytes] = []
        left = size
        # Read until the size is reached or the kernel has no more: after a short read the next byte raises an edge.
        while left:
            try:
                data = self._tls.read(left)
            except ssl.SSLError as error:
                more = self._continue(error, left)
                if more:
                    continue
                data = b""
                if more is None:
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
        if self._dropping:
            return None if self._drop() is None else 0
        # As above, without a copy: a large body is decrypted into the buffer that it is for.
        filled, size = 0, len(buffer)
        while filled < size:
            try:
                # With a buffer it returns how many bytes it has put there, though its annotation says otherwise.
                count = cast("int", self._tls.read(size - filled, buffer[filled:]))
            except ssl.SSLError as error:
                more = self._continue(error, size - filled)
                if more:
                    continue
                if more is None:
                    break
                count = 0
            if not count:
                if not filled:
                    return 0
                break
            filled += count
        if not filled:
            return None
        self.received += filled
        return filled

    def _drop(self) -> bytes | None:
        """Receive and drop: OpenSSL reads no more when it was asked to send the end while data came, and to close at
        once would reset the connection under a reply. Return None while more may come, empty at the end."""
        return None if self._below.receive_nowait(RECEIVE_BYTES_MAX) != b"" else b""

    def _continue(self, error: ssl.SSLError, wanted: int) -> bool | None:
        """Go on after a read that gave nothing: True if more came from the kernel, None if it has no more, False at
        the end. Sends TLS's own answers. Raise ConnectionLost."""
        if isinstance(error, ssl.SSLWantReadError):
            if not self._push() and len(self._unsent) > UNSENT_BYTES_MAX:
                raise ConnectionLost(f"{self.peer} goes on sending, and receives none of TLS's answers")
            data = self._below.receive_nowait(min(max(wanted, RECORD_BYTES), RECEIVE_BYTES_MAX))
            if data is None:
                return None
            if data:
                self._incoming.write(data)
            else:
                self._incoming.write_eof()
            return True
        if self._finished:
            self._dropping = True
            return None
        if isinstance(error, ssl.SSLZeroReturnError | ssl.SSLEOFError):
            return False  # perhaps without close_notify; HTTP itself marks the ends of its messages
        self._push()  # send the alert
        raise ConnectionLost(_explain(self.peer, error)) from error

    def send_nowait(self, data: Buffer) -> int:
        # Until the kernel accepts no more: who is left with a rest waits for the edge that only a full socket raises.
        total = 0
        with memoryview(data) as view:
            while total < len(view):
                if not self._owed:
                    self._owed = self._encrypt(view[total : total + ENCRYPT_BYTES])
                if not self._push() or not self._owed:
                    break
                count = min(self._owed, len(view) - total)
                self._owed -= count
                total += count
        self.sent += total
        return total

    def send_parts_nowait(self, parts: Sequence[Buffer]) -> int:
        # Together: a batch of small pieces is a few records and one call, not one of each for every piece.
        total, at = 0, 0
        while at < len(parts):
            group = [parts[at]]
            size = len(parts[at])
            while at + len(group) < len(parts) and size + len(parts[at + len(group)]) <= ENCRYPT_BYTES:
                group.append(parts[at + len(group)])
                size += len(group[-1])
            at += len(group)
            count = self.send_nowait(group[0] if len(group) == 1 else b"".join(group))
            total += count
            if count < size:
                break
        return total

    def _encrypt(self, data: memoryview) -> int:
        """Encrypt the bytes; return how many, 0 while the handshake is not over: a receive continues it."""
        try:
            return self._tls.write(data)
        except ssl.SSLWantReadError:
            return 0
        except ssl.SSLError as error:
            raise ConnectionLost(_explain(self.peer, error)) from error

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
                self._push()  # send the alert
                raise ConnectionLost(f"{self.peer}: its certificate is not trusted: {error.verify_message}") from error
            except ssl.SSLError as error:
                self._push()  # send the alert
                raise ConnectionLost(_explain(self.peer, error)) from error
            else:
                self._push()
                return
            while (data := self._below.receive_nowait(RECORD_BYTES)) is None:
                await self._below.wait_readable()
            if data:
                self._incoming.write(data)
            else:
                self._incoming.write_eof()

    def certificate_ends(self) -> float | None:
        """Return when the peer's certificate expires, in seconds since 1970; None if it was not asked for one."""
        certificate = self._tls.getpeercert()
        ends = certificate.get("notAfter") if certificate else None
        return float(ssl.cert_time_to_seconds(ends)) if isinstance(ends, str) else None

    async def wait_readable(self) -> None:
        if not self._dropping and (self._tls.pending() or self._incoming.pending):
            await trio.lowlevel.checkpoint()
        else:
            await self._below.wait_readable()

    def finish_sending(self) -> None:
        self._finished = True
        with suppress(ssl.SSLError):  # the peer has not sent close_notify yet, or there was no handshake
            self._tls.unwrap()
        with suppress(ConnectionLost):  # the peer has closed it already
            self._push()
        self._below.finish_sending()


class SniffedStream(_Covered):
    """A Stream that is encrypted if its first byte is that of a handshake, else plain if the peer may omit TLS."""

    def __init__(self, below: Stream, context: ssl.SSLContext, plain: str) -> None:
        super().__init__(below)
        self._context: ssl.SSLContext | None = context
        """None once it is known."""
        self._plain = plain
        self._stream = below

    @property
    def encrypted(self) -> bool:
        """Known once the first bytes have come."""
        return isinstance(self._stream, TlsStream)

    @property
    def received(self) -> int:
        return self._stream.received

    @property
    def sent(self) -> int:
        return self._stream.sent

    def receive_nowait(self, size: int) -> bytes | None:
        if self._context is None:
            return self._stream.receive_nowait(size)
        data = self._below.receive_nowait(size)
        if not data:
            return data
        context, self._context = self._context, None
        if data[0] == HANDSHAKE:
            self._stream = TlsStream(self._below, context, data)
            return self._stream.receive_nowait(size)
        if self._plain == "refuse" or (self._plain == "local" and not is_local(self.peer)):
            body = pack_error("TlsRequired", PLAIN_REFUSED, None)
            self._below.send_nowait(pack_head(400, JSON, b"connection: close\r\n", len(body)) + body)
            self._below.finish_sending()
            raise ConnectionLost(f"{self.peer} connected without TLS")
        return data

    def receive_into_nowait(self, buffer: memoryview) -> int | None:
        if self._context is None:
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


async def connect_tls(address: str, context: ssl.SSLContext, *, name: str = "") -> TlsStream:
    """Connect to ``host:port`` and shake hands; the peer's certificate must be valid for ``name``, or for that host.

    Raise ConnectionLost if nothing answers there, or the certificate is not trusted; the message says why.
    """
    host, _ = parse_address(address)
    below = await connect_tcp(address)
    try:
        stream = TlsStream(below, context, host=name or host)
    except ValueError:  # such as two dots in a row
        below.close()
        raise ConnectionLost(f"{address}: {name or host!r} cannot be the name in a certificate") from None
    try:
        await stream.shake_hands()
    except BaseException:
        stream.close()
        raise
    return stream


_WANTS_CERTIFICATE = {"TLSV13_ALERT_CERTIFICATE_REQUIRED", "PEER_DID_NOT_RETURN_A_CERTIFICATE"}


def _explain(peer: str, error: ssl.SSLError) -> str:
    reason = error.reason or str(error)
    if reason in _WANTS_CERTIFICATE:
        return f"{peer}: a certificate of its client_ca must be shown there, and was not"
    return f"{peer}: TLS failed: {reason}"
