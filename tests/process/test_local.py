"""``flared local``: a little cluster in the foreground that mends itself and finds everything again."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from flared.access.access_key import AccessKey
from tests.support.bodies import body
from tests.support.client import NO_ANSWER, Client
from tests.support.daemons import free_ports
from tests.support.faultdisk import wait_until
from tests.support.s3 import sign_request


@contextlib.contextmanager
def local(directory: Path, port: int, s3_port: int, data_port: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "flared", "local", "--dir", str(directory), "--nodes", "3"]
    command += ["--port", str(port), "--s3-port", str(s3_port), "--data-port", str(data_port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: health(port) == "ok", "flared local does not become healthy", seconds=60)
        yield process
    finally:
        process.terminate()
        assert process.wait(40) == 0, "SIGTERM is an orderly end"


def health(port: int) -> str:
    client = Client(port)
    try:
        return str(client.call("GET", "/status").json()["health"])
    except NO_ANSWER:
        return "no answer"
    finally:
        client.close()


def adjacent_ports(count: int) -> int:
    """The first of ``count`` free ports in a row."""
    for _ in range(100):
        first = free_ports(1)[0]
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for port in range(first, first + count):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
            return first
    raise AssertionError("no free ports in a row")


def child_named(parent: int, word: str) -> int | None:
    """The process started by ``parent`` whose command line has this word in it; None if there is none."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                status = (entry / "stat").read_text().rpartition(")")[2].split()
                command = (entry / "cmdline").read_text().replace("\0", " ")
                if int(status[1]) == parent and word in command:
                    return int(entry.name)
    return None


class Key(NamedTuple):
    id: str
    secret: str


def read_key(directory: Path) -> Key:
    """The key that S3 tools find in their environment, from a file that only its owner may read."""
    file = directory / "s3.env"
    wait_until(file.exists, "no key is made")
    assert file.stat().st_mode & 0o777 == 0o600
    values = dict(line.removeprefix("export ").split("=", 1) for line in file.read_text().splitlines())
    return Key(values["AWS_ACCESS_KEY_ID"], values["AWS_SECRET_ACCESS_KEY"])


def call_s3(port: int, key: Key, method: str, target: str) -> int:
    access_key = AccessKey(key.id, "local", key.secret, ())
    head = sign_request(access_key, time.time(), method, target, host=f"localhost:{port}")
    return Client(port).call(method, target, b"", head | {"host": f"localhost:{port}"}).status


def test_local_restarts_what_dies_and_finds_everything_again(directory: Path) -> None:
    (port, s3_port), data_port = free_ports(2), adjacent_ports(3)
    content = body("local", 3_000_000)
    with local(directory, port, s3_port, data_port) as process:
        assert Client(port).put("mine", content).status == 201
        victim = child_named(process.pid, "data2")
        assert victim is not None
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: child_named(process.pid, "data2") not in (None, victim), "no new data2")
        wait_until(lambda: health(port) == "ok", "it does not become healthy again", seconds=60)
        assert Client(port).get("mine").body == content
        key = read_key(directory)
        assert call_s3(s3_port, key, "PUT", "/box") == 200
    for name in ("api", "data1", "data2", "data3"):
        assert (directory / f"{name}.toml").is_file()
    with local(directory, port, s3_port, data_port):
        assert Client(port).get("mine").body == content
        assert read_key(directory) == key
        assert call_s3(s3_port, key, "HEAD", "/box") == 200
        assert call_s3(s3_port, key._replace(secret="another"), "HEAD", "/box") == 403
    (directory / "s3.env").unlink()  # cannot be made again, so the key is replaced
    with local(directory, port, s3_port, data_port):
        assert call_s3(s3_port, read_key(directory), "HEAD", "/box") == 200
        assert call_s3(s3_port, key, "HEAD", "/box") == 403


def test_local_runs_an_api_node_of_several_processes(directory: Path) -> None:
    (port, s3_port), data_port = free_ports(2), adjacent_ports(3)
    with local(directory, port, s3_port, data_port):
        assert Client(port).put("mine", b"kept").status == 201
    api = directory / "api.toml"
    api.write_text("workers = 2\n" + api.read_text())
    with local(directory, port, s3_port, data_port) as process:
        wait_until(lambda: len(workers_at(port)) == 1, "there is no worker", seconds=60)
        killed = workers_at(port)[0]
        assert all(Client(port).get("mine").body == b"kept" for _ in range(4))
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: workers_at(port) not in ([], [killed]), "no new worker", seconds=60)
        api_node = child_named(process.pid, "api.toml")
        assert api_node is not None
        os.kill(api_node, signal.SIGKILL)
        wait_until(lambda: child_named(process.pid, "api.toml") not in (None, api_node), "no new api node")
        wait_until(lambda: health(port) == "ok", "it does not become healthy again", seconds=60)
        assert all(Client(port).get("mine").body == b"kept" for _ in range(4))


def workers_at(port: int) -> list[int]:
    """The processes of the workers; empty while no answer comes."""
    client = Client(port)
    try:
        return [worker["pid"] for worker in client.call("GET", "/status").json().get("workers", [])]
    except NO_ANSWER:
        return []
    finally:
        client.close()
