"""Metadata that is older than data nodes have seen: rolled back, without its log, or a copy that went on alone.

    python -m tests.hostile.old_metadata

Each way is tried on a fresh cluster: objects are put and acknowledged, the metadata is exchanged while the api node is
down, and it is started again. No put may be taken then, nothing may be deleted, and status must say what to type.
Putting the right file back makes everything well, and so does accepting the old one.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.support.bodies import body
from tests.support.daemons import API, Cluster, running
from tests.support.flarectl import flarectl
from tests.support.pieces import piece_count
from tests.support.scratch import scratch_directory

HEARTBEATS_SECONDS = 7.0
"""Within it every node has stored a mark and brought it back."""
GRACE = "1s"
"""So that what is deleted at all is deleted while the attack looks."""
OBJECTS = 40

Attack = Callable[[Cluster], None]


class Outcome(NamedTuple):
    puts: list[int]
    """Statuses of puts after it."""
    reasons: list[str]
    advice: list[str]
    known: int
    """Objects written before the snapshot that are still read rightly."""
    deleted: int
    """Pieces that are gone from the data nodes some graces later."""
    ready: int
    """The status of /readyz."""


def files(cluster: Cluster) -> list[Path]:
    """The metadata and its log."""
    return [path for name in ("meta.db", "meta.db-wal") if (path := cluster.directory / name).exists()]


def keep(cluster: Cluster, name: str) -> None:
    """Copy the metadata of an api node that is down."""
    target = cluster.directory / name
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for path in files(cluster):
        shutil.copy2(path, target)


def put_back(cluster: Cluster, name: str) -> None:
    """Exchange the metadata of an api node that is down for that copy."""
    for path in cluster.directory.glob("meta.db*"):
        if path.is_file() and not path.name.endswith((".lock", ".reserve")):
            path.unlink()
    for path in (cluster.directory / name).iterdir():
        shutil.copy2(path, cluster.directory)


def put_some(cluster: Cluster, prefix: str) -> None:
    client = cluster.client()
    for number in range(OBJECTS):
        key = f"{prefix}/{number}"
        assert client.put(key, body(key, 5000)).status == 201
    client.close()


def roll_back(cluster: Cluster) -> None:
    """A snapshot of the disk is put back that is older than the last puts."""
    cluster.terminate(API)
    keep(cluster, "snapshot")
    cluster.start()
    put_some(cluster, "after")
    time.sleep(HEARTBEATS_SECONDS)
    cluster.terminate(API)
    keep(cluster, "right")
    put_back(cluster, "snapshot")


def lose_log(cluster: Cluster) -> None:
    """The api node is killed, and somebody removes the log beside the file."""
    put_some(cluster, "after")
    time.sleep(HEARTBEATS_SECONDS)
    cluster.kill(API)
    keep(cluster, "right")
    (cluster.directory / "meta.db-wal").unlink()


def fork(cluster: Cluster) -> None:
    """Two copies went on, one after the other; the first one is put back."""
    cluster.terminate(API)
    keep(cluster, "first")
    cluster.start()
    put_some(cluster, "after")
    time.sleep(HEARTBEATS_SECONDS)
    cluster.terminate(API)
    keep(cluster, "right")
    put_back(cluster, "first")
    # The first copy commits more than the second one ever did, where no node sees it.
    for name in cluster.data_names():
        cluster.terminate(name)
    cluster.launch(API)
    cluster.wait_until(lambda: cluster.health() != "no answer", "the api node does not start")
    for _ in range(3):
        cluster.client().call("PUT", "/bucket/more")
        cluster.client().call("DELETE", "/bucket/more")
    cluster.terminate(API)
    for name in cluster.data_names():
        cluster.launch(name)
        cluster.wait_until(lambda name=name: piece_count(cluster, name) >= 0, f"{name} does not start")  # type: ignore[misc]


ATTACKS: dict[str, Attack] = {"rolled back": roll_back, "without its log": lose_log, "a copy that went on": fork}


def pieces(cluster: Cluster) -> int:
    return sum(piece_count(cluster, name) for name in cluster.data_names())


def attack(cluster: Cluster, exchange: Attack) -> Outcome:
    """Exchange the metadata, start the api node, and see what it does."""
    put_some(cluster, "before")
    cluster.terminate(API)  # so that the file has what was put, and the log only what comes
    cluster.start()
    exchange(cluster)
    held = pieces(cluster)
    cluster.launch(API)
    cluster.wait_until(lambda: cluster.health() != "no answer", "the api node does not start")
    client = cluster.client()
    puts = [client.put(f"late/{number}", b"x" * 5000).status for number in range(5)]
    time.sleep(HEARTBEATS_SECONDS)
    puts.append(client.put("late/again", b"x" * 5000).status)
    puts.append(client.delete("before/0").status)
    time.sleep(HEARTBEATS_SECONDS)  # some graces, and the looks of reconcile
    keys = [f"before/{number}" for number in range(1, OBJECTS)]
    known = sum(client.get(key).body == body(key, 5000) for key in keys)
    status = client.call("GET", "/status").json()
    reasons, advice = (list(map(str, status[name])) for name in ("reasons", "advice"))  # type: ignore[call-overload]
    ready = client.call("GET", "/readyz").status
    return Outcome(puts, reasons, advice, known, held - pieces(cluster), ready)


def find_all_again(cluster: Cluster) -> None:
    """Put the right file back: everything is there, and writes are taken."""
    cluster.terminate(API)
    put_back(cluster, "right")
    cluster.start()
    check_takes_writes(cluster)
    check_all_there(cluster)


def accept(cluster: Cluster) -> None:
    """Go on with the old metadata: writes are taken and orphans are kept; the right file still finds everything."""
    held = pieces(cluster)
    flarectl(cluster.daemons[API].port, "metadata", "accept", "--yes")
    check_takes_writes(cluster)
    assert cluster.client().get("after/0").status == 404
    time.sleep(HEARTBEATS_SECONDS)
    cluster.terminate(API)
    cluster.start()
    check_takes_writes(cluster)
    time.sleep(HEARTBEATS_SECONDS)
    assert pieces(cluster) >= held, "orphans are kept"
    restore(cluster)


def restore(cluster: Cluster) -> None:
    """``flared restore`` of the right file is taken without further ado."""
    cluster.terminate(API)
    command = [sys.executable, "-m", "flared", "restore", "--config", str(cluster.directory / "api.toml")]
    subprocess.run(
        [*command, str(cluster.directory / "right" / "meta.db")], check=True, capture_output=True, timeout=60
    )
    cluster.start()
    check_takes_writes(cluster)
    check_all_there(cluster)


def check_takes_writes(cluster: Cluster) -> None:
    client = cluster.client()
    cluster.wait_until(lambda: client.put("again", b"x" * 5000).status < 300, "no write is taken")
    client.close()
    assert cluster.health() == "ok"


def check_all_there(cluster: Cluster) -> None:
    client = cluster.client()
    for prefix in ("before", "after"):
        for number in range(OBJECTS):
            key = f"{prefix}/{number}"
            assert client.get(key).body == body(key, 5000), key
    client.close()


WAYS_OUT: dict[str, Attack] = {"the right file": find_all_again, "accepted": accept, "restored": restore}


def settings() -> dict[str, object]:
    return {"cluster": {"garbage_grace": GRACE}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    for name, exchange in ATTACKS.items():
        for way, get_out in WAYS_OUT.items():
            cluster = Cluster(Path(), 3, "replica:2", api=settings())
            with scratch_directory() as cluster.directory, running(cluster):
                outcome = attack(cluster, exchange)
                print(f"metadata {name}: puts and a delete were answered {outcome.puts}, /readyz {outcome.ready}")
                print(
                    f"  {outcome.known} of {OBJECTS - 1} older objects are read, {outcome.deleted} pieces were deleted"
                )
                print("".join(f"  {line}\n" for line in (*outcome.reasons, *outcome.advice)) or "  health was ok")
                get_out(cluster)
                print(f"  {way}: all is well again")


if __name__ == "__main__":
    main()
