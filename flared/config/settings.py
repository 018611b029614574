"""Settings: the configuration of a node of either role."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from flared.http.address import Address, Endpoint
    from flared.http.tls_settings import TlsSettings
    from flared.names import NodeName


@dataclass(frozen=True, slots=True)
class LogConfig:
    level: str
    format: str


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """The settings of both roles. Sizes in bytes, times in seconds, here and below."""

    name: NodeName
    listen: Address
    secrets: tuple[bytes, ...]
    """The first one signs; each of them is accepted."""
    secret_file: Path | None
    log: LogConfig
    tls: TlsSettings | None
    metrics_listen: Address | None
    hosts: tuple[str, ...]
    """Host names, beside this machine's own, that requests without the secret may use for this node."""


@dataclass(frozen=True, slots=True)
class ApiConfig(NodeConfig):
    """The settings of an api node."""

    ca_key: Path | None
    """The key of the cluster's own authority, sealed: this node makes the certificates of the others."""
    anonymous: str
    workers: int
    """Processes that serve clients, the one that owns the metadata among them."""
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
    multipart_ttl: float
    s3_listen: Address | None
    """Where S3 is spoken; None: nowhere."""
    s3_domain: str
    s3_region: str
    requests_per_key: int
    """A second, in each process; 0: without limit."""
    requests_per_address: int
    audit_file: Path | None
    """None: audit lines go where the log goes."""
    audit_objects: bool


@dataclass(frozen=True, slots=True)
class DataConfig(NodeConfig):
    """The settings of a data node."""

    api: tuple[Endpoint, ...]
    advertise: Endpoint
    zone: str
    volumes: tuple[Path, ...]
    segment_size: int
    reserve: int
    direct: bool
    new_volumes: bool
    scrub_period: float
    quarantine: float


Config = ApiConfig | DataConfig
