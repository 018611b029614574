"""python -m tests.simulation --seeds N [--first N] [--jobs N] [--only VARIANT]

Runs many seeds of every variant, in processes of their own, prints those that fail and how to run them again, and how
often each kind of fault happened. Exit code 1 if a seed failed, or if a kind of fault never happened.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import sys
import time
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import trio
import trio._core._run as trio_run
from trio.testing import MockClock

from tests.simulation.faults import Counts
from tests.simulation.run import VARIANTS, simulate

HASH_SEED = "0"
"""Sets of texts are walked in an order that hangs on it: with one of its own each process would be another run."""


@dataclass(frozen=True, slots=True)
class Outcome:
    variant: str
    seed: int
    counts: Counts
    virtual_seconds: float
    failure: str


def run_seed(variant: str, seed: int) -> Outcome:
    """One run on a virtual clock, without a log."""
    logging.disable(logging.CRITICAL)
    try:
        return _run_seed(variant, seed)
    finally:
        logging.disable(logging.NOTSET)


def _run_seed(variant: str, seed: int) -> Outcome:
    trio_run._r = random.Random(seed)
    clock = MockClock(autojump_threshold=0)
    counts: Counts = Counter()
    failure = ""
    try:
        trio.run(simulate, VARIANTS[variant], seed, counts, clock=clock)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        failure = "".join(traceback.format_exception(error))
    return Outcome(variant, seed, counts, clock.current_time(), failure)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description="Simulate many seeds.")
    parser.add_argument("--seeds", type=int, default=100, help="so many of each variant")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at once")
    parser.add_argument("--only", action="append", choices=VARIANTS, help="this variant only; may be repeated")
    options = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != HASH_SEED:
        os.environ["PYTHONHASHSEED"] = HASH_SEED
        os.execv(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]])
    variants = options.only or list(VARIANTS)
    seeds = range(options.first, options.first + options.seeds)
    started = time.monotonic()
    totals: dict[str, Counts] = {variant: Counter() for variant in variants}
    failed = 0
    virtual = 0.0
    with ProcessPoolExecutor(options.jobs) as pool:
        runs = [pool.submit(run_seed, variant, seed) for seed in seeds for variant in variants]
        for run in runs:
            outcome = run.result()
            totals[outcome.variant] += outcome.counts
            virtual += outcome.virtual_seconds
            if outcome.failure:
                failed += 1
                print(f"FAILED: {outcome.variant}, seed {outcome.seed}\n{outcome.failure}")
                print(f"again: python -m tests.simulation --only {outcome.variant} --first {outcome.seed} --seeds 1")
                sys.stdout.flush()
    missing = 0
    for variant in variants:
        counts = totals[variant]
        print(f"{variant}: " + ", ".join(f"{kind} {counts[kind]}" for kind in VARIANTS[variant].faults))
        absent = [kind for kind in VARIANTS[variant].faults if not counts[kind]]
        if absent and len(seeds) > 1:
            missing += 1
            print(f"FAILED: {variant} never had: {', '.join(absent)}")
    print(
        f"{len(runs)} runs, {failed} failed; {virtual / 3600:.1f} hours of virtual time "
        f"in {time.monotonic() - started:.0f} seconds"
    )
    return 1 if failed or missing else 0


if __name__ == "__main__":
    raise SystemExit(main())
