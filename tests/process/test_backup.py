"""``flared backup`` while a node is under load, and ``flared restore``: what holds before and after."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

from tests.support.bodies import body
from tests.support.daemons import API, Cluster, Start
from tests.support.pieces import piece_count

if TYPE_CHECKING:
    from pathlib import Path

LARGE = 200_000
"""Shared by digest."""


def flared(command: str, cluster: Cluster, path: Path, *more: str) -> subprocess.CompletedProcess[str]:
    arguments = [command, "--config", str(cluster.directory / "api.toml"), *more, str(path)]
    return subprocess.run([sys.executable, "-m", "flared", *arguments], capture_output=True, text=True, timeout=120)


def test_a_backup_under_load_is_restored_and_nothing_acts_rashly_on_it(start: Start, directory: Path) -> None:
    cluster = start(api={"cluster": {"garbage_grace": "1s"}})
    target = directory / "backup.db"
    client = cluster.client()
    for number in range(200):
        assert client.put(f"before/{number}", body(number, 5000)).status == 201
    assert client.put("shared", body("shared", LARGE)).status == 201

    stop = threading.Event()
    puts: list[str] = []

    def load() -> None:
        writer = cluster.client()
        while not stop.is_set():
            key = f"during/{len(puts)}"
            assert writer.put(key, body(key, 3000)).status == 201
            puts.append(key)

    thread = threading.Thread(target=load)
    thread.start()
    try:
        cluster.wait_until(lambda: len(puts) > 20, "no puts")
        acknowledged = list(puts)
        result = flared("backup", cluster, target)
    finally:
        stop.set()
        thread.join()
    assert result.returncode == 0, result.stderr
    assert "is a backup of cluster" in result.stdout
    assert len(puts) > len(acknowledged), "puts go on meanwhile"
    assert target.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in directory.iterdir() if "part" in path.name or "-wal" in path.name] == []

    again = flared("backup", cluster, target)
    assert (again.returncode, again.stderr.count("\n")) == (1, 1)
    assert "exists already" in again.stderr
    refused = flared("restore", cluster, target)
    assert refused.returncode == 1
    assert f"in use by process {cluster.daemons[API].pid}" in refused.stderr

    # What the backup does not know: objects that came, and an object whose chunk was deleted to its last byte.
    assert client.put("after", body("after", 5000)).status == 201
    assert client.delete("shared").status == 204
    cluster.wait_until(lambda: piece_count(cluster, "data1") == len(puts) + 201, "not swept")
    held = piece_count(cluster, "data1")
    client.close()
    assert cluster.terminate(API) == 0
    result = flared("restore", cluster, target)
    assert result.returncode == 0, result.stderr
    assert "objects written since" in result.stdout
    assert len(list((directory / "cluster").glob("meta.db.before-*"))) == 1
    cluster.start()

    client = cluster.client()
    for number in range(0, 200, 20):
        assert client.get(f"before/{number}").body == body(number, 5000)
    for key in acknowledged:
        assert client.get(key).body == body(key, 3000)
    assert client.get("after").status == 404
    assert client.put("again", body("shared", LARGE)).status == 201
    assert client.get("again").body == body("shared", LARGE), "known bytes are stored, not only referenced"
    cluster.wait_until(lambda: "event=orphans_kept" in cluster.log_tail(API, 10_000), "no look at the node")
    assert piece_count(cluster, "data1") == held + 1

    # The wrong backup? What was kept aside has everything.
    client.close()
    assert cluster.terminate(API) == 0
    (kept,) = (directory / "cluster").glob("meta.db.before-*")
    assert flared("restore", cluster, kept).returncode == 0
    cluster.start()
    assert cluster.client().get("after").body == body("after", 5000)


def test_copies_that_repair_has_moved_since_the_backup_are_found(start: Start, directory: Path) -> None:
    """Two of four hosts lose their disks, one after the other; some chunks have both their copies elsewhere then."""
    cluster = start(nodes=4, scheme="replica:2", api={"cluster": {"garbage_grace": "1s", "repair_after": "8s"}})

    def has(nodes: int) -> bool:
        """So many data nodes are online, and no chunk lacks a copy."""
        status = cluster.client().call("GET", "/status").json()
        online = [node["name"] for node in status["nodes"] if node["role"] == "data" and node["state"] == "online"]
        return len(online) == nodes and not status["degraded_chunks"]

    cluster.wait_until(lambda: has(4), "not all are there")
    client = cluster.client()
    bodies = {f"small/{number}": body(number, 5000) for number in range(60)}
    bodies |= {"one": body("one", LARGE), "many": body("many", 20 << 20)}
    for key, content in bodies.items():
        assert client.put(key, content).status == 201
    target = directory / "backup.db"
    assert flared("backup", cluster, target).returncode == 0

    def pieces() -> int:
        return sum(piece_count(cluster, daemon.name) for daemon in cluster.running() if daemon.name != API)

    held = pieces()
    for victim in ("data1", "data2"):
        cluster.kill(victim)
        shutil.rmtree(directory / "cluster" / victim)
        cluster.wait_until(lambda: pieces() == held, "not rebuilt")
        (directory / "cluster" / victim).mkdir()
        cluster.start()
        cluster.wait_until(lambda: has(4), "not complete")
    client.close()
    assert cluster.terminate(API) == 0
    assert flared("restore", cluster, target).returncode == 0
    cluster.start()
    client = cluster.client()

    def all_there() -> bool:
        answers = {key: client.get(key) for key in bodies}
        assert all(answer.body == bodies[key] or answer.status >= 500 for key, answer in answers.items())
        return all(answer.status == 200 for answer in answers.values())

    cluster.wait_until(all_there, "not found again", 120)
    cluster.wait_until(lambda: has(4), "not healed", 120)
    assert client.call("GET", "/status").json()["reconcile"]["adopted"] > 0
    assert client.call("GET", "/status").json()["lost_chunks"] == 0


def test_a_metadata_file_lost_with_its_log_comes_back(start: Start, directory: Path) -> None:
    cluster = start()
    client = cluster.client()
    assert client.put("a", b"kept").status == 201
    for _ in range(2):
        assert flared("backup", cluster, directory / "daily", "--keep", "7").returncode == 0
    client.close()
    cluster.kill(API)
    shutil.copy(max((directory / "daily").glob("*.db")), directory / "copy.db")
    for path in (directory / "cluster").glob("meta.db*"):
        path.unlink()
    assert flared("restore", cluster, directory / "copy.db").returncode == 0
    cluster.start()
    assert cluster.client().get("a").body == b"kept"
