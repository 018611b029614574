"""flared.toml -> the configuration of one node. Reports every mistake of the file at once.

Only this file knows TOML. ``API_TEMPLATE`` and ``DATA_TEMPLATE`` are what ``flared init`` writes: they name every
key with its default, and a test holds them, the man page and the readers below together.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import stat
import tomllib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from flared.access.door import ANONYMOUS
from flared.access.keys import SECRETS_BYTES_MAX, parse_secrets
from flared.chunks.scheme import REPLICAS_MAX, parse_scheme
from flared.errors import BadName, BadRequest, ConfigError
from flared.http.address import Address, parse_address
from flared.names import NodeName, parse_node

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

T = TypeVar("T")

FORMAT = 1
"""Of the TOML files; raised when a key gets another meaning. A file that does not say is of the first."""
API_PORT = 8000
DATA_PORT = 9000
CREDENTIALS = "CREDENTIALS_DIRECTORY"
"""Where systemd puts what LoadCredential= names (systemd.exec(5)): once, when it starts the node."""
HANDED = "RUNTIME_DIRECTORY"
"""Where a reload puts what has changed since (``flared.prepare.hand_over``)."""
NO_CREDENTIAL = b"-"

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
TIB = 1024 * GIB

SIZE_UNITS = {
    "B": 1,
    "KiB": KIB,
    "MiB": MIB,
    "GiB": GIB,
    "TiB": TIB,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
}
DURATION_UNITS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)")


@dataclass(frozen=True, slots=True)
class LogConfig:
    level: str
    format: str


@dataclass(frozen=True, slots=True)
class ApiConfig:
    """Everything an api node is told. Sizes in bytes, times in seconds."""

    name: NodeName
    listen: Address
    secrets: tuple[bytes, ...]
    """The one that signs first; each one opens."""
    secret_file: Path | None
    log: LogConfig
    metrics_listen: Address | None
    anonymous: str
    metadata: Path
    memory: int
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
class DataConfig:
    """Everything a data node is told. Sizes in bytes, times in seconds."""

    name: NodeName
    listen: Address
    secrets: tuple[bytes, ...]
    """The one that signs first; each one opens."""
    secret_file: Path | None
    log: LogConfig
    metrics_listen: Address | None
    api: tuple[Address, ...]
    advertise: Address
    zone: str
    volumes: tuple[Path, ...]
    segment_size: int
    reserve: int
    direct: bool
    new_volumes: bool
    scrub_period: float


Config = ApiConfig | DataConfig


def load_config(file: Path, *, handed: bool = True) -> Config:
    """Read the file; raises ConfigError with every mistake in it, each as ``file: key: what is allowed``.

    ``handed``: take what systemd handed us of a secret for the secret. Else the file itself is looked at.
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
    """The configuration in a parsed TOML file; relative paths are relative to ``file``. Raises ConfigError."""
    form = table.get("format", FORMAT)
    if form != FORMAT:  # what its keys mean is not known: name no other mistakes
        raise ConfigError(
            [f"{file}: format: {_show(form)} is not allowed; this version of Flare knows format {FORMAT}"]
        )
    reader = Reader(table, file, handed=handed)
    role = reader.read("role", None, _one_of(*READERS))
    if reader.mistakes:
        # Read it as the role that fits best, so that the other mistakes are named all the same.
        attempts = [_attempt(Reader(table, file, handed=handed), name)[1] for name in READERS]
        raise ConfigError(reader.mistakes + min(attempts, key=len))
    config, mistakes = _attempt(reader, role)
    if mistakes:
        raise ConfigError(mistakes)
    return config


def _attempt(reader: Reader, role: str) -> tuple[Config, list[str]]:
    config = READERS[role](reader)
    reader.finish()
    return config, reader.mistakes


