"""An api node of two processes: clients see one cluster, no matter which process answers."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.process.test_metrics import documented
from tests.support.bodies import body
from tests.support.certificates import OTHER_CERTIFICATE, OTHER_KEY, trusting, write_certificate
from tests.support.client import NO_ANSWER, Client, object_path
from tests.support.daemons import API, free_ports

if TYPE_CHECKING:
    from tests.support.daemons import Cluster, Start, Toml

CONNECTIONS = 4
"""So many one after the other reach each of two processes twice."""


def clients(cluster: Cluster) -> list[Client]:
    """One connection each, dealt to the processes in turn."""
    made = []
    for _ in range(CONNECTIONS):
        client = cluster.client()
        client.call("GET", "/healthz")
        made.append(client)
    return made


def workers_of(cluster: Cluster) -> list[dict[str, int]]:
    return list(cluster.client().call("GET", "/status").json().get("workers", []))


def wait_for_worker(cluster: Cluster, but: int = 0) -> int:
    """Return the process of the only worker, once it is not the one of before."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with contextlib.suppress(*NO_ANSWER):
            pids = [worker["pid"] for worker in workers_of(cluster) if worker["pid"] != but]
            if pids:
                return pids[0]
        time.sleep(0.1)
    raise AssertionError("there is no worker")


def wait_for_serving_worker(cluster: Cluster) -> int:
    """Return the process of the only worker, once it has answered somebody."""

    def has_answered() -> bool:
        clients(cluster)
        return any(worker["requests"] for worker in workers_of(cluster))

    cluster.wait_until(has_answered, "no worker answers", 60)
    return workers_of(cluster)[0]["pid"]


def test_every_process_sees_what_any_has_acknowledged(start: Start) -> None:
    cluster = start(nodes=1, api={"workers": 2})
    all_of_them = clients(cluster)
    for number in range(40):
        writer, path = all_of_them[number % CONNECTIONS], object_path(f"k{number % 3}")
        for value in (b"first", b"second" * 20_000):
            assert writer.call("PUT", path, value).status in (200, 201)
            assert [client.call("GET", path).body for client in all_of_them] == [value] * CONNECTIONS
        writer.call("DELETE", path)
        assert [client.call("GET", path).status for client in all_of_them] == [404] * CONNECTIONS
    assert cluster.client().call("GET", "/status").json()["objects"] == 0  # the notes of all arrived
    wait_for_worker(cluster)


def test_s3_is_spoken_by_every_process(start: Start) -> None:
    port = free_ports(1)[0]
    cluster = start(nodes=1, api={"workers": 2, "s3_listen": f"127.0.0.1:{port}", "anonymous": "read-write"})
    wait_for_worker(cluster)
    clients = [Client(port) for _ in range(CONNECTIONS)]
    for client in clients:
        assert client.call("GET", "/").status == 200
    for number, writer in enumerate(clients):
        assert writer.call("PUT", "/default/a", b"%d" % number).status == 200
        assert [client.call("GET", "/default/a").body for client in clients] == [b"%d" % number] * CONNECTIONS
    cluster.wait_until(lambda: all(worker["requests"] for worker in workers_of(cluster)), "a worker answers none")
    assert cluster.terminate(API) == 0


def test_one_of_two_writers_of_a_key_wins_each_time(start: Start) -> None:
    """If-None-Match at both processes at once: exactly one creates it."""
    cluster = start(nodes=1, api={"workers": 2})
    all_of_them = clients(cluster)
    for number in range(30):
        statuses: list[int] = []

        def put(client: Client, path: str, statuses: list[int] = statuses) -> None:
            statuses.append(client.call("PUT", path, b"mine", {"if-none-match": "*"}).status)

        threads = [threading.Thread(target=put, args=(client, object_path(f"one{number}"))) for client in all_of_them]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(statuses) == [201, 412, 412, 412]


