"""Slow clients of one kind by the hundred, and what a 4 KiB PUT and GET of others take meanwhile.

    python -m tests.hostile.slow_clients --clients 500 --seconds 10

Kinds: request heads that dribble in, bodies of 1 MiB that come at 120 B/s, readers at 2 kB/s of an object that is
plain, compressed in frames, or compressed as a whole by an older Flare. Each kind is measured between two measurements
of the same without it: the machine may have other things to do.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import socket
import statistics
import threading
import time
from typing import TYPE_CHECKING, NamedTuple, Self

from tests.hostile.aborted_downloads import MIB, OBJECT_SIZE, OLD_CODEC, customized, text
from tests.support.client import object_path
from tests.support.daemons import API, Cluster, private_bytes, running
from tests.support.scratch import scratch_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

KINDS = ("heads", "bodies", "plain", "frames", "whole")
TURN_SECONDS = 0.5
BODY_BYTES = 60
READ_BYTES = 1000
RECEIVE_BUFFER = 8192
SIZE = 4096


class Latency(NamedTuple):
    """Of a PUT and a GET of 4 KiB, in seconds."""

    median: float
    worst: float


class Outcome(NamedTuple):
    alone: tuple[Latency, Latency]
    """PUT and GET without the slow."""
    beside: tuple[Latency, Latency]
    memory: int
    """Private bytes of the api node with the slow."""
    connected: int
    """Slow clients that were still connected at the end."""


def prepare(cluster: Cluster) -> None:
    """Start the cluster with the objects that are read slowly."""
    site = cluster.directory.parent / "site"
    with customized(site, OLD_CODEC), contextlib.ExitStack() as stack:
        stack.callback(cluster.stop)
        cluster.start()
        cluster.client().put("whole", text(OBJECT_SIZE), fields={"content-length": str(OBJECT_SIZE)})
    cluster.start()
    cluster.client().put("frames", text(OBJECT_SIZE), fields={"content-length": str(OBJECT_SIZE)})
    cluster.client().put("plain", random.Random(1).randbytes(OBJECT_SIZE))


class _Slow:
    """So many slow clients of one kind, driven by one thread."""

    def __init__(self, port: int, kind: str, count: int) -> None:
        self._kind = kind
        self._port = port
        self._clients = [self._connect(number) for number in range(count)]
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._drive)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        for client in self._clients:
            client.close()

    def connected(self) -> int:
        return sum(client.fileno() >= 0 for client in self._clients)

    def _connect(self, number: int) -> socket.socket:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        client.connect(("127.0.0.1", self._port))
        if self._kind == "heads":
            client.sendall(b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nx-slow: ")
        elif self._kind == "bodies":
            path = object_path(f"slow/{number}")
            client.sendall(f"PUT {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {MIB}\r\n\r\n".encode())
        else:
            client.sendall(f"GET {object_path(self._kind)} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode())
        client.setblocking(False)
        return client

    def _drive(self) -> None:
        while not self._stopped.wait(TURN_SECONDS):
            for client in self._clients:
                try:
                    if self._kind == "heads":
                        client.send(b"x")
                    elif self._kind == "bodies":
                        client.send(b"x" * BODY_BYTES)
                    elif not client.recv(READ_BYTES):
                        client.close()
                except BlockingIOError:
                    pass
                except OSError:
                    client.close()


def measure(cluster: Cluster, seconds: float) -> tuple[Latency, Latency]:
    """PUT and GET by turns, each by a client of its own."""
    client = cluster.client(timeout=300)
    took: tuple[list[float], list[float]] = [], []
    end = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end:
        number += 1
        began = time.perf_counter()
        assert client.put(f"small/{number % 50}", random.randbytes(SIZE)).status in (200, 201)
        took[0].append(time.perf_counter() - began)
        began = time.perf_counter()
        assert client.get(f"small/{number % 50}").status == 200
        took[1].append(time.perf_counter() - began)
    client.close()
    put, get = (Latency(statistics.median(times), max(times)) for times in took)
    return put, get


def attack(cluster: Cluster, kind: str, clients: int, seconds: float) -> Outcome:
    """The cluster was prepared and runs; the slow come, are left a moment, and are measured beside."""
    daemon = cluster.daemons[API]
    before = measure(cluster, seconds / 2)
    with _Slow(daemon.port, kind, clients) as slow:
        beside = measure(cluster, seconds)
        memory, connected = private_bytes(daemon.pid), slow.connected()
    after = measure(cluster, seconds / 2)
    put, get = (
        Latency(statistics.mean((one.median, other.median)), max(one.worst, other.worst))
        for one, other in zip(before, after, strict=True)
    )
    return Outcome((put, get), beside, memory, connected)


@contextlib.contextmanager
def prepared(cluster: Cluster) -> Iterator[Cluster]:
    prepare(cluster)
    with running(cluster):
        yield cluster


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    arguments = parser.parse_args()
    with scratch_directory() as directory, prepared(Cluster(directory / "cluster")) as cluster:
        for kind in arguments.kinds:
            outcome = attack(cluster, kind, arguments.clients, arguments.seconds)
            print(f"{kind}: {outcome.connected} slow at the end, api node {outcome.memory / MIB:.0f} MiB", flush=True)
            for name, alone, beside in zip(("PUT", "GET"), outcome.alone, outcome.beside, strict=True):
                print(
                    f"  {name} 4 KiB: median {1000 * beside.median:.1f} ms ({1000 * alone.median:.1f} alone), worst "
                    f"{beside.worst:.2f} s ({alone.worst:.2f} alone)",
                    flush=True,
                )


if __name__ == "__main__":
    main()