class Reader:
    """Takes keys out of a table one by one, notes every mistake, and at the end every key nobody asked for."""

    def __init__(self, table: Mapping[str, object], file: Path, *, handed: bool) -> None:
        self._values: dict[str, object] = {}
        self._known = ["role", "format"]
        self._file = file
        self._handed = handed
        self.mistakes: list[str] = []
        for key, value in table.items():
            if isinstance(value, dict):
                self._values.update({f"{key}.{inner}": item for inner, item in value.items()})
            else:
                self._values[key] = value

    def read(self, key: str, default: T | None, parse: Callable[[object], T]) -> T:
        """The value of ``key`` as ``parse`` returns it, or the default; None means the key must be there.

        ``parse`` raises ValueError with what is allowed. A mistake is noted, and the default given instead.
        """
        self._known.append(key)
        if key not in self._values:
            if default is None:
                self.note(key, f"is missing; {self._rule(parse)}")
            return default  # type: ignore[return-value]  # a noted mistake ends in ConfigError before anyone looks
        try:
            return parse(self._values[key])
        except ValueError as error:
            self.note(key, f"{_show(self._values[key])} is not allowed; {error}")
            return default  # type: ignore[return-value]  # as above

    def given(self, key: str) -> bool:
        return key in self._values

    def note(self, key: str, sentence: str) -> None:
        self.mistakes.append(f"{self._file}: {key}: {sentence}")

    def path(self, text: str) -> Path:
        return (self._file.parent / Path(text).expanduser()).absolute()

    def credential(self, path: Path) -> Path | None:
        """What we were handed of a file beside ours, which we may not be allowed to read ourselves: what a reload
        brought, else what systemd loaded at the start.

        ``-`` stands for a file that is not there (SetCredential= in the unit).
        """
        loads, runtime = os.environ.get(CREDENTIALS), os.environ.get(HANDED)
        if not self._handed or not loads or path.parent != self._file.absolute().parent:
            return None
        if runtime and (brought := Path(runtime, path.name)).is_file():
            return brought
        loaded = Path(loads, path.name)
        try:
            return None if loaded.read_bytes().strip() == NO_CREDENTIAL else loaded
        except OSError:
            return None

    def finish(self) -> None:
        """Note the keys that nobody read, with the one that was probably meant."""
        for key in self._values:
            if key not in self._known:
                self.note(key, f"is no key of this role{_suggest(key, self._known)}")

    @staticmethod
    def _rule(parse: Callable[[object], T]) -> str:
        """What a parser allows: the sentence it refuses None with."""
        try:
            parse(None)
        except ValueError as error:
            return str(error)
        return "give it a value"


def _read_api(reader: Reader) -> ApiConfig:
    listen, secret_file, secrets = _read_door(reader, API_PORT)
    return ApiConfig(
        name=reader.read("name", NodeName("api"), _node),
        listen=listen,
        secrets=secrets,
        secret_file=secret_file,
        log=_read_log(reader),
        metrics_listen=_read_metrics_listen(reader, listen),
        anonymous=reader.read("anonymous", "none", _one_of(*ANONYMOUS)),
        metadata=reader.path(reader.read("metadata.path", "meta.db", _text)),
        memory=reader.read("limits.memory", 96 * MIB, _size(16 * MIB, TIB)),
        cache=reader.read("limits.cache", 16 * MIB, _size(0, TIB)),
        connections=reader.read("limits.connections", 1024, _number(1, 100_000)),
        object_max=reader.read("limits.object_max", 5 * TIB, _size(1, 64 * TIB)),
        scheme=reader.read("defaults.scheme", "replica:3", _scheme),
        chunk_size=reader.read("defaults.chunk_size", 8 * MIB, _size(64 * KIB, 64 * MIB)),
        compression=reader.read("defaults.compression", "lz4", _one_of("lz4", "plain")),
        placement=reader.read("cluster.placement", "ring", _one_of("ring", "round-robin")),
        repair_after=reader.read("cluster.repair_after", 600.0, _duration(1, 30 * 86400)),
        garbage_grace=reader.read("cluster.garbage_grace", 900.0, _duration(0, 30 * 86400)),
        upload_ttl=reader.read("cluster.upload_ttl", 86400.0, _duration(1, 365 * 86400)),
    )


