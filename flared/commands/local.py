"""``flared local``: a small cluster on this machine, in the foreground, until Ctrl-C or SIGTERM.

Its directory holds all data and one TOML file for each node, with which ``flared --config`` can start it by hand.
Existing files are used unchanged, so that an operator's changes stay.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import socket
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from flared.commands.local_key import SECRET_FILE, ensure_key, write_secret
from flared.commands.supervisor import LocalNode, NotStarted, Supervisor
from flared.config.load import API_PORT, DATA_PORT, S3_PORT, load_config
from flared.config.settings import ApiConfig
from flared.errors import Busy, FlareError, leaves
from flared.meta.lockfile import LockFile
from flared.systemd import notify

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from flared.http.address import Address

NODES_DEFAULT = 3
NODES_MAX = 50
REPLICAS_DEFAULT_MAX = 3
API = "api"

_DATA_FILE = re.compile(r"data([1-9]\d*)\.toml")


class Contradiction(FlareError):
    """The options contradict the files in the directory."""


def start(
    directory: Path,
    say: Callable[[str], None],
    *,
    nodes: int | None,
    port: int | None,
    data_port: int | None,
    scheme: str | None,
    s3_port: int | None = None,
) -> int:
    """Create the directory's files and run the cluster; return the exit code.

    A first start that fails removes its TOML files again, so that the next one may have other options. Raise what
    ``prepare`` raises, and Busy for a port in use.
    """
    taken_back = new = not _toml_files(directory)
    try:
        found = prepare(directory, nodes=nodes, port=port, data_port=data_port, scheme=scheme, s3_port=s3_port)
        if new:
            _check_ports(found)
        taken_back = False  # an error that ends a running cluster leaves it as it is: it may hold data
        code = run_local(found, say)
        taken_back = new and code != 0
    finally:
        if taken_back:
            for file in _toml_files(directory):
                file.unlink()
    return code


def _toml_files(directory: Path) -> list[Path]:
    return [path for path in directory.iterdir() if path.name == f"{API}.toml" or _DATA_FILE.fullmatch(path.name)]


def _check_ports(nodes: list[LocalNode]) -> None:
    """Raise Busy for a port in use, naming the option for another."""
    for node in nodes:
        config = load_config(node.config)
        _check_port(config.listen, node.name, "--port" if node.name == API else "--data-port")
        if isinstance(config, ApiConfig) and config.s3_listen is not None:
            _check_port(config.s3_listen, "S3", "--s3-port")


def _check_port(address: Address, purpose: str, option: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise Busy(f"port {address.port}, for {purpose}: {reason}; choose another with {option}") from None


def prepare(
    directory: Path,
    *,
    nodes: int | None,
    port: int | None,
    data_port: int | None,
    scheme: str | None,
    s3_port: int | None = None,
) -> list[LocalNode]:
    """Create the directory's TOML files unless they exist. Return the nodes they describe, the api node first.

    None stands for the value in the directory's files, or the default. Raise Contradiction, ConfigError, OSError.
    """
    # Contradictions first, before any file is written: a data node left out would leave its pieces out too.
    there = sorted(int(match[1]) for path in directory.iterdir() if (match := _DATA_FILE.fullmatch(path.name)))
    count = nodes or len(there) or NODES_DEFAULT
    if there and count < len(there):
        raise Contradiction(f"{directory} has {len(there)} data nodes already; none of them can be left out")
    api = directory / "api.toml"
    api_port = load_config(api).listen.port if api.exists() else port or API_PORT
    first = data_port or DATA_PORT
    if api_port in (first + number - 1 for number in range(1, count + 1) if number not in there):
        raise Contradiction(
            f"port {api_port} cannot be both the api node's and a data node's ({first} to {first + count - 1}): "
            "choose others with --port and --data-port"
        )
    # Write the files that are missing, then read all of them: an existing file has the last word.
    if not api.exists():
        write_secret(directory)
    new_scheme = scheme or f"replica:{min(REPLICAS_DEFAULT_MAX, count)}"
    _write(api, lambda: api_toml(port or API_PORT, s3_port or S3_PORT, new_scheme))
    config = load_config(api)
    assert isinstance(config, ApiConfig)
    _agree(api, "--port", port, config.listen.port)
    _agree(api, "--s3-port", s3_port, config.s3_listen.port if config.s3_listen else None)
    _agree(api, "--scheme", scheme, config.scheme)
    found = [LocalNode(API, api)]
    for number in range(1, count + 1):
        name = f"data{number}"
        file = directory / f"{name}.toml"
        wanted = None if data_port is None else data_port + number - 1
        text = data_toml(
            name, wanted or DATA_PORT + number - 1, config.listen.port, secret=config.secret_file is not None
        )
        _write(file, lambda: text)  # noqa: B023  # called at once
        _agree(file, "--data-port", wanted, load_config(file).listen.port)
        (directory / name).mkdir(exist_ok=True, mode=0o700)
        found.append(LocalNode(name, file))
    return found


@contextmanager
def open_directory(directory: Path) -> Iterator[None]:
    """Create and lock the directory. Raise Busy, naming the process, if another ``flared local`` uses it."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = LockFile(directory / "local.lock", str(directory))
    try:
        yield
    finally:
        lock.close()


