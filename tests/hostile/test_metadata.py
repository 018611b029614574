"""A flipped bit in the metadata or in its log: nothing wrong is answered, and nothing is deleted."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

from tests.hostile.lost_records import fill, readable
from tests.hostile.metadata import SIZE, attack_many, flip
from tests.support.daemons import API
from tests.support.pieces import piece_count
from tests.unit.meta.support import root_page

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.daemons import Cluster, Start

OBJECTS = 300
PAGE_BYTES = 4096


def pieces(cluster: Cluster) -> int:
    return sum(piece_count(cluster, name) for name in cluster.data_names())


def run_flared(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flared", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_damaged_log_stops_the_start_and_is_gone_on_from_by_a_command(start: Start) -> None:
    cluster = start(api={"cluster": {"garbage_grace": "1s"}})
    fill(cluster, OBJECTS, SIZE)
    before = pieces(cluster)
    cluster.kill(API)
    database = cluster.directory / "meta.db"
    log = database.with_name("meta.db-wal")
    flip(log, 8 * (log.stat().st_size // 2))
    damaged = log.read_bytes()

    daemon = cluster.daemons[API]
    refused = run_flared("--config", str(daemon.config))
    assert refused.returncode == 1
    assert f"{log} is damaged at byte" in refused.stderr
    assert "flared restore" in refused.stderr
    assert log.read_bytes() == damaged
    assert "--cut-log" in run_flared("backup", "--config", str(daemon.config), str(cluster.directory / "b.db")).stderr
    assert log.read_bytes() == damaged

    cut = run_flared("restore", "--config", str(daemon.config), "--cut-log", str(database))
    assert cut.returncode == 0, cut.stderr
    cluster.start()
    found = readable(cluster, OBJECTS, SIZE)
    assert OBJECTS // 4 < found < OBJECTS
    wait_for_looks(cluster, 1)
    assert pieces(cluster) == before


def test_a_flipped_index_key_of_a_chunk_deletes_nothing(start: Start) -> None:
    cluster = start(api={"cluster": {"garbage_grace": "1s"}})
    fill(cluster, 20, SIZE)  # their index is one page
    before = pieces(cluster)
    assert cluster.terminate(API) == 0
    flip_chunk_alias(cluster.directory / "meta.db")
    cluster.launch(API)

    def says_so() -> bool:
        return any("the metadata file is damaged" in reason for reason in status(cluster)["reasons"])

    cluster.wait_until(lambda: cluster.health() != "no answer", "the api node does not start")
    assert readable(cluster, 20, SIZE) == 20, "readers do not look for a chunk by its alias"
    cluster.wait_until(says_so, "the check does not find it")
    wait_for_looks(cluster, 4)
    assert pieces(cluster) == before
    metrics = cluster.client().call("GET", "/metrics").body.decode()
    assert "\nflare_meta_problems{} 0" not in metrics
    assert "\nflare_meta_problems 0" not in metrics


async def test_random_flips_never_give_a_wrong_answer(start: Start) -> None:
    cluster = start()
    fill(cluster, OBJECTS, SIZE)
    assert cluster.terminate(API) == 0
    total = await attack_many(cluster.directory / "meta.db", 25, 1)
    assert not total["wrong"]


def status(cluster: Cluster) -> dict[str, list[str]]:
    return cluster.client().call("GET", "/status").json()  # type: ignore[return-value]  # of what is asked for here


def wait_for_looks(cluster: Cluster, count: int) -> None:
    """Until reconcile has looked at the node often enough to delete what it took for an orphan."""

    def looks() -> int:
        reconcile = status(cluster)["reconcile"]
        assert isinstance(reconcile, dict)
        return int(reconcile["looks"])

    cluster.wait_until(lambda: looks() >= count, "nothing is reconciled", 60)


def flip_chunk_alias(database: Path) -> None:
    """In the index alone: the row keeps its alias."""
    with closing(sqlite3.connect(database)) as connection:
        (alias,) = connection.execute("SELECT alias FROM kv WHERE alias IS NOT NULL LIMIT 1").fetchone()
    start = (root_page(database, "aliases") - 1) * PAGE_BYTES
    page = database.read_bytes()[start : start + PAGE_BYTES]
    flip(database, 8 * (start + page.index(alias) + 10) + 1)
