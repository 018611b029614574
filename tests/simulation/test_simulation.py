"""Seeded random workloads under random faults: ``run`` says what they are held against.

A failure prints its seed; ``pytest tests/simulation --seed N`` runs that one, ``python -m tests.simulation`` many.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.simulation.faults import Counts
from tests.simulation.run import VARIANTS, simulate

if TYPE_CHECKING:
    from trio.testing import MockClock

SEEDS_MIN = 5
"""Seeds over which every kind of fault happens at least once."""

counted: dict[str, list[Counts]] = {name: [] for name in VARIANTS}


@pytest.mark.parametrize("variant", VARIANTS)
async def test_promises_hold_under_faults(autojump_clock: MockClock, seed: int, variant: str) -> None:
    counts: Counts = Counter()
    await simulate(VARIANTS[variant], seed, counts)
    counted[variant].append(counts)


@pytest.mark.parametrize("real", [False, True], ids=["fakes", "real"])
def test_every_kind_of_fault_happened(real: bool) -> None:
    variants = {name: variant for name, variant in VARIANTS.items() if variant.real == real}
    runs = [counts for name in variants for counts in counted[name]]
    if len(runs) < SEEDS_MIN * len(variants):
        pytest.skip(f"{len(runs)} runs came before; it takes {SEEDS_MIN} of each variant")
    total: Counts = sum(runs, Counter())
    kinds = {kind for variant in variants.values() for kind in variant.faults}
    assert {kind for kind in kinds if not total[kind]} == set()
