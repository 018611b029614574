"""Certificates of a node: what its ports show and ask for, and what it shows and believes when it calls another node.

``Tls`` is for the ports, ``TlsCaller`` for calls. Both load their files again when the node reloads its TOML file; a
connection keeps what it began with.
"""

from __future__ import annotations

import ssl
import stat
from typing import TYPE_CHECKING

from flared.errors import ConfigError, ConnectionLost
from flared.http.address import HTTPS, leads_to_loopback
from flared.http.stream import connect_tcp
from flared.http.tls import SniffedStream, connect_tls

if TYPE_CHECKING:
    from pathlib import Path

    from flared.http.server import Listener
    from flared.http.stream import Stream
    from flared.http.tls_settings import TlsSettings


class Tls:
    """What the ports of a node show, for every connection accepted from now on; ``load`` may be called again."""

    def __init__(self, settings: TlsSettings | None = None) -> None:
        """Without settings connections are plain HTTP. Raise ConfigError as ``load`` does."""
        self.plain = "allow"
        self.context: ssl.SSLContext | None = None
        self.open_context: ssl.SSLContext | None = None
        """For a port that asks no client for a certificate, such as that of metrics."""
        self.load(settings)

    def load(self, settings: TlsSettings | None) -> None:
        """Load new files. Raise ConfigError, and keep the old ones, if they are not valid or do not belong together."""
        if settings is None:
            self.context, self.open_context, self.plain = None, None, "allow"
            return
        open_context = _server_context(settings)
        context = open_context
        if settings.client_ca is not None:
            context = _server_context(settings)
            context.verify_mode = ssl.CERT_REQUIRED
            _load_authorities(context, settings.client_ca, "tls.client_ca")
        self.context, self.open_context, self.plain = context, open_context, settings.plain


class TlsListener:
    """A Listener that detects which connections begin with a handshake, if its node has a certificate."""

    def __init__(self, below: Listener, tls: Tls, *, for_all: bool = False) -> None:
        """``for_all``: no client needs a certificate here, even if the node's other ports ask for one."""
        self._below = below
        self._tls = tls
        self._for_all = for_all

    async def accept(self) -> Stream:
        stream = await self._below.accept()
        context = self._tls.open_context if self._for_all else self._tls.context
        return stream if context is None else SniffedStream(stream, context, self._tls.plain)

    def close(self) -> None:
        self._below.close()


class TlsCaller:
    """What a node shows and believes when it calls another node; ``load`` may be called again."""

    def __init__(self, settings: TlsSettings | None = None) -> None:
        """Without settings the authorities of the system are believed, and nothing is shown. Raise ConfigError."""
        self._plain = "allow"
        self._context: ssl.SSLContext | None = None
        self.expiry: dict[str, float] = {}
        """When the certificate expires that was last shown by the node of this name, in seconds since 1970."""
        self.load(settings)

    def load(self, settings: TlsSettings | None) -> None:
        """Load new files. Raise ConfigError, and keep the old ones, if they are not valid."""
        context = None if settings is None else _caller_context(settings)
        self._context, self._plain = context, "allow" if settings is None else settings.plain

    def context(self) -> ssl.SSLContext:
        """Return what calls from now on go by."""
        if self._context is None:
            self._context = _caller_context(None)  # loads the authorities of the system, so only if it is needed
        return self._context

    async def connect(self, address: str, name: str = "") -> Stream:
        """Connect to ``host:port``, or with TLS to ``https://host:port``.

        The certificate must have ``name`` among its names, or the address's host if that is empty. Raise ConnectionLost
        if nothing answers, if the certificate is not trusted, or if this node may not speak plain HTTP to there.
        """
        if not address.startswith(HTTPS):
            if self._plain == "refuse" or (self._plain == "local" and not leads_to_loopback(address)):
                raise ConnectionLost(
                    f"{address} is known without https://, and plain = {self._plain!r} in [tls] refuses to call it so"
                )
            return await connect_tcp(address)
        stream = await connect_tls(address.removeprefix(HTTPS), self.context(), name=name)
        if name and (ends := stream.certificate_ends()) is not None:
            self.expiry[name] = ends
        return stream


def _server_context(settings: TlsSettings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _restrict(context)
    _load_own(context, settings.certificate, settings.key, "tls.key")
    return context


def _caller_context(settings: TlsSettings | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks the chain and the name
    _restrict(context)
    if settings is None or settings.ca is None:
        context.load_default_certs()
    else:
        _load_authorities(context, settings.ca, "tls.ca")
    if settings is None:
        return context
    if settings.node_certificate is not None and settings.node_key is not None:
        _load_own(context, settings.node_certificate, settings.node_key, "tls.node_key")
    else:
        _load_own(context, settings.certificate, settings.key, "tls.key")
    return context


def _restrict(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION


def _load_own(context: ssl.SSLContext, certificate: Path, key: Path, name: str) -> None:
    try:
        if key.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH):
            raise ConfigError([f"{name}: {key} can be read by everyone on this machine: chmod o= {key}"])
        context.load_cert_chain(certificate, key, password=_refuse_password)
    except ssl.SSLError as error:
        reason = (error.reason or str(error)).replace("_", " ").lower()
        raise ConfigError(
            [f"tls: {certificate} and {key} are not a certificate in PEM and its key: {reason}"]
        ) from None
    except OSError as error:
        raise ConfigError([f"tls: {error.filename or certificate} cannot be read: {error.strerror}"]) from None
    except ValueError:
        raise ConfigError([f"{name}: {key} is encrypted with a passphrase; Flare needs one without"]) from None


def _load_authorities(context: ssl.SSLContext, file: Path, name: str) -> None:
    try:
        context.load_verify_locations(file)
    except ssl.SSLError:
        raise ConfigError([f"{name}: {file} does not hold certificates in PEM"]) from None
    except OSError as error:
        raise ConfigError([f"{name}: {file} cannot be read: {error.strerror}"]) from None


def _refuse_password() -> str:
    raise ValueError("encrypted")
