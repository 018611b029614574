"""The protocol with systemd: descriptors, readiness, the watchdog, reloads."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from flared import daemon
from flared.config.load import load_config
from flared.config.settings import ApiConfig, Config
from flared.errors import Busy, ConfigError
from flared.http.address import Address
from flared.http.messages import Reply, Request
from flared.http.server import Server
from flared.http.tls_context import Tls
from flared.role import Rate, Role
from flared.systemd import take_descriptors, watchdog_seconds

ANY = Address("127.0.0.1", 0)


async def refuse(request: Request, reply: Reply) -> None:
    raise AssertionError("not called")


def make_role(ready: trio.Event, reloaded: list[Config]) -> Role:
    return Role(Server(refuse), ready.wait, lambda: "7 objects", list, reloaded.append)


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    name = f"flared-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + name)
        listener.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
        yield listener


def received(listener: socket.socket) -> list[str]:
    messages = []
    while True:
        try:
            messages.append(listener.recv(4096).decode())
        except BlockingIOError:
            return messages


def test_descriptors_are_taken_once_and_only_when_meant_for_us(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(take_descriptors()) == []
    monkeypatch.setattr(os, "set_inheritable", lambda descriptor, inheritable: None)
    for pid, expected in ((os.getpid(), [3, 4]), (os.getpid() + 1, [])):
        monkeypatch.setenv("LISTEN_PID", str(pid))
        monkeypatch.setenv("LISTEN_FDS", "2")
        assert list(take_descriptors()) == expected
        assert "LISTEN_FDS" not in os.environ
        assert list(take_descriptors()) == []


def test_the_watchdog_is_heeded_only_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, seconds in ((None, None), ("30000000", 30.0), ("0", None), ("x", None)):
        if value is not None:
            monkeypatch.setenv("WATCHDOG_USEC", value)
        assert watchdog_seconds() == seconds
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert watchdog_seconds() is None


def hand_over(monkeypatch: pytest.MonkeyPatch, listening: socket.socket) -> None:
    descriptor = os.dup(listening.fileno())
    monkeypatch.setattr(daemon, "take_descriptors", lambda: range(descriptor, descriptor + 1))


def test_sockets_that_systemd_opened_are_used_if_they_are_where_the_file_says(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        hand_over(monkeypatch, listening)
        (taken,) = daemon.take_listeners(Address("localhost", port))
        assert taken.getsockname() == listening.getsockname()
        taken.close()
        hand_over(monkeypatch, listening)
        with pytest.raises(ConfigError, match=rf"listen is 127.0.0.1:1, but .* 127.0.0.1:{port}"):
            daemon.take_listeners(Address("127.0.0.1", 1))


def test_without_systemd_the_node_opens_its_own_port() -> None:
    (taken,) = daemon.take_listeners(ANY)
    with taken, pytest.raises(Busy, match="Address already in use"):
        daemon.take_listeners(Address(*taken.getsockname()))


async def test_ready_is_sent_when_all_is_served_and_then_the_watchdog(
    heard: socket.socket, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "9000000")
    ready = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(daemon._report, make_role(ready, []))
        await trio.sleep(7)
        asking = received(heard)
        assert asking == ["EXTEND_TIMEOUT_USEC=60000000\nSTATUS=starting: 7 objects"] * 2
        ready.set()
        await trio.sleep(9.5)
        assert received(heard) == ["READY=1\nSTATUS=7 objects"] + ["WATCHDOG=1\nSTATUS=7 objects"] * 3
        nursery.cancel_scope.cancel()


def test_a_reload_takes_what_may_change_and_tells_of_the_rest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels: list[str] = []
    monkeypatch.setattr(daemon, "set_up_logging", lambda level, format: levels.append(level))  # noqa: A006
    caplog.set_level("INFO")
    file = tmp_path / "api.toml"
    file.write_text('role = "api"')
    running = load_config(file)
    reloaded: list[Config] = []
    role = make_role(trio.Event(), reloaded)

    file.write_text('role = "api"\nlisten = "127.0.0.1:1"\n[limits]\nconnections = 7\n[log]\nlevel = "debug"')
    changed = daemon._reload(role, running, file, Tls(None))
    assert isinstance(changed, ApiConfig)
    assert (changed.connections, reloaded, levels) == (7, [changed], ["debug"])
    assert "event=node_reloaded changed=log,connections" in caplog.text
    assert "event=restart_needed changed=listen" in caplog.text

    for text in ('role = "apy"', 'role = "data"\nname = "d"\nvolumes = ["/x"]'):
        caplog.clear()
        file.write_text(text)
        assert daemon._reload(role, changed, file, Tls(None)) is changed
        assert "event=reload_refused" in caplog.text
    assert reloaded == [changed]


def test_a_rate_is_what_happened_since_the_last_look() -> None:
    counts, times = iter((10, 30, 30)), iter((1.0, 3.0, 4.0))
    rate = Rate(lambda: next(counts), lambda: next(times))
    assert [rate.sample(), rate.sample()] == [10.0, 0.0]
