"""Metadata that lost half of its records deletes nothing, says so, and is put right."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.hostile.lost_records import fill, lose_records, pieces, put_back, readable, stop_and_keep
from tests.support.daemons import API

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.daemons import Cluster, Start

OBJECTS = 2600
SIZE = 600


def flarectl(cluster: Cluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    endpoint = f"http://127.0.0.1:{cluster.daemons[API].port}"
    command = [sys.executable, "-m", "flarectl", *arguments, "--endpoint", endpoint]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def held(cluster: Cluster) -> int:
    if cluster.health() == "no answer":
        return 0
    nodes = cluster.client().call("GET", "/status").json()["nodes"]
    return sum(node.get("orphans_held", 0) for node in nodes)


def lose_half(start: Start) -> tuple[Cluster, Path, int]:
    """A cluster that holds back what it has no records of any more, its metadata from before, and its pieces."""
    cluster = start(api={"cluster": {"garbage_grace": "1s"}})
    fill(cluster, OBJECTS, SIZE)
    before = pieces(cluster)
    kept = stop_and_keep(cluster)
    assert lose_records(cluster.directory / "meta.db")
    cluster.launch(API)
    cluster.wait_until(lambda: held(cluster) > 1000, "nothing is held back")
    return cluster, kept, before


def test_half_of_the_records_are_lost_and_every_object_comes_back(start: Start) -> None:
    cluster, kept, before = lose_half(start)
    assert pieces(cluster) == before
    assert "flarectl node orphans data1" in flarectl(cluster, "status").stdout
    shown = flarectl(cluster, "node", "orphans", "data1", "--json")
    assert json.loads(shown.stdout)["held"] == held(cluster)
    assert flarectl(cluster, "node", "orphans", "data1", "--delete").returncode == 6, "not off a terminal"
    doctor = flarectl(cluster, "doctor", "--json")
    assert doctor.returncode == 2
    assert '"F510", "severity": "critical"' in doctor.stdout
    put_back(cluster, kept)
    assert readable(cluster, OBJECTS, SIZE) == OBJECTS


def test_what_an_operator_deletes_by_mistake_is_in_quarantine(start: Start) -> None:
    cluster, kept, before = lose_half(start)
    garbage = held(cluster)
    assert flarectl(cluster, "node", "orphans", "data1", "--delete", "--yes").returncode == 0
    cluster.wait_until(lambda: pieces(cluster) == before - garbage, "an operator's word is not followed")
    put_back(cluster, kept)
    assert readable(cluster, OBJECTS, SIZE) == OBJECTS
    assert pieces(cluster) == before, "what was read is wanted, and not hidden any more"