def _read_data(reader: Reader) -> DataConfig:
    listen, secret_file, secrets = _read_door(reader, DATA_PORT)
    volumes = reader.read("volumes", None, _texts("a list of directories, one for each disk")) or ()
    paths = tuple(reader.path(text) for text in volumes)
    if len(set(paths)) < len(paths):
        reader.note("volumes", "one directory is named twice; each disk has a directory of its own")
    return DataConfig(
        name=reader.read("name", None, _node),
        listen=listen,
        secrets=secrets,
        secret_file=secret_file,
        log=_read_log(reader),
        metrics_listen=_read_metrics_listen(reader, listen),
        api=reader.read("api", (Address("127.0.0.1", API_PORT),), _urls),
        advertise=_read_advertise(reader, listen),
        zone=reader.read("zone", "default", _zone),
        volumes=paths,
        segment_size=reader.read("storage.segment_size", GIB, _size(64 * MIB, 16 * GIB)),
        reserve=reader.read("storage.reserve", 256 * MIB, _size(MIB, TIB)),
        direct=reader.read("storage.direct", True, _boolean),
        new_volumes=reader.read("storage.new_volumes", True, _boolean),
        scrub_period=reader.read("scrub.period", 30 * 86400.0, _duration(60, 10 * 365 * 86400)),
    )


READERS: Mapping[str, Callable[[Reader], Config]] = {"api": _read_api, "data": _read_data}


def _read_log(reader: Reader) -> LogConfig:
    return LogConfig(
        level=reader.read("log.level", "info", _one_of("debug", "info", "warning", "error")),
        format=reader.read("log.format", "text", _one_of("text", "json")),
    )


def _read_door(reader: Reader, port: int) -> tuple[Address, Path | None, tuple[bytes, ...]]:
    """Where to listen, and the secrets, one of which is a must beyond loopback."""
    listen = reader.read("listen", Address("127.0.0.1", port), parse_listen)
    name = reader.read("secret_file", "-", _text)
    if reader.given("secret_file"):
        return listen, reader.path(name), _read_secrets(reader, name)
    if not is_loopback(listen):
        reader.note(
            "secret_file",
            f"is missing; listening on {listen} needs one: a file with the secret all nodes of the cluster share",
        )
    return listen, None, ()


def _read_metrics_listen(reader: Reader, listen: Address) -> Address | None:
    """Where the numbers are told to other machines, to whoever asks."""
    address = reader.read("metrics_listen", Address("127.0.0.1", 0), parse_listen)
    if not reader.given("metrics_listen"):
        return None
    if address == listen and address.port:
        reader.note("metrics_listen", f"{address} is where the node itself listens; give it a port of its own")
    return address


def _read_secrets(reader: Reader, name: str) -> tuple[bytes, ...]:
    path = reader.path(name)
    try:
        handed = reader.credential(path)
        if handed:
            with suppress(OSError):  # closed to us, and more than closed enough
                _refuse_open(path, path.stat().st_mode)
        return read_secrets(handed or path)
    except ValueError as error:
        reader.note("secret_file", str(error))
        return ()


