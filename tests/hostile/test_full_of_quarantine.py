"""A disk full of pieces in quarantine: puts go on, and the oldest go for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.hostile.lost_records import lose_records
from tests.process.test_full_disk import OBJECT_SIZE, RESERVE, put_until_refused, pytestmark, small_disk
from tests.support.bodies import body
from tests.support.daemons import API, is_ready
from tests.support.pieces import data_fields

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.daemons import Cluster, Start

__all__ = ["pytestmark", "small_disk"]


def names(cluster: Cluster, query: str = "") -> list[str]:
    page = cluster.client("data1").call("GET", f"/chunks?limit=1000{query}", fields=data_fields(cluster, "data1"))
    return [row[0] for row in page.json()["pieces"]]  # type: ignore[attr-defined]


def test_puts_go_on_while_the_disk_is_full_of_quarantine(small_disk: Path, start: Start) -> None:
    cluster = start(volumes={"data1": [small_disk / "volume"]}, data={"storage": {"reserve": RESERVE}})
    client = cluster.client()
    stored, _ = put_until_refused(client, most=200)
    assert cluster.terminate(API) == 0
    assert lose_records(cluster.directory / "meta.db", every=1)  # else reconcile shows what the records want
    cluster.launch(API)
    cluster.wait_until(lambda: is_ready(cluster.daemons[API]), "the api node does not start")
    before = names(cluster)
    assert len(before) >= stored
    quarantine = "".join(f"{name}\n" for name in before).encode()
    answer = cluster.client("data1").call("POST", "/chunks/quarantine", quarantine, data_fields(cluster, "data1"))
    assert answer.status == 200
    assert names(cluster) == []
    assert sorted(names(cluster, "&quarantined=1")) == sorted(before)
    cluster.wait_until(lambda: quarantined(cluster) > 0, "status does not say what is in quarantine")
    # What is in quarantine counts as room from the next look at the disk on, and the api node hears of it after that.
    cluster.wait_until(lambda: is_online(cluster), "the node is still called full")

    taken = 0
    while client.put(f"new-{taken}", body(f"new-{taken}", OBJECT_SIZE)).status == 201:
        taken += 1
    assert names(cluster, "&quarantined=1") == [], "a put was refused while the oldest in quarantine could have gone"
    assert taken > stored * 9 // 10, "records that hide pieces and blocks that stay behind cost a little room"
    for number in range(taken):
        assert client.get(f"new-{number}").body == body(f"new-{number}", OBJECT_SIZE)


def is_online(cluster: Cluster) -> bool:
    nodes = cluster.client().call("GET", "/status").json()["nodes"]
    return all(node["state"] == "online" for node in nodes)


def quarantined(cluster: Cluster) -> int:
    nodes = cluster.client().call("GET", "/status").json()["nodes"]
    return sum(volume["quarantined_bytes"] for node in nodes for volume in node.get("volumes", []))