def test_a_killed_worker_is_started_again_and_costs_only_its_connections(start: Start) -> None:
    cluster = start(nodes=1, api={"workers": 2})
    acknowledged: dict[str, bytes] = {}
    ended = threading.Event()

    def load(writer: int) -> None:
        client = cluster.client(timeout=30)
        number = 0
        while not ended.is_set():
            key, content = f"load/{writer}/{number}", os.urandom(64) * (1 + number % 3000)
            number += 1
            with contextlib.suppress(*NO_ANSWER):
                if client.call("PUT", object_path(key), content).status == 201:
                    acknowledged[key] = content

    threads = [threading.Thread(target=load, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    killed = 0
    try:
        for _ in range(3):
            time.sleep(0.5)
            killed = wait_for_worker(cluster, killed)
            os.kill(killed, signal.SIGKILL)
        wait_for_worker(cluster, killed)
        time.sleep(0.5)
        os.kill(cluster.daemons[API].pid, signal.SIGKILL)
        worker_gone = wait_for_no_worker(cluster)
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert worker_gone
    cluster.daemons[API].process = None
    cluster.start()
    assert len(acknowledged) > 20
    for client in clients(cluster)[:2]:
        for key, content in acknowledged.items():
            assert client.call("GET", object_path(key)).body == content, key


def test_a_worker_that_hangs_stops_no_other_and_is_replaced(start: Start) -> None:
    cluster = start(nodes=1, api={"workers": 2})
    hung = wait_for_serving_worker(cluster)
    before = clients(cluster)
    for number, client in enumerate(before):
        assert client.call("PUT", object_path(f"before{number}"), b"kept").status == 201
    acknowledged: list[str] = []

    def all_are_served() -> bool:
        """Return whether connections that come now are answered, though the worker still hangs."""
        for _ in range(CONNECTIONS):
            client, key = cluster.client(timeout=1.0), f"meanwhile{len(acknowledged)}"
            with contextlib.suppress(*NO_ANSWER):
                if client.call("PUT", object_path(key), b"kept").status == 201:
                    acknowledged.append(key)
                    continue
            return False
        return state_of(hung) == "T"

    os.kill(hung, signal.SIGSTOP)
    try:
        cluster.wait_until(all_are_served, "a worker that hangs stops others", 10)
        assert wait_for_worker(cluster, hung) != hung
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(hung, signal.SIGCONT)
    for client in clients(cluster):
        for key in [*acknowledged, *(f"before{number}" for number in range(CONNECTIONS))]:
            assert client.call("GET", object_path(key)).body == b"kept", key
    assert state_of(hung) == "", "it was killed"


def state_of(pid: int) -> str:
    """Return the state of a process, as /proc has it; empty if it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return ""


def test_clients_with_tls_reach_every_process(start: Start, directory: Path) -> None:
    certificate, key = write_certificate(directory)
    tls: Toml = {"certificate": str(certificate), "key": str(key)}
    cluster = start(nodes=1, api={"workers": 2, "tls": tls})
    wait_for_serving_worker(cluster)
    port = cluster.daemons[API].port
    all_of_them = [Client(port, context=context) for context in (trusting(), None) for _ in range(CONNECTIONS)]
    for number, writer in enumerate(all_of_them):
        for size in (10, 300_000):
            content = body(f"{number}", size)
            assert writer.put("key", content).status in (200, 201)
            assert all(client.get("key").body == content for client in all_of_them)
            assert writer.call("GET", "/status").json()["health"] == "ok", "what is passed on is answered, too"
    write_certificate(directory, OTHER_CERTIFICATE, OTHER_KEY)
    os.kill(cluster.daemons[API].pid, signal.SIGHUP)

    def all_show_the_new_one() -> bool:
        for _ in range(CONNECTIONS):
            with contextlib.suppress(*NO_ANSWER):
                if Client(port, context=trusting(OTHER_CERTIFICATE)).get("key").body == content:
                    continue
            return False
        return True

    cluster.wait_until(all_show_the_new_one, "a process still shows the old certificate", 10)
    cluster.change(API, {"tls": {"plain": "refuse"}})
    os.kill(cluster.daemons[API].pid, signal.SIGHUP)
    cluster.wait_until(
        lambda: {Client(port).get("key").status for _ in range(CONNECTIONS)} == {400}, "a process takes plain HTTP", 10
    )


def test_the_socket_of_systemd_is_served_by_every_process(start: Start) -> None:
    """The socket outlives the node: who connects while it is down is answered when it is back."""
    cluster = start(nodes=1, api={"workers": 2})
    assert cluster.terminate(API) == 0
    with socket.create_server(("127.0.0.1", cluster.daemons[API].port), backlog=64) as listening:
        launch_activated(cluster, listening)
        cluster.wait_ready()
        wait_for_serving_worker(cluster)
        for number, client in enumerate(clients(cluster)):
            assert client.put(f"k{number}", b"kept").status == 201
        cluster.kill(API)
        waiting = [cluster.client() for _ in range(CONNECTIONS)]
        answers: list[bytes] = []
        threads = [
            threading.Thread(target=lambda client=client: answers.append(client.get("k1").body))  # type: ignore[misc]
            for client in waiting
        ]
        for thread in threads:
            thread.start()
        launch_activated(cluster, listening)
        for thread in threads:
            thread.join()
        assert answers == [b"kept"] * CONNECTIONS
        wait_for_worker(cluster)
        assert cluster.terminate(API) == 0
    cluster.launch(API)
    cluster.wait_ready()
    assert [client.get("k0").body for client in clients(cluster)] == [b"kept"] * CONNECTIONS


def launch_activated(cluster: Cluster, listening: socket.socket) -> None:
    """Start the api node as systemd does with a socket unit: its socket is descriptor 3."""
    daemon = cluster.daemons[API]
    script = 'exec 3<&"$0"; export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@"'
    with open(daemon.log, "ab") as log:
        daemon.process = subprocess.Popen(
            ["bash", "-c", script, str(listening.fileno()), *cluster.command, "--config", str(daemon.config)],
            pass_fds=[listening.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def wait_for_no_worker(cluster: Cluster) -> bool:
    """Return whether everything that has the node's port ends soon."""
    process = cluster.daemons[API].process
    assert process is not None
    process.wait(10)
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if not processes_with(cluster.daemons[API].log):
            return True
        time.sleep(0.05)
    return False


def processes_with(log: Path) -> list[str]:
    """Return the processes that have this file as their standard error."""
    found = []
    for directory in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if directory.name.isdigit() and (directory / "fd/2").resolve() == log.resolve():
                found.append(directory.name)
    return found


def test_settings_and_the_end_reach_every_process(start: Start) -> None:
    cluster = start(nodes=1, api={"workers": 2})
    all_of_them = clients(cluster)
    daemon = cluster.daemons[API]
    daemon.config.write_text(daemon.config.read_text() + "\n[limits]\nobject_max = 10\n")
    os.kill(daemon.pid, signal.SIGHUP)

    def all_refuse() -> bool:
        answers = [client.call("PUT", object_path("k"), b"longer than ten bytes").status for client in all_of_them]
        return set(answers) == {413}

    cluster.wait_until(all_refuse, "a process still has the old limit", 10)
    wait_for_worker(cluster)
    assert cluster.terminate(API) == 0
    assert not processes_with(daemon.log)


def test_what_all_processes_count_is_summed(start: Start) -> None:
    cluster = start(nodes=1, api={"workers": 2})
    wait_for_serving_worker(cluster)
    all_of_them = clients(cluster)
    for client in all_of_them:
        assert client.call("PUT", object_path("k"), b"v").status in (200, 201)

    def puts() -> float:
        lines = cluster.client().call("GET", "/metrics").body.decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith('flare_requests_total{method="PUT"'))

    cluster.wait_until(lambda: puts() == CONNECTIONS, "not every put is counted once", 10)
    lines = cluster.client().call("GET", "/metrics").body.decode().splitlines()
    assert "flare_api_workers 1.0" in lines
    assert all(any(line.startswith(f"{name} ") for line in lines) for name in documented("workers"))


def test_what_is_passed_on_has_a_bound(start: Start) -> None:
    """Anyone may ask to join: no worker gathers more for it than the owner's calls take."""
    cluster = start(nodes=1, api={"workers": 2})

    def worker_refuses() -> bool:
        answer = cluster.client().call("POST", "/cluster/join", b"x" * (5 << 20))
        assert answer.status == 413
        return b"at most 4194304 are allowed" in answer.body

    cluster.wait_until(worker_refuses, "every connection was the owner's")
