"""A data node dies for good, is taken away, and comes back: with its old volumes, and with new ones."""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING

from tests.support.bodies import body
from tests.support.client import NO_ANSWER
from tests.support.daemons import API
from tests.support.pieces import piece_count

if TYPE_CHECKING:
    from tests.support.daemons import Cluster, Start

KEYS = [f"key{number}" for number in range(40)]


def states(cluster: Cluster) -> dict[str, str]:
    """Return the states of the known data nodes by name; nothing while the api node does not answer."""
    with contextlib.suppress(*NO_ANSWER):
        nodes = cluster.client().call("GET", "/status").json()["nodes"]
        assert isinstance(nodes, list)
        return {node["name"]: node["state"] for node in nodes if node["role"] == "data"}
    return {}


def test_a_node_that_died_for_good_is_taken_away(start: Start) -> None:
    cluster = start(nodes=4, scheme="replica:3", api={"cluster": {"repair_after": "3s", "garbage_grace": "2s"}})
    client = cluster.client()
    for key in KEYS:
        assert client.put(key, body(key, 5000)).status == 201
    removal = "/cluster/node?node=data2"
    assert client.call("DELETE", removal).status == 409, "it lives"
    cluster.kill("data2")
    cluster.wait_until(lambda: states(cluster).get("data2") == "offline", "it is not called offline")
    cluster.wait_until(lambda: client.call("DELETE", removal).status < 300, "its pieces are not made again")
    cluster.wait_until(lambda: "data2" not in states(cluster), "it is not taken away")
    assert cluster.health() == "ok"

    cluster.launch("data2")
    cluster.wait_until(lambda: "was removed from this cluster" in cluster.log_tail("data2"), "the node is not refused")
    assert "event=node_refused" in cluster.log_tail(API)
    assert "data2" not in states(cluster)
    cluster.kill(API)
    cluster.launch(API)
    cluster.wait_ready()
    assert "data2" not in states(cluster), "nor after a restart"

    cluster.terminate("data2")
    volume = cluster.directory / "data2"
    shutil.rmtree(volume)
    volume.mkdir()
    cluster.launch("data2")
    cluster.wait_until(lambda: states(cluster).get("data2") == "online", "a fresh node is not welcome")
    cluster.kill("data3")
    cluster.wait_until(lambda: piece_count(cluster, "data2") == len(KEYS), "it takes nothing over")
    for key in KEYS:
        assert client.get(key).body == body(key, 5000)