def run_local(nodes: list[LocalNode], say: Callable[[str], None]) -> int:
    """Run the cluster until SIGTERM or Ctrl-C; return the exit code."""
    return trio.run(_run, nodes, say, strict_exception_groups=True)


async def _run(nodes: list[LocalNode], say: Callable[[str], None]) -> int:
    supervisor = Supervisor(nodes, say)
    failures: list[str] = []
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_stop_at_signal, signals, nursery.cancel_scope, say)
                await nursery.start(supervisor.run)
                config = load_config(nodes[0].config)
                say(f"Flare is up: http://{config.listen}   ({len(nodes) - 1} data nodes; Ctrl-C ends it)")
                if isinstance(config, ApiConfig) and config.s3_listen is not None:
                    directory = nodes[0].config.parent
                    key = await trio.to_thread.run_sync(ensure_key, directory, config)
                    say(
                        f"S3:          http://{config.s3_listen}"
                        + (f"   (its key: . {shlex.quote(str(key))})" if key else "")
                    )
                say(f"next, in another terminal: {_flarectl()} --endpoint http://{config.listen} put FILE")
                notify("READY=1")
        except* NotStarted as group:
            failures = [str(error) for error in leaves(group)]
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


def _flarectl() -> str:
    """Return how to type flarectl here: with its path in a virtual environment that is not active."""
    beside = Path(sys.executable).with_name("flarectl")
    return "flarectl" if shutil.which("flarectl") or not beside.exists() else str(beside)


async def _stop_at_signal(signals: AsyncIterator[int], scope: trio.CancelScope, say: Callable[[str], None]) -> None:
    async for _ in signals:
        say("stopping …")
        notify("STOPPING=1")
        scope.cancel()


def api_toml(port: int, s3_port: int, scheme: str) -> str:
    return (
        f'role = "api"\nname = "{API}"\nlisten = "127.0.0.1:{port}"\nsecret_file = "{SECRET_FILE}"\n'
        f's3_listen = "127.0.0.1:{s3_port}"\n\n'
        f"[defaults]\nscheme = {json.dumps(scheme)}\n"
    )


def data_toml(name: str, port: int, api_port: int, *, secret: bool) -> str:
    """``secret``: the cluster has one; those of an older Flare have none."""
    secret_line = f'secret_file = "{SECRET_FILE}"\n'
    return (
        f'role = "data"\nname = "{name}"\nlisten = "127.0.0.1:{port}"\n'
        f"{secret_line if secret else ''}"
        f'api = ["http://127.0.0.1:{api_port}"]\nvolumes = ["{name}"]\n'
    )


def _write(file: Path, make: Callable[[], str]) -> None:
    if not file.exists():
        file.write_text(make(), "utf-8")


def _agree(file: Path, option: str, wanted: object, found: object) -> None:
    if wanted is not None and wanted != found:
        raise Contradiction(f"{file} says {found}, {option} {wanted}: leave the option out, or change the file")
