"""Kill -9 random processes of a real cluster under load, restart them, and check what was acknowledged.

    python -m tests.process.kill_rounds --rounds 200 [--seed N] [--nodes 3] [--scheme replica:2] [--keep DIR]

After each round every object written in it is read back: an acknowledged one must be there and right, any other
whole or as before. At the end everything is read once more, then deleted, and no piece may stay on a data node.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

from tests.support.client import NO_ANSWER
from tests.support.daemons import API, Cluster, is_ready, running
from tests.support.ledger import Ledger
from tests.support.load import CHUNK_SIZE, Load, complaints_after
from tests.support.pieces import wait_for_no_pieces
from tests.support.scratch import scratch_directory

READY_AFTER_KILL_SECONDS = 30.0

# Short lives for garbage and dead uploads, so that a leak shows within the test.
API_TOML: dict[str, object] = {
    "defaults": {"chunk_size": "256KiB"},
    "cluster": {"garbage_grace": "1s", "upload_ttl": "5s"},
}
assert CHUNK_SIZE == 256 * 1024


def choose_victims(random: Random, data_nodes: list[str]) -> list[str]:
    """Mostly one process; sometimes two data nodes, sometimes all at once."""
    kind = random.random()
    if kind < 0.4:
        return [API]
    if kind < 0.8:
        return [random.choice(data_nodes)]
    if kind < 0.9:
        return random.sample(data_nodes, min(2, len(data_nodes)))
    return [API, *data_nodes]


def kill_round(cluster: Cluster, load: Load, ledger: Ledger, random: Random) -> str:
    """One round; raises AssertionError with everything found wrong. Returns what was done, for the log."""
    victims = choose_victims(random, cluster.data_names())
    load.start()
    time.sleep(random.uniform(0.02, 0.8))
    for name in victims:
        cluster.kill(name)
    time.sleep(random.uniform(0.0, 0.3))
    if random.random() < 0.5:
        # Back while the load goes on, so that recovery itself runs under load.
        for name in victims:
            cluster.launch(name)
        time.sleep(random.uniform(0.0, 0.6))
    load.stop()
    started = time.monotonic()
    for name in victims:
        if cluster.daemons[name].process is None:
            cluster.launch(name)
    cluster.wait_until(lambda: is_well(cluster), "the cluster is not healthy", READY_AFTER_KILL_SECONDS)
    ready = time.monotonic() - started
    touched = ledger.touched()
    check_all(cluster, ledger, touched)
    return f"killed {'+'.join(victims)}, well after {ready:.1f} s, {len(touched)} objects right"


def is_well(cluster: Cluster) -> bool:
    """Return whether the cluster calls itself healthy. What it holds back is allowed first, as an operator would who
    knows where a thousand orphans in a day come from: each kill leaves the pieces of the puts under way."""
    cluster.check_alive()
    if not all(map(is_ready, cluster.running())):
        return False
    with suppress(*NO_ANSWER):
        client = cluster.client()
        for name in cluster.data_names():
            held = client.call("GET", f"/cluster/orphans?node={name}")
            if held.status == 200 and (pieces := held.json()["held"]):
                client.call("DELETE", f"/cluster/orphans?node={name}&pieces={pieces}")
        client.close()
    return cluster.health() == "ok"


def check_all(cluster: Cluster, ledger: Ledger, keys: list[str]) -> None:
    complaints = complaints_after(cluster, ledger, keys)
    cluster.check_alive()
    assert not complaints, "\n".join(complaints)


def finish(cluster: Cluster, ledger: Ledger) -> None:
    """Everything is right, also after a restart; then everything is deleted and no piece stays."""
    check_all(cluster, ledger, ledger.keys())
    cluster.stop()
    cluster.start()
    check_all(cluster, ledger, ledger.keys())
    client = cluster.client()
    keys = ledger.keys()
    for key in keys:
        assert client.delete(key).status == 204
    client.close()
    wait_for_no_pieces(cluster)


def repeat(one_round: Callable[[], str], cluster: Cluster, *, rounds: int, seed: int) -> None:
    """Run so many rounds; report a failure with the seed, its round and the ends of all logs."""
    for number in range(1, rounds + 1):
        try:
            done = one_round()
        except AssertionError as error:
            tails = "\n".join(cluster.log_tail(name) for name in cluster.daemons)
            raise AssertionError(f"seed {seed}, round {number}: {error}\n{tails}") from error
        print(f"round {number}/{rounds}: {done}", flush=True)


def run_rounds(directory: Path, *, rounds: int, seed: int, nodes: int, scheme: str) -> None:
    random = Random(seed)
    ledger = Ledger()
    cluster = Cluster(directory, nodes=nodes, scheme=scheme, api=API_TOML)
    with running(cluster):
        load = Load(cluster, ledger, seed)
        repeat(lambda: kill_round(cluster, load, ledger, random), cluster, rounds=rounds, seed=seed)
        finish(cluster, ledger)
    print(f"{rounds} rounds, seed {seed}: {ledger.summary()}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.process.kill_rounds")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--scheme", default="replica:2")
    parser.add_argument("--keep", type=Path, help="work here, and leave everything for a look")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with scratch_directory(options.keep) as directory:
        run_rounds(directory, rounds=options.rounds, seed=options.seed, nodes=options.nodes, scheme=options.scheme)


if __name__ == "__main__":
    main()
