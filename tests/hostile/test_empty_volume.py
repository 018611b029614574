"""A node that comes back with an empty disk counts for nothing until its inventory was compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.hostile.empty_volume import attack, fill, restart_api

if TYPE_CHECKING:
    from tests.support.daemons import Start


def test_nothing_counts_on_an_empty_disk(start: Start) -> None:
    cluster = start(nodes=3, scheme="replica:2")
    pieces = fill(cluster)
    assert attack(cluster, pieces) == 0.0
    assert attack(cluster, pieces, lambda: restart_api(cluster)) == 0.0, "nor after a restart of the api node"
