"""Put and get 10,000 objects of every awkward size through a real cluster and compare them byte for byte.

    python -m tests.process.many_objects [--objects 10000] [--through-flarectl 300] [--seed N]

All but 2 in 100 objects have up to 256 KiB; the others sit on every boundary (a block, the limit of packed records, a
chunk, two chunks), one byte more and one less. 16 clients work at once over HTTP; some objects go through flarectl.
"""

from __future__ import annotations

import argparse
import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from tests.support.bodies import body
from tests.support.client import Client
from tests.support.daemons import Cluster, running
from tests.support.flarectl import flarectl
from tests.support.scratch import scratch_directory

CLIENTS = 16
KIB = 1024
MIB = 1024 * KIB
SMALL_MAX = 256 * KIB
BOUNDARIES = (0, 256 * KIB, 512 * KIB, 128 * KIB, 8 * MIB, 16 * MIB)
TOTAL_MAX = 4 * 1024 * MIB

Item = tuple[str, int]
"""Key and size; the body follows from both."""


def plan(objects: int, seed: int) -> list[Item]:
    """Keys, some of them awkward, and sizes; at most 4 GiB in all."""
    random = Random(seed)
    edges = [edge + step for edge in BOUNDARIES for step in (-1, 0, 1) if edge + step >= 0]
    boundary_count = objects // 50
    sizes = [edges[number % len(edges)] for number in range(boundary_count)]
    # Evenly over the orders of magnitude: most objects of a real store are far below its largest small one.
    sizes += [int(math.exp(random.uniform(0, math.log(SMALL_MAX)))) for _ in range(objects - boundary_count)]
    random.shuffle(sizes)
    assert sum(sizes) <= TOTAL_MAX
    return [(awkward_key(number, random), size) for number, size in enumerate(sizes)]


def awkward_key(number: int, random: Random) -> str:
    shape = random.choice(
        ("plain/{}", "with space/{}", "ünïcödé-鍵/{}", "per%cent+plus/{}", "a/./b/../{}//", "q?x=1&y#{}", "{}")
    )
    return shape.format(f"object-{number:05d}")


def in_parallel(items: Sequence[Item], port: int, act: Callable[[Client, Item], str | None]) -> list[str]:
    """Run ``act`` on every item from CLIENTS threads; returns its complaints."""
    todo = iter(items)
    lock = threading.Lock()
    complaints: list[str] = []

    def work() -> None:
        client = Client(port)
        while True:
            with lock:
                item = next(todo, None)
            if item is None:
                break
            try:
                complaint = act(client, item)
            except Exception as error:
                complaint = f"{item}: {error!r}"
            if complaint:
                complaints.append(complaint)
        client.close()

    threads = [threading.Thread(target=work) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return complaints


def put_item(client: Client, item: Item) -> str | None:
    answer = client.put(item[0], body(item, item[1]))
    return None if answer.status == 201 else f"put {item}: {answer.status} {answer.body[:200]!r}"


def get_item(client: Client, item: Item) -> str | None:
    answer = client.get(item[0])
    if answer.status != 200:
        return f"get {item}: {answer.status} {answer.body[:200]!r}"
    return None if answer.body == body(item, item[1]) else f"get {item}: other bytes"


def through_flarectl(directory: Path, port: int, items: Sequence[Item]) -> list[str]:
    """Put a tree of files with flarectl, get it back into another one, and compare."""
    source, target = directory / "source", directory / "target"
    for number, item in enumerate(items):
        path = source / f"d{number % 7}" / f"file {number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body(item, item[1]))
    target.mkdir()
    flarectl(port, "bucket", "create", "through-flarectl")
    flarectl(port, "put", "-r", f"{source}/", "through-flarectl:tree/")
    flarectl(port, "get", "-r", "through-flarectl:tree/", f"{target}/")
    complaints = []
    for number, item in enumerate(items):
        found = [path for path in target.rglob(f"file {number}") if path.is_file()]
        if [path.read_bytes() for path in found] != [body(item, item[1])]:
            complaints.append(f"flarectl: file {number} of {item[1]} bytes came back otherwise: {found}")
    return complaints


def run(directory: Path, *, objects: int, through: int, seed: int, nodes: int = 3, scheme: str = "replica:2") -> None:
    items = plan(objects, seed)
    cluster = Cluster(directory / "cluster", nodes=nodes, scheme=scheme)
    with running(cluster):
        port = cluster.daemons["api"].port
        started = time.monotonic()
        complaints = in_parallel(items, port, put_item)
        put_seconds = time.monotonic() - started
        complaints += in_parallel(items, port, get_item)
        get_seconds = time.monotonic() - started - put_seconds
        complaints += through_flarectl(directory, port, Random(seed).sample(items, through))
        cluster.check_alive()
    assert not complaints, f"seed {seed}\n" + "\n".join(complaints[:50])
    total = sum(size for _, size in items) / MIB
    print(
        f"{objects} objects, {total:.0f} MiB: put in {put_seconds:.1f} s, got in {get_seconds:.1f} s, "
        f"{through} through flarectl: all equal"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.process.many_objects")
    parser.add_argument("--objects", type=int, default=10_000)
    parser.add_argument("--through-flarectl", type=int, default=300)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with scratch_directory() as directory:
        run(directory, objects=options.objects, through=options.through_flarectl, seed=options.seed)


if __name__ == "__main__":
    main()
