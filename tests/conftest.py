"""Seeds: simulated runs are reproducible; a failure names the seed that it happened with."""

from __future__ import annotations

import random

import pytest
import trio._core._run as trio_run

SEEDS = 6


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=None, help="run simulations with this seed only")
    parser.addoption("--seeds", type=int, default=SEEDS, help="run simulations with this many seeds")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        only = metafunc.config.getoption("--seed")
        seeds = [only] if only is not None else list(range(metafunc.config.getoption("--seeds")))
        metafunc.parametrize("seed", seeds, ids=[f"seed{seed}" for seed in seeds])


@pytest.fixture(autouse=True)
def deterministic_scheduler(request: pytest.FixtureRequest) -> None:
    """trio shuffles its run queue to keep programs honest; here the order comes from the test's seed."""
    seed = request.getfixturevalue("seed") if "seed" in request.fixturenames else 0
    trio_run._r = random.Random(seed)
