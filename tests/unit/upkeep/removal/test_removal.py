"""A record that no longer names a node keeps everything else, and lacks what the node had."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flared.catalog.chunks import ChunkRecord
from flared.names import ChunkId, NodeName
from flared.upkeep.removal.removal import without

names = st.sampled_from([NodeName(f"data{number}") for number in range(4)])


@given(st.lists(st.none() | names, min_size=1, max_size=6), names, st.data())
def test_what_was_on_a_node_that_is_taken_out_is_missing(
    owners: list[NodeName | None], gone: NodeName, data: st.DataObject
) -> None:
    absent = {number for number, owner in enumerate(owners) if owner is None}
    missing = absent | data.draw(st.sets(st.integers(0, len(owners) - 1)))
    record = ChunkRecord(ChunkId("0" * 64), 5, 5, 0, "replica:3", 1, tuple(owners), tuple(sorted(missing)))
    after = without(record, gone)
    assert gone not in after.nodes
    for number, (before, now) in enumerate(zip(owners, after.nodes, strict=True)):
        assert now == (None if before == gone else before)
        assert (number in after.missing) == (number in missing or before == gone)
    assert list(after.missing) == sorted(set(after.missing))
    assert (after.id, after.references, after.size) == (record.id, record.references, record.size)
