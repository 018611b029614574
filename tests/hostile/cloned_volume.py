"""A cloned volume: the disk image of a data node is started a second time, under the same name and volume id.

    python -m tests.hostile.cloned_volume --seconds 60

The clone runs on a port of its own beside the node. Objects are put all the while. Then the clone stops, and every
object that was acknowledged must be there.
"""

from __future__ import annotations

import argparse
import shutil
import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import tomli_w

from tests.support.bodies import body
from tests.support.daemons import API, Cluster, Daemon, free_ports, running
from tests.support.flarectl import flarectl
from tests.support.scratch import scratch_directory

if TYPE_CHECKING:
    from collections.abc import Sequence

NODE, CLONE = "data1", "clone"
PUT_SECONDS = 0.02


class Outcome(NamedTuple):
    acknowledged: int
    unreadable: list[str]
    addresses: set[str]
    """Where the cluster said that the node is, while both ran."""
    reasons: Sequence[str]
    """The reasons why the health was not ok in the meantime."""
    screen: str
    """The output of ``flarectl status`` in the meantime."""
    clone_port: int


def clone(cluster: Cluster) -> Daemon:
    """Copy the volume of a node that is down, and describe a node that has the copy at another port."""
    volume = cluster.directory / CLONE
    shutil.copytree(cluster.directory / NODE, volume)
    (port,) = free_ports(1)
    fields = tomllib.loads((cluster.directory / f"{NODE}.toml").read_text())
    fields |= {"listen": f"127.0.0.1:{port}", "volumes": [str(volume)]}
    config = cluster.directory / f"{CLONE}.toml"
    config.write_text(tomli_w.dumps(fields))
    return Daemon(CLONE, config, port)


def attack(cluster: Cluster, seconds: float) -> Outcome:
    """Run the node and its clone side by side for that long; the clone is stopped at the end."""
    client = cluster.client()
    keys = []
    for number in range(20):
        keys.append(f"before/{number}")
        assert client.put(keys[-1], body(keys[-1], 5000)).status == 201
    cluster.terminate(NODE)
    double = clone(cluster)
    cluster.start()
    cluster.daemons[CLONE] = double
    cluster.launch(CLONE)
    addresses, reasons = set(), []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        key = f"during/{len(keys)}"
        if client.put(key, body(key, 5000)).status == 201:
            keys.append(key)
        status = client.call("GET", "/status").json()
        addresses |= {node["address"] for node in status["nodes"] if node["role"] == "data"}  # type: ignore[attr-defined]
        reasons = list(status["reasons"]) or reasons  # type: ignore[call-overload]
        time.sleep(PUT_SECONDS)
    screen = flarectl(cluster.daemons[API].port, "status")
    cluster.terminate(CLONE)
    del cluster.daemons[CLONE]
    time.sleep(4)  # a heartbeat of the node that is left
    unreadable = [key for key in keys if client.get(key).body != body(key, 5000)]
    return Outcome(len(keys), unreadable, addresses, reasons, screen, double.port)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--keep", type=Path, default=None, help="where to leave everything for a look")
    options = parser.parse_args()
    with scratch_directory(options.keep) as directory, running(Cluster(directory)) as cluster:
        outcome = attack(cluster, options.seconds)
        print(f"{outcome.acknowledged} acknowledged, {len(outcome.unreadable)} of them unreadable afterwards")
        print(f"addresses of {NODE}: {', '.join(sorted(outcome.addresses))}")
        print("\n".join(outcome.reasons) or "health was ok")
        print(cluster.log_tail(API, 5))


if __name__ == "__main__":
    main()
