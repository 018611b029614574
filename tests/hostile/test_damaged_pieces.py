"""Bytes of pieces flip on a disk, and a node dies: what the screens say, at once and afterwards."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.hostile.test_lost_records import flarectl
from tests.support.bodies import body
from tests.support.daemons import API, is_ready

if TYPE_CHECKING:
    from tests.support.daemons import Cluster, Start

OBJECTS = 20
SIZE = 60_000


def node_of(cluster: Cluster, name: str) -> dict[str, object]:
    nodes = cluster.client().call("GET", "/status").json()["nodes"]
    return next(node for node in nodes if node["name"] == name and node["role"] == "data")


def test_what_was_mended_is_seen_afterwards_and_what_is_away_at_once(start: Start) -> None:
    cluster = start(nodes=3, scheme="replica:3", api={"cluster": {"repair_after": "60s"}})
    client = cluster.client()
    for number in range(OBJECTS):
        assert client.put(f"k{number}", body(number, SIZE)).status == 201
    assert cluster.terminate("data1") == 0
    flipped = 0
    for path in (cluster.directory / "data1" / "segments").glob("*.small"):
        data = bytearray(path.read_bytes())
        for number in range(5):
            at = data.find(body(number, SIZE)[:100])
            if at >= 0:
                data[at] ^= 1
                flipped += 1
        path.write_bytes(data)
    assert flipped == 5
    cluster.launch("data1")
    cluster.wait_ready()

    def seen() -> bool:
        for number in range(OBJECTS):
            assert client.get(f"k{number}").body == body(number, SIZE)
        node = node_of(cluster, "data1")
        return bool(node["checksum_errors"]) and node["checksum_errors"] == node["pieces_mended"]

    cluster.wait_until(seen, "damage leaves no trace")
    assert cluster.terminate(API) == 0
    cluster.launch(API)
    cluster.wait_until(lambda: is_ready(cluster.daemons[API]), "the api node does not start")
    cluster.wait_until(lambda: bool(node_of(cluster, "data1")["checksum_errors"]), "a restart forgets it")
    assert "failed their checksum" in flarectl(cluster, "node", "show", "data1").stdout
    findings = [json.loads(line) for line in flarectl(cluster, "doctor", "--json").stdout.splitlines()]
    assert [finding["severity"] for finding in findings if finding["code"] == "F513"] == ["warning"]

    cluster.wait_until(lambda: node_of(cluster, "data3")["pieces"] == OBJECTS, "no heartbeat since the restart")
    cluster.kill("data3")
    cluster.wait_until(
        lambda: bool(cluster.client().call("GET", "/status").json()["unavailable_pieces"]), "not counted", 30
    )
    status = cluster.client().call("GET", "/status").json()
    assert (status["unavailable_pieces"], status["degraded_chunks"]) == (OBJECTS, 0), "long before repair_after"
    assert "on nodes that are away" in flarectl(cluster, "status").stdout

    def impossible() -> bool:
        reasons = cluster.client().call("GET", "/status").json()["reasons"]
        return any("replica:3 wants 3 data nodes, and 2 take pieces" in reason for reason in reasons)

    cluster.wait_until(impossible, "impossible repair is not reported", 120)
    assert "by itself" not in flarectl(cluster, "status").stdout
