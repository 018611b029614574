from __future__ import annotations

from typing import TYPE_CHECKING

from tests.hostile.slow_clients import KINDS, attack, prepared
from tests.support.daemons import Cluster

if TYPE_CHECKING:
    from pathlib import Path

WORST_SECONDS = 2.0


def test_slow_clients_cost_others_no_more_than_their_own_memory(directory: Path) -> None:
    """Before, bodies as slow as these made a small put wait for minutes, and readers others of the same object."""
    with prepared(Cluster(directory / "cluster")) as cluster:
        for kind in KINDS:
            outcome = attack(cluster, kind, clients=120, seconds=2)
            assert max(latency.worst for latency in outcome.beside) < WORST_SECONDS, kind
            assert outcome.connected == 120, kind
