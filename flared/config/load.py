"""Load a TOML file into a Config, or report every mistake in it."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

from flared.access.authorize import GRANTS
from flared.config.reader import TableReader, show
from flared.config.settings import ApiConfig, Config, DataConfig, LogConfig
from flared.config.values import (
    GIB,
    KIB,
    MIB,
    TIB,
    boolean,
    duration,
    host_name,
    host_names,
    is_loopback,
    node,
    number,
    one_of,
    parse_advertised,
    parse_listen,
    region,
    scheme,
    size,
    text,
    texts,
    urls,
    workers,
    zone,
)
from flared.errors import ConfigError
from flared.http.address import Address, Endpoint
from flared.http.tls_settings import TlsSettings
from flared.names import NodeName

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

FORMAT = 1
"""The format of TOML files, raised when a key changes its meaning. A file without ``format`` has the first."""
API_PORT = 8000
S3_PORT = 8333
DATA_PORT = 9000
WORKERS_GRACE_SECONDS = 60


def load_config(file: Path, *, handed: bool = True) -> Config:
    """Read the file. Raise ConfigError with every mistake in it, each as ``file: key: what is allowed``.

    ``handed``: use systemd's copies of secret files. Otherwise the files themselves are read.
    """
    try:
        table: object = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigError([f"{file}: cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise ConfigError([f"{file}: is not UTF-8 text"]) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{file}: is not TOML: {error}"]) from None
    assert isinstance(table, dict)
    return parse_config(table, file, handed=handed)


def parse_config(table: Mapping[str, object], file: Path, *, handed: bool = True) -> Config:
    """Return the configuration in a parsed TOML file; paths are relative to ``file``. Raise ConfigError."""
    form = table.get("format", FORMAT)
    if form != FORMAT:  # the meaning of its keys is unknown, so report no other mistakes
        raise ConfigError([f"{file}: format: {show(form)} is not allowed; this version of Flare knows format {FORMAT}"])
    reader = TableReader(table, file, handed=handed)
    role = reader.read("role", None, one_of(*READERS))
    if reader.mistakes:
        # Read it as the role that fits best, so that the other mistakes are reported too.
        attempts = [_attempt(TableReader(table, file, handed=handed), name)[1] for name in READERS]
        raise ConfigError(reader.mistakes + min(attempts, key=len))
    config, mistakes = _attempt(reader, role)
    if mistakes:
        raise ConfigError(mistakes)
    return config


def _attempt(reader: TableReader, role: str) -> tuple[Config, list[str]]:
    config = READERS[role](reader)
    reader.finish()
    return config, reader.mistakes


SPILL_DIRECTORY = "/var/tmp"
"""Not on the metadata's disk, and not in memory, as /tmp may be."""


def _read_api(reader: TableReader) -> ApiConfig:
    listen, secret_file, secrets = _read_listen(reader, API_PORT)
    config = ApiConfig(
        name=reader.read("name", NodeName("api"), node),
        listen=listen,
        secrets=secrets,
        secret_file=secret_file,
        log=_read_log(reader),
        tls=_read_tls(reader),
        metrics_listen=_read_metrics_listen(reader, listen),
        hosts=reader.read("hosts", (), host_names),
        ca_key=_read_file(reader, "tls.ca_key"),
        anonymous=reader.read("anonymous", "none", one_of(*GRANTS)),
        workers=reader.read("workers", 1, workers),
        metadata=reader.path(reader.read("metadata.path", "meta.db", text)),
        memory=reader.read("limits.memory", 96 * MIB, size(16 * MIB, TIB)),
        spill=reader.read("limits.spill", 4 * GIB, size(0, 64 * TIB)),
        spill_directory=reader.path(reader.read("limits.spill_directory", SPILL_DIRECTORY, text)),
        cache=reader.read("limits.cache", 16 * MIB, size(0, TIB)),
        connections=reader.read("limits.connections", 1024, number(1, 100_000)),
        object_max=reader.read("limits.object_max", 5 * TIB, size(1, 64 * TIB)),
        scheme=reader.read("defaults.scheme", "replica:3", scheme),
        chunk_size=reader.read("defaults.chunk_size", 8 * MIB, size(64 * KIB, 64 * MIB)),
        compression=reader.read("defaults.compression", "lz4", one_of("lz4", "plain")),
        placement=reader.read("cluster.placement", "ring", one_of("ring", "round-robin")),
        repair_after=reader.read("cluster.repair_after", 600.0, duration(1, 30 * 86400)),
        garbage_grace=reader.read("cluster.garbage_grace", 900.0, duration(0, 30 * 86400)),
        upload_ttl=reader.read("cluster.upload_ttl", 86400.0, duration(1, 365 * 86400)),
        multipart_ttl=reader.read("cluster.multipart_ttl", 7 * 86400.0, duration(1, 10 * 365 * 86400)),
        s3_listen=_read_s3_listen(reader, listen),
        s3_domain=reader.read("s3.domain", "", host_name),
        s3_region=reader.read("s3.region", "us-east-1", region),
        requests_per_key=reader.read("limits.requests_per_key", 0, number(0, 1_000_000)),
        requests_per_address=reader.read("limits.requests_per_address", 0, number(0, 1_000_000)),
        audit_file=reader.path(reader.read("audit.file", "-", text)) if reader.given("audit.file") else None,
        audit_objects=reader.read("audit.objects", False, boolean),
    )
    if config.workers > 1 and config.garbage_grace < WORKERS_GRACE_SECONDS:
        # What a worker reads is known to the others a little later, and one that hangs is waited for.
        reader.note("garbage_grace", f"is less than {WORKERS_GRACE_SECONDS} s; with several workers it must be more")
    return config


