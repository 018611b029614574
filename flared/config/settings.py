"""Settings: everything that a node of either role is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from flared.http.address import Address
    from flared.names import NodeName


@dataclass(frozen=True, slots=True)
class LogConfig:
    level: str
    format: str


@dataclass(frozen=True, slots=True)
class TlsConfig:
    certificate: Path
    """In PEM, followed by those of the authorities between it and the root, if there are any."""
    key: Path
    plain: str
    """Who may do without TLS: "allow" (everyone), "local" (this machine), "refuse"."""


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """What a node is told, whatever its role. Sizes in bytes, times in seconds, here and below."""

    name: NodeName
    listen: Address
    secrets: tuple[bytes, ...]
    """The one that signs first; each one opens."""
    secret_file: Path | None
    log: LogConfig
    tls: TlsConfig | None
    metrics_listen: Address | None
    hosts: tuple[str, ...]
    """Names, beside this machine's own, that callers without the secret may call the node by."""


@dataclass(frozen=True, slots=True)
class ApiConfig(NodeConfig):
    """Everything an api node is told."""

    anonymous: str
    metadata: Path
    memory: int
    spill: int
    spill_directory: Path
    cache: int
    connections: int
    object_max: int
    scheme: str
    chunk_size: int
    compression: str
    placement: str
    repair_after: float
    garbage_grace: float
    upload_ttl: float


@dataclass(frozen=True, slots=True)
class DataConfig(NodeConfig):
    """Everything a data node is told."""

    api: tuple[Address, ...]
    advertise: Address
    zone: str
    volumes: tuple[Path, ...]
    segment_size: int
    reserve: int
    direct: bool
    new_volumes: bool
    scrub_period: float
    quarantine: float


Config = ApiConfig | DataConfig
