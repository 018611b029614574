"""Cut the power of a whole small cluster under load, on a disk that loses what was not flushed.

    python -m tests.process.power_cuts --rounds 20 [--seed N]

Needs what tests/support/faultdisk.py needs. In half of the rounds nothing unflushed survives, in the others a random
part of it does, as on a disk that writes its cache back in an order of its own.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from random import Random

from tests.process.kill_rounds import API_TOML, check_all, finish, repeat
from tests.support.daemons import Cluster, running
from tests.support.faultdisk import FaultDisk, why_not
from tests.support.ledger import Ledger
from tests.support.load import Load
from tests.support.scratch import scratch_directory

DISK_MEBIBYTES = 1024


def cut_round(cluster: Cluster, disk: FaultDisk, load: Load, ledger: Ledger, random: Random) -> str:
    load.start()
    time.sleep(random.uniform(0.05, 1.0))
    # All at one moment, as far as that goes: an answer given after the cut would be a promise that cannot be kept.
    for daemon in cluster.running():
        assert daemon.process is not None
        daemon.process.kill()
    for daemon in cluster.running():
        cluster.kill(daemon.name)
    load.stop()
    kept = random.choice((0.0, 0.0, 0.3, 0.9))
    disk.power_cut(kept=kept, seed=random.getrandbits(32))
    started = time.monotonic()
    cluster.start()
    ready = time.monotonic() - started
    touched = ledger.touched()
    check_all(cluster, ledger, touched)
    return f"cut, {kept:.0%} of the unflushed blocks kept, well after {ready:.1f} s, {len(touched)} objects right"


def run_cuts(directory: Path, *, rounds: int, seed: int) -> None:
    random = Random(seed)
    ledger = Ledger()
    with FaultDisk(directory / "disk", DISK_MEBIBYTES) as disk:
        nodes = ("data1", "data2")
        cluster = Cluster(
            directory,
            nodes=len(nodes),
            scheme="replica:2",
            api=API_TOML,
            volumes={name: [disk.path / name] for name in nodes},
            metadata=disk.path / "api" / "meta.db",
        )
        (disk.path / "api").mkdir()
        cluster.prepare()
        os.sync()  # the directories we made are not the daemons' to keep
        with running(cluster):
            load = Load(cluster, ledger, seed, writers=6)
            repeat(lambda: cut_round(cluster, disk, load, ledger, random), cluster, rounds=rounds, seed=seed)
            finish(cluster, ledger)
    print(f"{rounds} cuts, seed {seed}: {ledger.summary()}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.process.power_cuts")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    parser.add_argument("--keep", type=Path, help="work here, and leave everything for a look")
    options = parser.parse_args()
    reason = why_not()
    if reason:
        raise SystemExit(f"no power cuts on this machine: {reason}")
    print(f"seed {options.seed}", flush=True)
    with scratch_directory(options.keep) as directory:
        run_cuts(directory, rounds=options.rounds, seed=options.seed)


if __name__ == "__main__":
    main()
