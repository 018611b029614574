"""Measure that a million objects cost neither start-up time nor memory nor slower listings.

    python -m tests.process.million_records [--records 1000000]

One data node, ``replica:1``. A bucket of 1,000 keys is filled first, then one of ``--records``; compared are the data
node's start and memory, and listing 1,000 keys from the middle of either bucket.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.daemons import Cluster, private_bytes, running
from tests.support.filler import fill, put_requests
from tests.support.scratch import scratch_directory

MIB = 1024 * 1024
FEW = 1000
PAYLOAD = bytes(100)
START_SECONDS_MAX = 2.0
SLOWER_MAX = 1.5
GROWTH_MAX = 16 * MIB


@dataclass(frozen=True, slots=True)
class Start:
    seconds: float
    """From the fork to a /readyz that says yes."""
    memory: int


def numbered_keys(count: int) -> Iterator[str]:
    return (f"key-{number:08d}" for number in range(count))


def measure_start(cluster: Cluster, *, kill: bool) -> Start:
    """Restart the data node after an orderly stop, or after kill -9."""
    if kill:
        cluster.kill("data1")
    else:
        cluster.terminate("data1")
    started = time.monotonic()
    cluster.launch("data1")
    cluster.wait_ready()
    # wait_ready also waits for the api node to hear of it; what the node itself needs is shorter.
    seconds = time.monotonic() - started
    time.sleep(1)
    return Start(seconds, private_bytes(cluster.daemons["data1"].pid))


def listing_seconds(cluster: Cluster, bucket: str, after: str) -> float:
    """The median time of one page of 1,000 keys."""
    client = cluster.client()
    times = []
    for _ in range(25):
        started = time.monotonic()
        answer = client.call("GET", f"/bucket/{bucket}?limit={FEW}&after={after}")
        times.append(time.monotonic() - started)
        objects = answer.json()["objects"]
        assert isinstance(objects, list)
        assert len(objects) == FEW, f"{len(objects)} objects on the page"
    client.close()
    return statistics.median(times)


def run(directory: Path, *, records: int, slower_max: float = SLOWER_MAX) -> None:
    with running(Cluster(directory)) as cluster:
        port = cluster.daemons["api"].port
        client = cluster.client()
        for bucket in ("few", "many"):
            assert client.call("PUT", f"/bucket/{bucket}").status == 201
        client.close()

        fill(port, put_requests("few", numbered_keys(FEW), PAYLOAD))
        few_start = measure_start(cluster, kill=False)
        started = time.monotonic()
        fill(port, put_requests("many", numbered_keys(records), PAYLOAD))
        print(f"{records} objects stored in {time.monotonic() - started:.0f} s", flush=True)

        killed = measure_start(cluster, kill=True)
        stopped = measure_start(cluster, kill=False)
        few_page = listing_seconds(cluster, "few", "")
        many_page = listing_seconds(cluster, "many", f"key-{max(0, records // 2 - FEW):08d}")
        cluster.check_alive()
    report(records, few_start, {"after kill -9": killed, "after a stop": stopped}, few_page, many_page, slower_max)


def report(
    records: int, few: Start, many: dict[str, Start], few_page: float, many_page: float, slower_max: float
) -> None:
    print(f"{FEW} records: data node ready in {few.seconds:.2f} s, {few.memory / MIB:.0f} MiB")
    for what, start in many.items():
        print(f"{records} records, {what}: ready in {start.seconds:.2f} s, {start.memory / MIB:.0f} MiB")
    print(f"a page of {FEW} keys: of {FEW} {few_page * 1e3:.1f} ms, of {records} {many_page * 1e3:.1f} ms", flush=True)
    for what, start in many.items():
        assert start.seconds < START_SECONDS_MAX, f"{what} the data node needed {start.seconds:.2f} s"
        assert start.memory < few.memory + GROWTH_MAX, f"{what} memory grew with the records"
    assert many_page <= slower_max * few_page, "a page of many keys is slower than a page of few"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.process.million_records")
    parser.add_argument("--records", type=int, default=1_000_000)
    options = parser.parse_args()
    with scratch_directory() as directory:
        run(directory, records=options.records)


if __name__ == "__main__":
    main()
