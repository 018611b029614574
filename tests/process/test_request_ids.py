"""The id that flarectl prints with an error leads to the lines of that request in the logs of all nodes it went to."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from tests.support.bodies import body
from tests.support.daemons import API, Cluster, Start


def flarectl(cluster: Cluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    endpoint = f"http://127.0.0.1:{cluster.daemons[API].port}"
    command = [sys.executable, "-m", "flarectl", *arguments]
    environment = {**os.environ, "FLARE_ENDPOINT": endpoint}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_the_id_of_an_error_is_in_the_logs_of_both_nodes(start: Start) -> None:
    cluster = start()
    for key, size in (("in-a-batch", 4096), ("alone", 3 * 1024 * 1024)):
        assert cluster.client().put(key, body(key, size)).status == 201
    cluster.terminate("data1")
    for segment in (cluster.directory / "data1" / "segments").iterdir():
        with open(segment, "r+b") as file:  # the first block is the segment's own head
            file.seek(4096)
            file.write(os.urandom(segment.stat().st_size - 4096))
    cluster.launch("data1")
    cluster.wait_until(lambda: cluster.health() == "ok", "the node is back")

    with ThreadPoolExecutor() as threads:  # both are tried again for some seconds
        all_failed = threads.map(partial(flarectl, cluster, "cat"), ("in-a-batch", "alone"))

    for failed in all_failed:
        assert failed.returncode in (5, 7)
        found_id = re.search(r"\(request ([0-9a-z-]+)\)", failed.stderr)
        assert found_id, failed.stderr
        for name in (API, "data1"):
            lines = [line for line in cluster.daemons[name].log.read_text().splitlines() if found_id[1] in line]
            assert lines, f"{name} does not know {found_id[1]}\n{cluster.log_tail(name)}"
