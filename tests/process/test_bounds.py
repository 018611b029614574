"""Short forms of the measurements of size and memory; the full ones are commands, see docs/testing.md."""

from __future__ import annotations

import math
from pathlib import Path

from tests.process import many_objects, memory_bound, million_records

MIB = 1024 * 1024


def test_many_objects_come_back_byte_for_byte(directory: Path) -> None:
    many_objects.run(directory, objects=600, through=30, seed=1)


# A short round on a busy machine says little about times: they are for the full form to judge.
def test_memory_stays_bounded(directory: Path) -> None:
    memory_bound.run(
        directory,
        parts=memory_bound.PARTS,
        clients=16,
        size=48 * MIB,
        big=1024 * MIB,
        slow=100,
        slow_rounds=1,
        slower_max=1.0,
    )


def test_records_cost_neither_start_nor_memory(directory: Path) -> None:
    million_records.run(directory, records=20_000, slower_max=math.inf)