def read_secrets(path: Path) -> tuple[bytes, ...]:
    """The secrets in a file, the one that signs first; raises ValueError with what is wrong with it."""
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(SECRETS_BYTES_MAX + 1)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    _refuse_open(path, mode)
    try:
        return parse_secrets(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _refuse_open(path: Path, mode: int) -> None:
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        raise ValueError(f"{path} can be read by everybody on this machine: chmod o= {path}")


def _read_advertise(reader: Reader, listen: Address) -> Address:
    advertise = reader.read("advertise", listen, parse_listen)
    if advertise.host in {"0.0.0.0", "::"}:
        reader.note(
            "advertise", f"nobody can reach {advertise}; name the address at which the api nodes reach this node"
        )
    return advertise


def parse_listen(value: object) -> Address:
    """``host:port`` or ``[ipv6]:port``; raises ValueError with what is allowed."""
    try:
        return parse_address(value if isinstance(value, str) else "")
    except BadRequest:
        raise ValueError("use host:port, such as 127.0.0.1:8000 or [::1]:8000") from None


def is_loopback(address: Address) -> bool:
    """Whether only this machine can reach it."""
    try:
        return address.host == "localhost" or ipaddress.ip_address(address.host).is_loopback
    except ValueError:
        return False


def parse_size(value: object) -> int:
    """Bytes: a number, or a text such as ``96MiB``; raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if not match or match[2] not in SIZE_UNITS:
        raise ValueError("write a number of bytes, or a text such as '64KiB', '96MiB' or '5TiB'")
    return int(float(match[1]) * SIZE_UNITS[match[2]])


def parse_duration(value: object) -> float:
    """Seconds: a text such as ``10min``; raises ValueError."""
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if not match or match[2] not in DURATION_UNITS:
        raise ValueError("write a text such as '30s', '10min', '12h' or '30d'")
    return float(match[1]) * DURATION_UNITS[match[2]]


def format_size(size: int) -> str:
    """The shortest exact text that ``parse_size`` reads back."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size and size % SIZE_UNITS[unit] == 0:
            return f"{size // SIZE_UNITS[unit]}{unit}"
    return f"{size}B"


def _size(low: int, high: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        rule = f"from {format_size(low)} to {format_size(high)}"
        try:
            size = parse_size(value)
        except ValueError as error:
            raise ValueError(f"{error}, {rule}") from None
        if not low <= size <= high:
            raise ValueError(rule)
        return size

    return parse


def _duration(low: float, high: float) -> Callable[[object], float]:
    def parse(value: object) -> float:
        rule = f"from {low:g} seconds to {high / 86400:g} days"
        try:
            seconds = parse_duration(value)
        except ValueError as error:
            raise ValueError(f"{error}, {rule}") from None
        if not low <= seconds <= high:
            raise ValueError(rule)
        return seconds

    return parse


def _number(low: int, high: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return value

    return parse


def _one_of(*words: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        if not isinstance(value, str) or value not in words:
            near = difflib.get_close_matches(str(value), words, 1)
            hint = f" (did you mean '{near[0]}'?)" if near else ""
            raise ValueError("one of " + ", ".join(f"'{word}'" for word in words) + hint)
        return value

    return parse


def _text(value: object) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("a text that is not empty")
    return value


def _texts(rule: str) -> Callable[[object], tuple[str, ...]]:
    def parse(value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or not value or not all(isinstance(item, str) and item for item in value):
            raise ValueError(rule)
        return tuple(str(item) for item in value)

    return parse


def _urls(value: object) -> tuple[Address, ...]:
    rule = "a list of the api nodes, such as ['http://127.0.0.1:8000']"
    addresses = []
    for text in _texts(rule)(value):
        if not text.startswith("http://"):
            raise ValueError(rule)
        try:
            addresses.append(parse_listen(text.removeprefix("http://").rstrip("/")))
        except ValueError:
            raise ValueError(rule) from None
    return tuple(addresses)


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _node(value: object) -> NodeName:
    try:
        return parse_node(value if isinstance(value, str) else "")
    except BadName:
        raise ValueError("a node's name has 1 to 63 of A-Z, a-z, 0-9, '.', '_' and '-', such as 'data1'") from None


def _zone(value: object) -> str:
    try:
        return parse_node(value if isinstance(value, str) else "")
    except BadName:
        raise ValueError("a zone's name has 1 to 63 of A-Z, a-z, 0-9, '.', '_' and '-', such as 'rack1'") from None


def _scheme(value: object) -> str:
    try:
        return parse_scheme(value if isinstance(value, str) else "").text
    except BadRequest:
        raise ValueError(f"replica:N with N from 1 to {REPLICAS_MAX}, such as 'replica:3'") from None


def _suggest(key: str, known: Sequence[str]) -> str:
    """What was probably meant: a key spelled alike, or the same word in another section."""
    word = key.rpartition(".")[2]
    alike = [name for name in known if name.rpartition(".")[2] == word] or difflib.get_close_matches(key, known, 1)
    return f"; did you mean {alike[0]}?" if alike else ""


def _show(value: object) -> str:
    text = "true" if value is True else "false" if value is False else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


API_TEMPLATE = """\
# An api node of Flare: it knows names and places, and serves the clients. See flared.toml(5).
# Lines that are commented out show the defaults.

role = "api"
# format = 1               # of this file; a newer one is for a newer version of Flare
# name = "api"

# Beyond 127.0.0.1 a secret_file is a must.
# listen = "127.0.0.1:8000"

# The secret that all nodes of the cluster share. `flared init api` makes it; nobody else may read the file.
# secret_file = "secret"

# Where /metrics is told to other machines, to whoever asks; on this one it always is, at `listen`. Off by default.
# metrics_listen = "0.0.0.0:8001"

# What clients on other machines may do without the secret: "none", "read" or "read-write".
# anonymous = "none"

[metadata]
# The names and places of everything stored: back it up. Relative paths are relative to this file.
# path = "meta.db"

[limits]
# memory = "96MiB"         # bodies under way, queues and batches, all together
# cache = "16MiB"          # small objects that are read again and again, beside it; "0B" for none
# connections = 1024       # open at once; more are answered 503
# object_max = "5TiB"

[defaults]
# What a bucket is created with; a bucket keeps what it was created with.
# scheme = "replica:3"     # copies on this many nodes
# chunk_size = "8MiB"      # 64KiB to 64MiB
# compression = "lz4"      # or "plain"

[cluster]
# placement = "ring"       # or "round-robin"
# repair_after = "10min"   # silence after which a node's pieces are rebuilt elsewhere
# garbage_grace = "15min"  # how long deleted data rests before its space is given back
# upload_ttl = "1d"        # how long an upload may take

[log]
# level = "info"           # "debug", "info", "warning", "error"
# format = "text"          # or "json"
"""

DATA_TEMPLATE = """\
# A data node of Flare: it keeps pieces on its disks. See flared.toml(5).
# Lines that are commented out show the defaults.

role = "data"
# format = 1               # of this file; a newer one is for a newer version of Flare
name = "data1"             # its identity for life; the address may change

# Beyond 127.0.0.1 a secret_file is a must.
# listen = "127.0.0.1:9000"

# How the api nodes reach this node; as `listen` unless told otherwise.
# advertise = "127.0.0.1:9000"

# The same secret as at the api nodes.
# secret_file = "secret"

# Where /metrics is told to other machines, to whoever asks; on this one it always is, at `listen`. Off by default.
# metrics_listen = "0.0.0.0:9001"

# api = ["http://127.0.0.1:8000"]

# Nodes that fail together (a rack, a room) share a zone; copies go to different zones first.
# zone = "default"

# One directory for each disk. Relative paths are relative to this file.
volumes = ["/srv/flare"]

[storage]
# segment_size = "1GiB"    # at most; smaller on small volumes
# reserve = "256MiB"       # held back on each volume, so that deletes go on when it is full
# new_volumes = true       # false: a directory without a volume is refused, its disk is not mounted (flared prepare)
# direct = true            # large pieces bypass the page cache (O_DIRECT) where the file system can

[scrub]
# period = "30d"           # everything is read again and verified in this time

[log]
# level = "info"           # "debug", "info", "warning", "error"
# format = "text"          # or "json"
"""
