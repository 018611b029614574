from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.hostile.aborted_downloads import MIB, OLD_CODEC, WITHOUT_COLLECTOR, attack, customized

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.daemons import Start


@pytest.mark.parametrize("codec", ["", OLD_CODEC], ids=["frames", "whole"])
def test_aborted_downloads_leave_no_memory_to_the_collector(start: Start, directory: Path, codec: str) -> None:
    with customized(directory / "site", WITHOUT_COLLECTOR + codec):
        memory = attack(start(), downloads=80, clients=8)
    # The budget of bodies is 96 MiB, and a third of it for downloads; a chunk is 8 MiB.
    assert memory.after - memory.before < 32 * MIB
    assert memory.after_at_once - memory.before < 64 * MIB
