"""TlsSettings: the files of [tls] of a node, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """The files of [tls], all in PEM."""

    certificate: Path
    """Followed by the intermediate certificates, if any."""
    key: Path
    plain: str = "allow"
    """Whose connections may be without TLS, to this node and from it: "allow" (everyone's), "local" (this machine's),
    "refuse" (no one's)."""
    ca: Path | None = None
    """The authorities that this node believes when it calls another one; None: those of the system."""
    client_ca: Path | None = None
    """The authorities of which a client must show a certificate; None: no client needs one."""
    node_certificate: Path | None = None
    """What this node shows when it calls another one; None: ``certificate``."""
    node_key: Path | None = None
