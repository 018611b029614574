"""An older Flare's metadata and volumes are served as they are, and are refused by it afterwards."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from flared.catalog.cluster import FORMAT
from tests.support.bodies import body
from tests.support.daemons import API, Cluster, Toml, running

if TYPE_CHECKING:
    from pathlib import Path

FLARED = (sys.executable, "-m", "flared")
OLD = (sys.executable, "-m", "tests.support.old_flared")
KIB, MIB = 1024, 1024 * 1024
SIZES = {"empty": 0, "small": 4 * KIB, "shared": 300 * KIB, "extent": 17 * MIB + 3}


def content(key: str) -> bytes:
    return body(key, SIZES[key])


def chunk_ids(cluster: Cluster, key: str) -> list[str]:
    answer = cluster.client().call("GET", f"/object/{key}?chunks").json()
    chunks = answer["chunks"]
    assert isinstance(chunks, list)
    return [chunk["id"] for chunk in chunks]


def check_all(cluster: Cluster) -> None:
    for key in SIZES:
        answer = cluster.client().get(key)
        assert (answer.status, answer.body == content(key)) == (200, True), key


def test_what_was_stored_before_format_2_is_served_and_shared(directory: Path) -> None:
    api: Toml = {"cluster": {"garbage_grace": "1s"}}
    cluster = Cluster(directory / "cluster", 2, "replica:2", api=api, command=OLD)
    with running(cluster):
        for key in SIZES:
            assert cluster.client().put(key, content(key)).status == 201
        before = {key: chunk_ids(cluster, key) for key in SIZES}
        assert [len(ids) for ids in before.values()] == [0, 1, 1, 3]
        assert not [chunk for ids in before.values() for chunk in ids if chunk.startswith("t")]
        for name in cluster.daemons:
            cluster.kill(name)

        cluster.command = FLARED
        cluster.start()
        check_all(cluster)
        assert {key: chunk_ids(cluster, key) for key in SIZES} == before, "nothing was rewritten"
        # Bytes that an old chunk has are shared with it; a small body is stored anew.
        assert cluster.client().put("again", content("shared")).status == 201
        assert chunk_ids(cluster, "again") == before["shared"]
        assert cluster.client().put("small", content("small")).status == 200
        (made,) = chunk_ids(cluster, "small")
        assert made.startswith("t")
        assert made.endswith("." + before["small"][0].partition(".")[0])
        # The sweep deletes what was replaced, by its old name.
        cluster.wait_until(lambda: pieces(cluster) == 2 * 5, "the replaced chunk is still there")
        for name in cluster.daemons:
            cluster.kill(name)
        cluster.start()
        check_all(cluster)

        cluster.terminate(API)
        cluster.command = OLD
        cluster.launch(API)
        daemon = cluster.daemons[API]
        assert daemon.process is not None
        assert daemon.process.wait(30) not in (0, None)
        daemon.process = None
        assert f"was written by a newer Flare (format {FORMAT}, this one knows 1)" in cluster.log_tail(API)
        cluster.command = FLARED
        cluster.start()
        check_all(cluster)


def pieces(cluster: Cluster) -> int:
    nodes = cluster.client().call("GET", "/status").json()["nodes"]
    assert isinstance(nodes, list)
    return sum(node["pieces"] for node in nodes)
