"""A real disk dies under a running data node: what it held is rebuilt on the node's other one."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.bodies import body
from tests.support.client import NO_ANSWER
from tests.support.faultdisk import FaultDisk, why_not

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.daemons import Cluster, Start

KEYS = [f"key{number}" for number in range(30)]


def bytes_of(key: str) -> bytes:
    return body(key, 300_000 if int(key[3:]) % 3 == 0 else 5000)


def volume_of(cluster: Cluster, path: Path) -> dict[str, object]:
    """Return the volume in /status; nothing while the api node does not answer."""
    with contextlib.suppress(*NO_ANSWER):
        nodes = cluster.client().call("GET", "/status").json()["nodes"]
        assert isinstance(nodes, list)
        for node in nodes:
            for volume in node.get("volumes", []):
                if volume["path"] == str(path):
                    return dict(volume)
    return {}


@pytest.mark.skipif(bool(why_not()), reason=str(why_not()))
def test_what_a_dead_disk_held_is_made_again_without_anybody(start: Start, directory: Path) -> None:
    with FaultDisk(directory / "disk", 512) as disk, FaultDisk(directory / "smaller", 256) as smaller:
        bad, good = disk.path / "volume", smaller.path / "volume"
        cluster = start(
            nodes=2,
            scheme="replica:2",
            api={"cluster": {"repair_after": "3s", "garbage_grace": "3s"}},
            volumes={"data1": [bad, good]},
        )
        client = cluster.client()
        for key in KEYS:
            assert client.put(key, bytes_of(key)).status == 201
        disk.control("errors all")
        # Who writes finds out; a put that met the fault is repeated, as clients do, and the other volume takes it.
        end = time.monotonic() + 60
        while volume_of(cluster, bad).get("state") != "failed":
            assert time.monotonic() < end, cluster.log_tail("data1")
            assert client.put("later", body("later", 5000)).status in (200, 201, 503)
            time.sleep(0.2)
        cluster.wait_until(lambda: volume_of(cluster, bad).get("repaired") is True, "the repair does not end")
        assert client.call("DELETE", "/object/key1").status == 204
        reasons = client.call("GET", "/status").json()["reasons"]
        assert isinstance(reasons, list)
        assert [reason for reason in reasons if "rebuilt elsewhere" in reason], reasons
        cluster.kill("data2")
        for key in [*KEYS[:1], *KEYS[2:]]:
            assert client.get(key).body == bytes_of(key)
        cluster.check_alive()
        cluster.terminate("data1")
        disk.control("errors off")
