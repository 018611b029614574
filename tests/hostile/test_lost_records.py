"""Metadata that lost half of its records deletes nothing, says so, and is put right."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.hostile.lost_records import fill, lose_records, pieces, put_back, readable, stop_and_keep
from tests.support.daemons import API

if TYPE_CHECKING:
    from tests.support.daemons import Cluster, Start

OBJECTS = 2600
SIZE = 600


def flarectl(cluster: Cluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    endpoint = f"http://127.0.0.1:{cluster.daemons[API].port}"
    command = [sys.executable, "-m", "flarectl", *arguments, "--endpoint", endpoint]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_half_of_the_records_are_lost_and_every_object_comes_back(start: Start) -> None:
    cluster = start(api={"cluster": {"garbage_grace": "1s"}})
    fill(cluster, OBJECTS, SIZE)
    before = pieces(cluster)
    kept = stop_and_keep(cluster)
    assert lose_records(cluster.directory / "meta.db")
    cluster.launch(API)

    def held() -> int:
        nodes = cluster.client().call("GET", "/status").json()["nodes"]
        return sum(node.get("orphans_held", 0) for node in nodes)

    cluster.wait_until(lambda: is_up(cluster) and held() > 1000, "nothing is held back")
    assert pieces(cluster) == before
    assert "flarectl node orphans data1" in flarectl(cluster, "status").stdout
    shown = flarectl(cluster, "node", "orphans", "data1", "--json")
    assert json.loads(shown.stdout)["held"] == held()
    assert flarectl(cluster, "node", "orphans", "data1", "--delete").returncode == 6, "not off a terminal"
    doctor = flarectl(cluster, "doctor", "--json")
    assert doctor.returncode == 2
    assert '"F510", "severity": "critical"' in doctor.stdout

    put_back(cluster, kept)
    assert readable(cluster, OBJECTS, SIZE) == OBJECTS
    cluster.wait_until(lambda: not held(), "what has its record again is not held")

    assert cluster.terminate(API) == 0
    lose_records(cluster.directory / "meta.db")
    cluster.launch(API)
    cluster.wait_until(lambda: is_up(cluster) and held() > 1000, "nothing is held back")
    garbage = held()
    assert flarectl(cluster, "node", "orphans", "data1", "--delete", "--yes").returncode == 0
    cluster.wait_until(lambda: pieces(cluster) == before - garbage, "an operator's word is not followed")
    # That was wrong; but what an operator has deleted is in quarantine.
    put_back(cluster, kept)
    assert readable(cluster, OBJECTS, SIZE) == OBJECTS
    cluster.wait_until(lambda: pieces(cluster) == before, "what the records want again is still hidden")


def is_up(cluster: Cluster) -> bool:
    return cluster.health() != "no answer"
