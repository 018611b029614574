"""A node comes back with an empty disk, while somebody asks whether another node may go down.

    python -m tests.hostile.empty_volume --rounds 20

Three nodes, replica:2. One is stopped, its volume is emptied, and it is started again; /readyz?without=OTHER is asked
all the while. It must not say yes before every copy that the records place on the node is there.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.bodies import body
from tests.support.client import NO_ANSWER
from tests.support.daemons import API, Cluster, running
from tests.support.pieces import piece_count
from tests.support.scratch import scratch_directory

if TYPE_CHECKING:
    from collections.abc import Callable

NODE, OTHER = "data1", "data2"
OBJECTS = 60
WAIT_SECONDS = 60.0


def fill(cluster: Cluster) -> int:
    """Put some objects; how many pieces the node has after it."""
    client = cluster.client()
    for number in range(OBJECTS):
        assert client.put(f"key{number}", body(number, 5000)).status == 201
    cluster.wait_until(lambda: may_go(cluster), f"{OTHER} may not go down")
    return piece_count(cluster, NODE)


def may_go(cluster: Cluster) -> bool:
    """Return whether the cluster says that the other node may go down now."""
    return cluster.client().call("GET", f"/readyz?without={OTHER}").status == 200


def attack(cluster: Cluster, pieces: int, meanwhile: Callable[[], None] = lambda: None) -> float:
    """Empty the node's volume; how long the cluster said yes while pieces were lacking, in seconds."""
    cluster.terminate(NODE)
    shutil.rmtree(cluster.directory / NODE)
    (cluster.directory / NODE).mkdir()
    # A node that has just gone is believed to be there for some seconds: that is another question.
    cluster.wait_until(lambda: not may_go(cluster), "its silence is not noticed")
    cluster.launch(NODE)
    meanwhile()
    wrong, end = 0.0, time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        asked = time.monotonic()
        with contextlib.suppress(*NO_ANSWER):
            yes = may_go(cluster)
            whole = piece_count(cluster, NODE) >= pieces
            if yes and whole:
                return wrong
            time.sleep(0.05)
            wrong += yes and time.monotonic() - asked
    raise AssertionError(f"the pieces were not made again within {WAIT_SECONDS:.0f} s\n{cluster.log_tail(API)}")


def restart_api(cluster: Cluster) -> None:
    """Right after the node has come back, so that what was noticed must have been recorded."""
    cluster.wait_until(lambda: "it came back" in cluster.log_tail(API, 1000), "the return was not noticed", 10)
    cluster.kill(API)
    cluster.launch(API)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--keep", type=Path, default=None, help="where to leave everything for a look")
    options = parser.parse_args()
    with scratch_directory(options.keep) as directory:
        cluster = Cluster(directory, 3, "replica:2")
        with running(cluster):
            pieces = fill(cluster)
            for number in range(options.rounds):
                wrong = attack(cluster, pieces)
                print(f"round {number}: wrongly ready for {wrong:.1f} s")


if __name__ == "__main__":
    main()
