"""The metadata loses half of its records while it is stopped; what is deleted then?

``python -m tests.hostile.lost_records``. A copy of the file from before is put back at the end, as a restore does:
every object must be there.
"""

from __future__ import annotations

import argparse
import shutil
import sqlite3
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

from tests.support.bodies import body
from tests.support.daemons import API, Cluster, running
from tests.support.pieces import piece_count
from tests.support.scratch import scratch_directory

if TYPE_CHECKING:
    from pathlib import Path

CLIENTS = 8


def fill(cluster: Cluster, objects: int, size: int) -> None:
    """Put ``objects`` objects from several clients."""

    def put(first: int) -> None:
        client = cluster.client()
        for number in range(first, objects, CLIENTS):
            assert client.put(f"k{number}", body(number, size)).status == 201
        client.close()

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(put, range(CLIENTS)))


def readable(cluster: Cluster, objects: int, size: int) -> int:
    """How many of them read, and rightly; any that reads wrongly fails."""
    client, good = cluster.client(), 0
    for number in range(objects):
        answer = client.get(f"k{number}")
        if answer.status == 200:
            assert answer.body == body(number, size)
            good += 1
    client.close()
    return good


def lose_records(database: Path, every: int = 2) -> int:
    """Delete every other chunk record and name, or each with 1, from the stopped metadata; how many rows went."""
    with closing(sqlite3.connect(database)) as connection, connection:
        gone = 0
        for table in ("chunk", "object", "shared"):
            span = f"{table}/".encode(), f"{table}0".encode()
            rows = connection.execute("SELECT key FROM kv WHERE key >= ? AND key < ? ORDER BY key", span).fetchall()
            gone += connection.executemany("DELETE FROM kv WHERE key = ?", rows[::every]).rowcount
        return gone


def stop_and_keep(cluster: Cluster) -> Path:
    """Stop the api node and keep a copy of its metadata, which it returns."""
    assert cluster.terminate(API) == 0
    database = cluster.directory / "meta.db"
    kept = cluster.directory / "kept.db"
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(kept)) as target:
        source.backup(target)
    return kept


def put_back(cluster: Cluster, kept: Path) -> None:
    """The metadata as it was, in the place of the damaged one, without a word to anyone. Its nodes have seen newer
    metadata, so that the api node takes no puts; reads go on."""
    assert cluster.terminate(API) == 0
    database = cluster.directory / "meta.db"
    for path in cluster.directory.glob("meta.db-*"):
        path.unlink()
    shutil.copy(kept, database)
    cluster.launch(API)
    cluster.wait_until(lambda: online(cluster) == len(cluster.data_names()), "the data nodes are not back")


def online(cluster: Cluster) -> int:
    """How many data nodes the api node calls online; 0 if it does not answer."""
    if cluster.health() == "no answer":
        return 0
    nodes = cluster.client().call("GET", "/status").json()["nodes"]
    return sum(node["role"] == "data" and node["state"] == "online" for node in nodes)


def pieces(cluster: Cluster) -> int:
    """On all nodes."""
    return sum(piece_count(cluster, name) for name in cluster.data_names())


def attack(cluster: Cluster, objects: int, size: int, seconds: float) -> tuple[int, int, int, str]:
    """(pieces before, pieces left after so many seconds with half the records, objects that read in the end, status
    meanwhile)."""
    fill(cluster, objects, size)
    before = pieces(cluster)
    kept = stop_and_keep(cluster)
    assert lose_records(cluster.directory / "meta.db")
    cluster.launch(API)
    time.sleep(seconds)
    status = cluster.client().call("GET", "/status").json()
    left = pieces(cluster)
    put_back(cluster, kept)
    return before, left, readable(cluster, objects, size), "; ".join(status["reasons"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=6000)
    parser.add_argument("--size", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=40.0)
    options = parser.parse_args()
    with scratch_directory() as directory:
        cluster = Cluster(directory, 3, "replica:3", {"cluster": {"garbage_grace": "1s"}})
        with running(cluster):
            before, left, good, reasons = attack(cluster, options.objects, options.size, options.seconds)
    print(f"pieces before {before:,}, after {left:,}; objects that read again: {good:,} of {options.objects:,}")
    print(f"status meanwhile: {reasons or 'ok'}")
    return 0 if good == options.objects else 1


if __name__ == "__main__":
    sys.exit(main())
