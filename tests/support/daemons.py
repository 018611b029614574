"""A real cluster on this machine: one api node and some data nodes, each its own process with its own TOML file.

For the process tests and the benchmark. Every port is a free one, everything lies below one directory.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import tomli_w

from tests.support.client import NO_ANSWER, Client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

READY_SECONDS = 60.0
API = "api"

Toml = dict[str, object]


@dataclass(slots=True)
class Daemon:
    """One node; ``process`` is None while it is down."""

    name: str
    config: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.config.with_suffix(".log")

    @property
    def pid(self) -> int:
        assert self.process is not None, f"{self.name} is down"
        return self.process.pid


@dataclass
class Cluster:
    """Settings of a cluster to be; ``start`` makes its files and processes, ``stop`` ends the processes.

    ``volumes`` says where data nodes keep their pieces (by node name), if not below ``directory``. ``api`` and ``data``
    are merged, table by table, over the nodes' own settings.
    """

    directory: Path
    nodes: int = 1
    scheme: str = "replica:1"
    api: Toml = field(default_factory=dict)
    data: Toml = field(default_factory=dict)
    volumes: dict[str, list[Path]] = field(default_factory=dict)
    metadata: Path | None = None
    daemons: dict[str, Daemon] = field(default_factory=dict)
    command: tuple[str, ...] = (sys.executable, "-m", "flared")
    """The command that is run as ``flared``: this tree's, unless another version is given."""
    environment: dict[str, str] = field(default_factory=dict)
    """Of every node, beside what this process has."""

    secret = "only-for-tests-0123456789abcdef-0123456789abcdef"

    def prepare(self) -> None:
        """Write the TOML files; ports are chosen here and stay."""
        self.directory.mkdir(parents=True, exist_ok=True)
        secret = self.directory / "secret"
        secret.write_text(self.secret + "\n")
        secret.chmod(0o600)
        ports = free_ports(self.nodes + 1)
        self._write(API, ports[0], self._api_toml(ports[0]))
        for number, port in enumerate(ports[1:], 1):
            self._write(f"data{number}", port, self._data_toml(f"data{number}", port, ports[0]))

    def start(self) -> None:
        """Start what is down and return when the cluster says it is well."""
        if not self.daemons:
            self.prepare()
        for name, daemon in self.daemons.items():
            if daemon.process is None:
                self.launch(name)
        self.wait_ready()

    def launch(self, name: str) -> None:
        """Start one node and do not wait for it."""
        daemon = self.daemons[name]
        assert daemon.process is None, f"{name} is running"
        with open(daemon.log, "ab") as log:
            daemon.process = subprocess.Popen(
                [*self.command, "--config", str(daemon.config)],
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait_ready(self, seconds: float = READY_SECONDS) -> None:
        """Return once every node that runs is ready and, if all run, the api node calls the cluster healthy."""
        end = time.monotonic() + seconds
        for daemon in self.running():
            self._wait(lambda daemon=daemon: is_ready(daemon), end, f"{daemon.name} is not ready")  # type: ignore[misc]
        if len(self.running()) == len(self.daemons):
            self._wait(lambda: self.health() == "ok", end, "the cluster is not healthy")

    def wait_until(self, holds: Callable[[], bool], what: str, seconds: float = READY_SECONDS) -> None:
        self._wait(holds, time.monotonic() + seconds, what)

    def health(self) -> str:
        with contextlib.suppress(*NO_ANSWER):
            return str(self.client().call("GET", "/status").json().get("health"))
        return "no answer"

    def running(self) -> list[Daemon]:
        return [daemon for daemon in self.daemons.values() if daemon.process is not None]

    def data_names(self) -> list[str]:
        return [name for name in self.daemons if name != API]

    def kill(self, name: str) -> None:
        """``kill -9``."""
        self._end(self.daemons[name], signal.SIGKILL, 10)

    def terminate(self, name: str, seconds: float = 40.0) -> int:
        """SIGTERM, as systemd stops a service; returns the exit code."""
        return self._end(self.daemons[name], signal.SIGTERM, seconds)

    def change(self, name: str, toml: Toml) -> None:
        """Merge settings into the TOML file of a node, table by table; the node reads it when it is told to."""
        file = self.daemons[name].config
        file.write_text(tomli_w.dumps(merged(tomllib.loads(file.read_text()), toml)))

    def stop(self) -> None:
        """End every process; those that do not go on SIGTERM are killed."""
        for daemon in self.running():
            assert daemon.process is not None
            daemon.process.terminate()
        for daemon in self.running():
            try:
                self._end(daemon, signal.SIGTERM, 15)
            except subprocess.TimeoutExpired:
                self._end(daemon, signal.SIGKILL, 10)

    def check_alive(self) -> None:
        """Fail if a node died that the test did not end."""
        for daemon in self.running():
            assert daemon.process is not None
            code = daemon.process.poll()
            assert code is None, f"{daemon.name} died by itself with {code}\n{self.log_tail(daemon.name)}"

    def client(self, name: str = API, *, timeout: float = 60.0) -> Client:
        return Client(self.daemons[name].port, timeout=timeout)

    def log_tail(self, name: str, lines: int = 30) -> str:
        with contextlib.suppress(FileNotFoundError):
            text = self.daemons[name].log.read_text(errors="replace").splitlines()
            return "\n".join([f"--- {name}.log", *text[-lines:]])
        return ""

    def _wait(self, holds: Callable[[], bool], end: float, what: str) -> None:
        while not holds():
            self.check_alive()
            if time.monotonic() > end:
                tails = "\n".join(self.log_tail(name) for name in self.daemons)
                raise AssertionError(f"{what}\n{tails}")
            time.sleep(0.02)

    def _end(self, daemon: Daemon, number: int, seconds: float) -> int:
        assert daemon.process is not None, f"{daemon.name} is down"
        daemon.process.send_signal(number)
        code = daemon.process.wait(seconds)
        daemon.process = None
        return code

    def _write(self, name: str, port: int, toml: Toml) -> None:
        config = self.directory / f"{name}.toml"
        config.write_text(tomli_w.dumps(toml))
        self.daemons[name] = Daemon(name, config, port)

    def _api_toml(self, port: int) -> Toml:
        metadata = self.metadata or self.directory / "meta.db"
        mine: Toml = {
            "role": "api",
            "name": API,
            "listen": f"127.0.0.1:{port}",
            "secret_file": "secret",
            "metadata": {"path": str(metadata)},
            "defaults": {"scheme": self.scheme},
        }
        return merged(mine, self.api)

    def _data_toml(self, name: str, port: int, api_port: int) -> Toml:
        volumes = self.volumes.get(name) or [self.directory / name]
        for volume in volumes:
            volume.mkdir(parents=True, exist_ok=True)
        mine: Toml = {
            "role": "data",
            "name": name,
            "listen": f"127.0.0.1:{port}",
            "secret_file": "secret",
            "api": [f"http://127.0.0.1:{api_port}"],
            "volumes": [str(volume) for volume in volumes],
        }
        return merged(mine, self.data)


class Start(Protocol):
    """Starts a cluster that ends with the test (a fixture of the process tests)."""

    def __call__(
        self,
        *,
        nodes: int = 1,
        scheme: str = "replica:1",
        api: Toml | None = None,
        data: Toml | None = None,
        volumes: dict[str, list[Path]] | None = None,
        metadata: Path | None = None,
    ) -> Cluster: ...


@contextlib.contextmanager
def running(cluster: Cluster) -> Iterator[Cluster]:
    """Start the cluster; its processes end with the block in any case."""
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def merged(below: Toml, above: Toml) -> Toml:
    """``above`` laid over ``below``, tables merged one level deep, as TOML needs them: plain values first."""
    both = dict(below)
    for key, value in above.items():
        old = both.get(key)
        both[key] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
    return both


def free_ports(count: int) -> list[int]:
    """Return free ports below those the kernel hands to clients: a node that is down keeps its own.

    ``FLARE_TEST_PORTS`` (``FIRST-LAST``) keeps runs apart that share a machine.
    """
    ports: list[int] = []
    first, _, last = os.environ.get("FLARE_TEST_PORTS", "12000-31999").partition("-")
    candidates = random.sample(range(int(first), int(last) + 1), 1000)
    while len(ports) < count:
        port = candidates.pop()
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            ports.append(port)
    return ports


def is_ready(daemon: Daemon) -> bool:
    client = Client(daemon.port, timeout=5)
    try:
        return client.call("GET", "/readyz").status == 200
    except NO_ANSWER:
        return False
    finally:
        client.close()


def private_bytes(pid: int) -> int:
    """Memory that would come back if this process ended (``smaps_rollup``)."""
    kilobytes = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(("Private_Clean:", "Private_Dirty:")):
            kilobytes += int(line.split()[1])
    return kilobytes * 1024


def cpu_seconds(pids: Sequence[int]) -> float:
    """User and system time of these processes so far."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
