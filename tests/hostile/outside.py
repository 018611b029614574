"""A network in which this machine has outside addresses: a namespace of its own, whose loopback has 10.99.0.0/16 too.

A connection between two of those addresses looks to a daemon like one from another machine. ``enter`` runs the calling
module again inside; it needs root, or a kernel that gives namespaces to users.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys

from tests.support.daemons import Cluster

SERVER = "10.99.0.1"
INSIDE = "FLARE_TEST_OUTSIDE"
NOT_POSSIBLE = 77
"""Exit code where there are no namespaces."""

_SET_UP = f'ip link set lo up && ip address add {SERVER}/16 dev lo || exit {NOT_POSSIBLE}; exec "$@"'


def enter(module: str) -> int | None:
    """None if this process is inside; else the exit code of ``module``, run inside with our arguments."""
    if os.environ.get(INSIDE):
        return None
    unshare = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--net", "--map-root-user"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        print("this machine gives us no network namespace (unshare --net)")
        return NOT_POSSIBLE
    command = [*unshare, "sh", "-c", _SET_UP, "sh", sys.executable, "-m", module, *sys.argv[1:]]
    return subprocess.run(command, env=os.environ | {INSIDE: "1"}, check=False).returncode


def listen_outside(cluster: Cluster) -> None:
    """Have every node of a cluster that was not started listen at all addresses."""
    cluster.prepare()
    for daemon in cluster.daemons.values():
        text = daemon.config.read_text()
        loopback, everywhere = f'listen = "127.0.0.1:{daemon.port}"', f'listen = "0.0.0.0:{daemon.port}"'
        assert loopback in text
        text = text.replace(loopback, everywhere)
        if 'role = "data"' in text:
            text = f'advertise = "127.0.0.1:{daemon.port}"\n' + text
        daemon.config.write_text(text)


def connect(port: int, number: int) -> socket.socket:
    """A connection to ``port`` from the outside address of this number, 0 to 60,000."""
    connected = socket.socket()
    connected.settimeout(10)
    # The port is chosen at connect, so that many addresses share the ports there are.
    connected.setsockopt(socket.IPPROTO_IP, getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24), 1)
    connected.bind((f"10.99.{1 + number // 250}.{1 + number % 250}", 0))
    connected.connect((SERVER, port))
    return connected
