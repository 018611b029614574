from __future__ import annotations

import errno
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from flared.__main__ import main
from flared.commands import local, supervisor
from flared.commands.local import Contradiction, prepare
from flared.commands.supervisor import LocalNode, NotStarted, Supervisor
from flared.config.load import load_config
from flared.config.settings import ApiConfig, DataConfig
from flared.errors import leaves
from flared.systemd import notify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def names(
    directory: Path, nodes: int | None = None, *, port: int | None = None, scheme: str | None = None
) -> list[str]:
    directory.mkdir(exist_ok=True)
    return [node.name for node in prepare(directory, nodes=nodes, port=port, data_port=None, scheme=scheme)]


def test_a_new_directory_holds_one_plain_file_a_node(tmp_path: Path) -> None:
    assert names(tmp_path / "new") == ["api", "data1", "data2", "data3"]
    api = load_config(tmp_path / "new/api.toml")
    assert isinstance(api, ApiConfig)
    assert api.s3_listen == ("127.0.0.1", 8333)
    assert (api.listen.port, api.scheme, api.metadata) == (8000, "replica:3", tmp_path / "new/meta.db")
    for number in (1, 2, 3):
        data = load_config(tmp_path / f"new/data{number}.toml")
        assert isinstance(data, DataConfig)
        assert (data.name, data.listen.port) == (f"data{number}", 8999 + number)
        assert data.volumes == (tmp_path / f"new/data{number}",)


def test_the_scheme_follows_the_number_of_nodes(tmp_path: Path) -> None:
    for nodes, scheme in ((1, "replica:1"), (2, "replica:2"), (5, "replica:3")):
        names(tmp_path / str(nodes), nodes)
        config = load_config(tmp_path / f"{nodes}/api.toml")
        assert isinstance(config, ApiConfig)
        assert config.scheme == scheme


def test_what_is_there_is_kept_and_never_contradicted(tmp_path: Path) -> None:
    names(tmp_path, 2, port=8123)
    file = tmp_path / "data1.toml"
    file.write_text(file.read_text() + 'zone = "rack1"\n')
    assert names(tmp_path) == ["api", "data1", "data2"]
    assert "rack1" in file.read_text()
    assert names(tmp_path, 3, port=8123) == ["api", "data1", "data2", "data3"]
    for arguments in ({"port": 8124}, {"scheme": "replica:1"}, {"nodes": 1}):
        with pytest.raises(Contradiction):
            names(tmp_path, **arguments)  # type: ignore[arg-type]


def test_ports_that_overlap_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(Contradiction, match=r"9000 to 9002.*--port and --data-port"):
        names(tmp_path, 3, port=9001)
    assert not list(tmp_path.iterdir())
    names(tmp_path, 1, port=9001)
    with pytest.raises(Contradiction):
        names(tmp_path, 2)


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize("option", ["--port", "--s3-port", "--data-port"])
def test_a_first_start_that_fails_does_not_bind_the_next(
    tmp_path: Path, taken: int, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    ports = {"--port": free_port(), "--s3-port": free_port(), "--data-port": free_port()} | {option: taken}
    words = [word for name, port in ports.items() for word in (name, str(port))]
    assert main(["local", "--dir", str(tmp_path), "--nodes", "1", *words]) == 1
    assert f"port {taken}" in (output := capsys.readouterr().err)
    assert f"choose another with {option}" in output
    assert not list(tmp_path.glob("*.toml"))


def test_only_a_first_start_takes_its_files_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "run_local", lambda nodes, say: 1)
    port, s3_port, data_port = free_port(), free_port(), free_port()

    def start() -> int:
        return local.start(tmp_path, print, nodes=1, port=port, data_port=data_port, scheme=None, s3_port=s3_port)

    assert start() == 1
    assert not list(tmp_path.glob("*.toml"))
    names(tmp_path, 1)
    assert local.start(tmp_path, print, nodes=1, port=None, data_port=None, scheme=None) == 1
    assert sorted(path.name for path in tmp_path.glob("*.toml")) == ["api.toml", "data1.toml"]


def test_a_cluster_that_ends_with_an_error_keeps_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_local(nodes: object, say: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", "data1.log")

    monkeypatch.setattr(local, "run_local", run_local)
    port, s3_port, data_port = free_port(), free_port(), free_port()
    with pytest.raises(OSError, match="No space left"):
        local.start(tmp_path, print, nodes=1, port=port, data_port=data_port, scheme=None, s3_port=s3_port)
    assert sorted(path.name for path in tmp_path.glob("*.toml")) == ["api.toml", "data1.toml"]


def test_readiness_is_sent_to_the_starter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0flared-test-notify")
        monkeypatch.setenv("NOTIFY_SOCKET", "@flared-test-notify")
        notify("READY=1")
        assert listener.recv(100) == b"READY=1"
    notify("READY=1")  # the listener is closed


READY = "import os, time, pathlib; from flared.systemd import notify; notify('READY=1'); time.sleep(60)"


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes are small scripts: the content of their TOML file."""
    original = supervisor.subprocess.Popen

    def start(command: list[str], **options: object) -> object:
        return original([sys.executable, "-c", Path(command[-1]).read_text()], **options)  # type: ignore[call-overload]

    monkeypatch.setattr(supervisor.subprocess, "Popen", start)
    monkeypatch.setattr(supervisor, "RESTART_SECONDS", 0.01)


def script(directory: Path, name: str, text: str) -> LocalNode:
    file = directory / f"{name}.toml"
    file.write_text(text)
    return LocalNode(name, file)


async def test_what_dies_is_started_again_and_what_is_killed_stays_down(tmp_path: Path, scripts: None) -> None:
    said: list[str] = []
    node = script(tmp_path, "data1", READY)
    keeper = Supervisor([node], said.append)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(keeper.run)
            first = node.process
            assert first is not None
            first.send_signal(signal.SIGKILL)
            await until(lambda: node.process is not first)
            assert said == ["data1 died (signal 9) and is restarted"]
            await keeper.kill("data1")
            killed = node.process
            await trio.sleep(0.1)
            assert node.process is killed
            keeper.revive("data1")
            await until(lambda: node.process is not killed)
            nursery.cancel_scope.cancel()
    assert node.process is not None
    assert node.process.returncode == -signal.SIGTERM


def test_a_node_that_does_not_start_is_reported_with_the_end_of_its_log(tmp_path: Path, scripts: None) -> None:
    keeper = Supervisor([script(tmp_path, "api", "raise SystemExit('port taken')")], print)
    with pytest.raises(ExceptionGroup) as caught:
        trio.run(keeper.run, strict_exception_groups=True)
    causes = leaves(caught.value)
    assert {type(cause) for cause in causes} == {NotStarted}
    assert "port taken" in "".join(map(str, causes))


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110  # what is waited for happens in another process
        await trio.sleep(0.01)
