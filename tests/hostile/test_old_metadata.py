"""Metadata that is older than data nodes have seen takes no writes and deletes nothing; three ways lead out of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.hostile.old_metadata import ATTACKS, OBJECTS, WAYS_OUT, attack, settings

if TYPE_CHECKING:
    from tests.support.daemons import Start


@pytest.mark.parametrize(("way_in", "way_out"), list(zip(ATTACKS, WAYS_OUT, strict=True)))
def test_old_metadata_is_noticed(start: Start, way_in: str, way_out: str) -> None:
    cluster = start(nodes=3, scheme="replica:2", api=settings())
    outcome = attack(cluster, ATTACKS[way_in])
    assert set(outcome.puts) == {503}
    assert outcome.ready == 503
    assert (outcome.known, outcome.deleted) == (OBJECTS - 1, 0)
    assert outcome.reasons[0].startswith("the metadata is older than what was seen by node data1 (on ")
    assert "flared restore" in outcome.advice[0]
    assert "flarectl metadata accept" in outcome.advice[0]
    WAYS_OUT[way_out](cluster)
