"""Short forms of the crash tests; the full ones are commands, see docs/testing.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.process.kill_rounds import run_rounds
from tests.process.power_cuts import run_cuts
from tests.support.faultdisk import why_not

SEED = 20240607


@pytest.mark.parametrize(("scheme", "nodes", "rounds"), [("replica:2", 3, 8), ("rs:2+1", 4, 4)])
def test_nothing_acknowledged_is_lost_when_processes_are_killed(
    directory: Path, scheme: str, nodes: int, rounds: int
) -> None:
    run_rounds(directory, rounds=rounds, seed=SEED, nodes=nodes, scheme=scheme)


@pytest.mark.skipif(why_not() is not None, reason=f"no power cuts on this machine: {why_not()}")
def test_nothing_acknowledged_is_lost_when_the_power_is_cut(directory: Path) -> None:
    run_cuts(directory, rounds=2, seed=SEED)
