"""What TLS costs: ``python -m bench --tls``.

Two clusters are alike but for TLS: on the second every client uses it, and so do the nodes with each other, mutually.
Each row puts the same load on both in turns, for about a second each, and only ratios within such a pair are compared.
"""

from __future__ import annotations

import os
import secrets
import socket
import ssl
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import small
from bench.against import BATCH, HEADING, MIB, SECONDS, SMALL, Result, daemon_pids, describe, write_json
from bench.pairs import Pair, Run
from bench.processes import cpu_seconds_between, memory_of, thread_times
from tests.support.certificates import OwnAuthority
from tests.support.client import Client
from tests.support.daemons import API, Cluster, running

PUTS = 10_000
"""More than are put in a second."""
GETS = 4_000
LARGE = 256 * MIB
PAIRS = 8
PAIRS_QUICK = 3
BUFFER_SIZE = 4 * MIB


@dataclass(frozen=True, slots=True)
class Side:
    """A cluster as a client uses it."""

    cluster: Cluster
    context: ssl.SSLContext | None

    @property
    def port(self) -> int:
        return self.cluster.daemons[API].port

    @property
    def scheme(self) -> str:
        return "https" if self.context else "http"

    def connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port))
        return self.context.wrap_socket(connection, server_hostname="localhost") if self.context else connection


def run_tls(directory: Path, *, pairs: int | None, quick: bool, json_path: Path) -> None:
    """Measure every row, print the table as it grows, write ``json_path``."""
    count = pairs or (PAIRS_QUICK if quick else PAIRS)
    print("ratios are of TLS to plain HTTP: the median over pairs of runs (and its quartiles)")
    print(HEADING.replace("theirs", " plain").replace("  ours", "   TLS"))
    results: list[Result] = []
    rows: list[tuple[str, Callable[[Side], Run]]] = [
        ("PUT 4 KiB", put_small),
        ("GET 4 KiB, of the data node", get_small),
        ("PUT 256 MiB", put_large),
        ("GET 256 MiB", get_large),
        ("a call on a connection of its own", call_anew),
    ]
    with sides_running(directory) as (plain, covered):
        for title, load in rows:
            result = Result(title, title)
            for number in range(count + 1):
                pair = Pair(load(plain), load(covered))
                if number:  # the first pair warms up
                    result.pairs.append(pair)
            for side in (plain, covered):
                side.cluster.check_alive()
            results.append(result)
            print(describe(result), flush=True)
        memory = {name: memory_of(daemon_pids(side.cluster)) for name, side in (("plain", plain), ("TLS", covered))}
    write_json(json_path, {"theirs": "plain", "ours": "TLS"}, results, {"all": (memory["plain"], memory["TLS"])})


@contextmanager
def sides_running(directory: Path) -> Iterator[tuple[Side, Side]]:
    """The two clusters, with the objects that are read."""
    own = OwnAuthority(directory)
    # Without a cache every GET goes to the data node, so that the links are measured as well.
    plain = Cluster(directory / "plain", api={"limits": {"cache": 0}})
    covered = Cluster(directory / "covered", api={"limits": {"cache": 0}, "tls": own.write(API)})
    covered.prepare()
    for name in covered.data_names():
        port, api = covered.daemons[name].port, covered.daemons[API].port
        tls = own.write(name) | {"client_ca": str(own.ca), "plain": "local"}
        urls = {"api": [f"https://127.0.0.1:{api}"], "advertise": f"https://127.0.0.1:{port}"}
        covered.change(name, {**urls, "tls": tls})
    with ExitStack() as clusters:
        for cluster in (plain, covered):
            clusters.enter_context(running(cluster))
            client = Client(cluster.daemons[API].port)
            for number in range(GETS):
                client.put(f"get-{number}", os.urandom(SMALL))
        yield Side(plain, None), Side(covered, own.trusting())


def put_small(side: Side) -> Run:
    content, seed = os.urandom(SMALL), secrets.token_hex(4)
    requests = (
        _pack("PUT", f"put-{seed}-{number}", b"%b%012x" % (seed.encode(), number) + content[20:])
        for number in range(PUTS)
    )
    return _load_small(side, requests)


def get_small(side: Side) -> Run:
    return _load_small(side, (_pack("GET", f"get-{number}") for number in range(GETS)))


def put_large(side: Side) -> Run:
    def transfer() -> None:
        noise = bytearray(os.urandom(BUFFER_SIZE))
        with side.connect() as connection:
            connection.sendall(_head("PUT", "large", LARGE))
            for start in range(0, LARGE, BUFFER_SIZE):
                for unit in range(0, BUFFER_SIZE, 64 * 1024):
                    noise[unit : unit + 8] = (start + unit).to_bytes(8, "big")
                connection.sendall(noise)
            answer = connection.recv(65536)
        assert answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 201")), answer[:300]

    return _load(side, transfer, 1)


def get_large(side: Side) -> Run:
    def transfer() -> None:
        sink = bytearray(MIB)
        with side.connect() as connection:
            connection.sendall(_head("GET", "large", 0))
            received = b""
            while b"\r\n\r\n" not in received:
                received += connection.recv(16384)
            left = LARGE - len(received.partition(b"\r\n\r\n")[2])
            while left:
                got = connection.recv_into(sink, min(left, len(sink)))
                assert got, f"{left} bytes are missing"
                left -= got

    return _load(side, transfer, 1)


def call_anew(side: Side) -> Run:
    calls = 200

    def transfer() -> None:
        for _ in range(calls):
            with side.connect() as connection:
                connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
                assert connection.recv(4096).startswith(b"HTTP/1.1 200")

    return _load(side, transfer, calls)


def _load_small(side: Side, requests: Iterable[bytes]) -> Run:
    with tempfile.NamedTemporaryFile(suffix=".requests") as file:
        for request in requests:
            file.write(b"%08d%b" % (len(request), request))
        file.flush()
        pids = daemon_pids(side.cluster)
        measured = small.measure(
            side.port, "raw.lua", [file.name], seconds=SECONDS, pids=pids, policy=BATCH, scheme=side.scheme
        )
    assert not measured.failed, f"{side.scheme}: {measured.failed} requests failed\n{side.cluster.log_tail(API)}"
    api, *data = measured.server_cpu
    return Run(measured.rate, measured.p50, measured.p99, api, sum(data), measured.client_cpu)


def _load(side: Side, transfer: Callable[[], None], operations: int) -> Run:
    pids = daemon_pids(side.cluster)
    before = [thread_times(pid) for pid in pids]
    started, ours = time.perf_counter(), time.thread_time()
    transfer()
    seconds, client = time.perf_counter() - started, time.thread_time() - ours
    api, *data = [cpu_seconds_between(start, thread_times(pid)) for pid, start in zip(pids, before, strict=True)]
    micro = 1e6 / operations
    return Run(operations / seconds, 0.0, 0.0, api * micro, sum(data) * micro, client * micro)


def _pack(method: str, key: str, content: bytes = b"") -> bytes:
    return _head(method, key, len(content)) + content


def _head(method: str, key: str, length: int) -> bytes:
    return f"{method} /object/{key} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n".encode()
