"""Readers that are slow and not dead: each gets its object whole, however much of it lies in the kernel's buffers.

``python -m tests.hostile.slow_readers`` reads for 150 seconds at 1 to 20 kB/s; ``--seconds`` says how long.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from tests.support.bodies import body
from tests.support.client import NO_ANSWER, object_path
from tests.support.daemons import API, Cluster, running
from tests.support.scratch import scratch_directory

if TYPE_CHECKING:
    from collections.abc import Sequence

PACES = (1100, 2000, 5000, 20_000)
SIZE = 12_000_000
"""More than the kernel's buffers hold on both ends, so that the node has to wait for its reader."""


class Reading(NamedTuple):
    kind: str
    pace: int
    taken: int
    """Bytes read at that pace."""
    whole: bool
    """Return whether all the rest came, at full speed, and all of it was right."""


def contents() -> dict[str, bytes]:
    noise = body("slow readers", SIZE)
    return {"noise": noise, "text": noise[:64] * (SIZE // 64)}


def read_slowly(port: int, kind: str, content: bytes, pace: int, seconds: float) -> Reading:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    taken = bytearray()
    whole = False
    with contextlib.suppress(*NO_ANSWER):
        connection.request("GET", object_path(kind))
        response = connection.getresponse()
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            taken += response.read(max(1, int(passed * pace) - len(taken)))
            time.sleep(1.0)
        slowly = len(taken)
        whole = bytes(taken) + response.read() == content
        connection.close()
        return Reading(kind, pace, slowly, whole)
    connection.close()
    return Reading(kind, pace, len(taken), whole)


def attack(cluster: Cluster, seconds: float, paces: Sequence[int] = PACES) -> list[Reading]:
    port = cluster.daemons[API].port
    objects = contents()
    client = cluster.client()
    for kind, content in objects.items():
        assert client.put(kind, content).status in (200, 201)
    client.close()
    with ThreadPoolExecutor(len(objects) * len(paces)) as threads:
        readings = [
            threads.submit(read_slowly, port, kind, content, pace, seconds)
            for kind, content in objects.items()
            for pace in paces
        ]
        return [reading.result() for reading in readings]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=150.0)
    options = parser.parse_args()
    with scratch_directory() as fresh, running(Cluster(fresh)) as cluster:
        readings = attack(cluster, options.seconds)
    for reading in readings:
        print(f"{reading.kind:6} {reading.pace:6} B/s  {reading.taken:9} bytes slowly, then "
              f"{'all of the rest' if reading.whole else 'CUT'}")  # fmt: skip
    return 0 if all(reading.whole for reading in readings) else 1


if __name__ == "__main__":
    sys.exit(main())
