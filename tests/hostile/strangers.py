"""Strangers from outside that take connections and give nothing: silent ones, and ones that dribble a head.

``python -m tests.hostile.strangers`` attacks an api node and a data node in turn, from one address and from many, and
prints what others are answered meanwhile.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING

from flared.access.keys import API_AUDIENCE, authorization, data_audience, node_token
from tests.hostile.outside import connect, enter, listen_outside
from tests.support.bodies import body
from tests.support.client import NO_ANSWER
from tests.support.daemons import API, Cluster, running
from tests.support.flarectl import flarectl
from tests.support.scratch import scratch_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.daemons import Daemon

SILENT = 1090
DRIBBLING = 500
ADDRESSES = 300
OPERATOR = 20_000
"""The number of an outside address at which somebody knows the secret."""
TOLD_SECONDS = 15
"""More than the pause between two such lines of the log."""


@contextlib.contextmanager
def strangers(port: int, count: int, addresses: int, *, head: bytes = b"") -> Iterator[list[socket.socket]]:
    """So many connections, open while the block runs; each goes on sending ``head`` byte by byte, one a second."""
    taken: list[socket.socket] = []
    ended = threading.Event()
    dribble = threading.Thread(target=_dribble, args=(taken, head, ended))
    try:
        for number in range(count):
            with contextlib.suppress(OSError):
                taken.append(connect(port, number % addresses))
        dribble.start()
        yield taken
    finally:
        ended.set()
        dribble.join()
        for one in taken:
            one.close()


def _dribble(taken: list[socket.socket], head: bytes, ended: threading.Event) -> None:
    for at in range(len(head)):
        for one in taken:
            with contextlib.suppress(OSError):
                one.send(head[at : at + 1])
        if ended.wait(1.0):
            return


def ask(daemon: Daemon, path: str, number: int, fields: dict[str, str]) -> int:
    """The status of one GET on a new connection from outside; 0 if there was no answer."""
    connection = http.client.HTTPConnection("10.99.0.1", daemon.port, timeout=10)
    try:
        connection.sock = connect(daemon.port, number)
        connection.request("GET", path, headers=fields)
        return connection.getresponse().status
    except NO_ANSWER:
        return 0
    finally:
        connection.close()


def check(cluster: Cluster, target: Daemon, what: str) -> list[str]:
    """Return what others cannot do while the strangers are there; each is tried once, on a new connection."""
    began = time.monotonic()
    audience = API_AUDIENCE if target.name == API else data_audience(target.name)  # type: ignore[arg-type]  # as text
    token = {"authorization": authorization(node_token(Cluster.secret.encode(), audience))}
    failures = []
    for _ in range(3):
        client = cluster.client(target.name, timeout=10)
        try:
            status = client.call("GET", "/status", fields=token).status
        except NO_ANSWER:
            status = 0
        client.close()
        if status != 200:
            failures.append(f"this machine is answered {status or 'nothing'}")
        if (status := ask(target, "/status", OPERATOR, token)) != 200:
            failures.append(f"who knows the secret is answered {status or 'nothing'}")
        if (status := ask(target, "/status", OPERATOR + 1, {})) != 401:
            failures.append(f"another stranger is answered {status or 'nothing'}")
    content = body(what, 300_000)
    writer, reader = cluster.client(timeout=20), cluster.client(timeout=20)  # each with a connection of its own
    try:
        if writer.put("large", content).status not in (200, 201) or reader.get("large").body != content:
            failures.append("a large object cannot be put and got")
    except NO_ANSWER:
        failures.append("a large object cannot be put and got in time")
    writer.close()
    reader.close()
    flarectl(cluster.daemons[API].port, "ls")
    print(f"{target.name}: {what}: {', '.join(dict.fromkeys(failures)) or 'nothing is noticed'};"
          f" {time.monotonic() - began:.1f} s for all", flush=True)  # fmt: skip
    return failures


def check_logged(cluster: Cluster, target: Daemon) -> list[str]:
    """Return what the node has not logged of it."""
    client = cluster.client(target.name)
    numbers = dict(line.rsplit(" ", 1) for line in client.call("GET", "/metrics").body.decode().splitlines())
    client.close()
    lines = 0
    for _ in range(TOLD_SECONDS * 10):  # the node looks once a second
        lines = sum("event=connections_short" in line for line in target.log.read_text().splitlines())
        if lines:
            break
        time.sleep(0.1)
    evicted = float(numbers["flare_connections_evicted_total"])
    print(f"{target.name}: {evicted:.0f} connections evicted, reported in {lines} lines of the log")
    return [] if evicted and 0 < lines < 20 else ["the log or the metrics do not tell"]


def main() -> int:
    if (code := enter("tests.hostile.strangers")) is not None:
        return code
    failures: list[str] = []
    with scratch_directory() as fresh:
        cluster = Cluster(fresh)
        listen_outside(cluster)
        with running(cluster):
            for target in cluster.daemons.values():
                for addresses, whence in ((1, "one address"), (ADDRESSES, f"{ADDRESSES} addresses")):
                    with strangers(target.port, SILENT, addresses):
                        failures += check(cluster, target, f"{SILENT} silent strangers from {whence}")
                with strangers(target.port, DRIBBLING, ADDRESSES, head=b"GET / HTTP/1.1\r\nX: " + b"x" * 100):
                    failures += check(cluster, target, f"{DRIBBLING} heads, a byte a second")
                failures += check_logged(cluster, target)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