def _read_data(reader: TableReader) -> DataConfig:
    listen, secret_file, secrets = _read_listen(reader, DATA_PORT)
    volumes = reader.read("volumes", None, texts("a list of directories, one for each disk")) or ()
    paths = tuple(reader.path(volume) for volume in volumes)
    if len(set(paths)) < len(paths):
        reader.note("volumes", "a directory is named twice; give each disk one directory")
    return DataConfig(
        name=reader.read("name", None, node),
        listen=listen,
        secrets=secrets,
        secret_file=secret_file,
        log=_read_log(reader),
        tls=_read_tls(reader, asks_clients=True),
        metrics_listen=_read_metrics_listen(reader, listen),
        hosts=reader.read("hosts", (), host_names),
        api=reader.read("api", (Endpoint("127.0.0.1", API_PORT),), urls),
        advertise=_read_advertise(reader, listen),
        zone=reader.read("zone", "default", zone),
        volumes=paths,
        segment_size=reader.read("storage.segment_size", GIB, size(64 * MIB, 16 * GIB)),
        reserve=reader.read("storage.reserve", 256 * MIB, size(MIB, TIB)),
        direct=reader.read("storage.direct", True, boolean),
        new_volumes=reader.read("storage.new_volumes", True, boolean),
        quarantine=reader.read("storage.quarantine", 7 * 86400.0, duration(0, 365 * 86400)),
        scrub_period=reader.read("scrub.period", 30 * 86400.0, duration(60, 10 * 365 * 86400)),
    )


READERS: Mapping[str, Callable[[TableReader], Config]] = {"api": _read_api, "data": _read_data}


def _read_log(reader: TableReader) -> LogConfig:
    return LogConfig(
        level=reader.read("log.level", "info", one_of("debug", "info", "warning", "error")),
        format=reader.read("log.format", "text", one_of("text", "json")),
    )


def _read_tls(reader: TableReader, *, asks_clients: bool = False) -> TlsSettings | None:
    """Return the certificates of the node; None if it has none. The files are read when the node starts.

    ``asks_clients``: a node of this role may ask its clients for a certificate.
    """
    required = {name: _read_file(reader, name) for name in ("tls.certificate", "tls.key")}
    optional = {name: _read_file(reader, name) for name in ("tls.ca", "tls.node_certificate", "tls.node_key")}
    client_ca = _read_file(reader, "tls.client_ca") if asks_clients else None
    plain = reader.read("tls.plain", "allow", one_of("allow", "local", "refuse"))
    if not any(map(reader.given, ("tls.plain", "tls.client_ca", *required, *optional))):
        return None
    for name, path in required.items():
        if path is None:
            reader.note(name, "is missing; [tls] needs both certificate and key, each the path of a file in PEM")
    if (optional["tls.node_certificate"] is None) != (optional["tls.node_key"] is None):
        reader.note("tls.node_certificate", "needs tls.node_key beside it, and the other way round")
    certificate, key = required.values()
    if certificate is None or key is None:
        return None
    return TlsSettings(certificate, key, plain, client_ca=client_ca, **{
        name.removeprefix("tls."): path for name, path in optional.items()
    })  # fmt: skip


def _read_file(reader: TableReader, name: str) -> Path | None:
    path = reader.read(name, "-", text)
    return reader.path(path) if reader.given(name) else None


def _read_listen(reader: TableReader, port: int) -> tuple[Address, Path | None, tuple[bytes, ...]]:
    """Return where to listen, and the secrets; beyond loopback at least one is required."""
    listen = reader.read("listen", Address("127.0.0.1", port), parse_listen)
    name = reader.read("secret_file", "-", text)
    if reader.given("secret_file"):
        return listen, reader.path(name), _read_secrets(reader, name)
    if not is_loopback(listen):
        reader.note(
            "secret_file",
            f"is missing; listening on {listen} needs one: a file with the secret that all nodes of the cluster share",
        )
    return listen, None, ()


def _read_metrics_listen(reader: TableReader, listen: Address) -> Address | None:
    """Return where other machines may read the metrics, without the secret."""
    address = reader.read("metrics_listen", Address("127.0.0.1", 0), parse_listen)
    if not reader.given("metrics_listen"):
        return None
    if address == listen and address.port:
        reader.note("metrics_listen", f"{address} is the node's own listen address; use another port")
    return address


def _read_s3_listen(reader: TableReader, listen: Address) -> Address | None:
    """Return where S3 is spoken. Beyond loopback it takes a secret, like ``listen``: without one everyone is let in."""
    address = reader.read("s3_listen", Address("127.0.0.1", S3_PORT), parse_listen)
    if not reader.given("s3_listen"):
        return None
    if address == listen and address.port:
        reader.note("s3_listen", f"{address} is the node's own listen address; use another port")
    if not is_loopback(address) and not reader.given("secret_file"):
        reader.note("secret_file", f"is missing; speaking S3 on {address} needs one")
    return address


def _read_secrets(reader: TableReader, name: str) -> tuple[bytes, ...]:
    path = reader.path(name)
    try:
        return reader.secrets(path)
    except ValueError as error:
        reader.note("secret_file", str(error))
        return ()


def _read_advertise(reader: TableReader, listen: Address) -> Endpoint:
    advertise = reader.read("advertise", Endpoint(*listen), parse_advertised)
    if advertise.host in {"0.0.0.0", "::"}:
        reader.note(
            "advertise", f"{advertise} cannot be reached; name the address at which the api nodes reach this node"
        )
    if advertise.tls and not reader.given("tls.certificate"):
        reader.note("advertise", f"{advertise} needs [tls] with certificate and key")
    return advertise
