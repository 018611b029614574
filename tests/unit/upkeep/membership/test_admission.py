"""The facts that a heartbeat records of its node, and heartbeats that record nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flared.catalog.nodes import NodeRecord, put_node, read_node, remove_node
from flared.data.report import VolumeReport
from flared.errors import Conflict
from flared.meta.memory import MemoryKV
from flared.names import NodeName
from flared.upkeep.membership.admission import (
    CAPACITY_CHANGE,
    PIECES_CHANGE,
    PIECES_FEW,
    differs,
    refuse_other_cluster,
    write_record,
)
from flared.upkeep.membership.heartbeat import Heartbeat

DATA1 = NodeName("data1")
VOLUME = VolumeReport("v1", "/srv/a", 1000, 0, 1000, "ok")
BEAT = Heartbeat(DATA1, "h:1", "z", "1", "c", "i", (VOLUME,), 500, (), None)
RECORD = NodeRecord(DATA1, "h:1", "z", 1000, volumes=("v1",), pieces=500)


async def written(kv: MemoryKV, beat: Heartbeat, *, lacks: bool = False) -> NodeRecord:
    return await kv.transact(lambda tx: write_record(tx, beat, lacks=lacks))


def test_only_volumes_of_another_cluster_are_refused() -> None:
    refuse_other_cluster(BEAT, "c")
    refuse_other_cluster(replace(BEAT, cluster=None), "c")
    with pytest.raises(Conflict, match="belongs to cluster c, this is cluster other"):
        refuse_other_cluster(BEAT, "other")


def test_what_is_recorded_already_is_not_recorded_again() -> None:
    assert not differs(RECORD, BEAT)
    assert differs(RECORD, replace(BEAT, address="h:2"))
    assert differs(RECORD, replace(BEAT, zone="y"))
    assert differs(RECORD, replace(BEAT, volumes=(replace(VOLUME, id="v2"),)))


@given(st.integers(0, 100_000))
def test_numbers_are_recorded_when_they_changed_by_a_tenth(number: int) -> None:
    pieces = replace(BEAT, pieces=number)
    assert differs(RECORD, pieces) == (abs(number - 500) > PIECES_CHANGE * max(PIECES_FEW, 500))
    room = replace(BEAT, volumes=(replace(VOLUME, capacity=number),))
    assert differs(RECORD, room) == (abs(number - 1000) > CAPACITY_CHANGE * 1000)


@pytest.mark.parametrize("state", ["replaying", "failed"])
def test_pieces_are_not_recorded_while_a_volume_does_not_know_its_own(state: str) -> None:
    assert not differs(RECORD, replace(BEAT, pieces=0, volumes=(replace(VOLUME, state=state),)))


async def test_a_record_remembers_volumes_that_a_node_had() -> None:
    kv = MemoryKV()
    await written(kv, BEAT)
    record = await written(kv, replace(BEAT, volumes=(replace(VOLUME, id="v2"),)))
    assert record.volumes == ("v2", "v1")
    assert record == await kv.view(lambda snapshot: read_node(snapshot, DATA1))


async def test_what_lacks_is_recorded_until_it_was_compared() -> None:
    kv = MemoryKV()
    assert (await written(kv, BEAT, lacks=True)).unchecked == "", "a new node can lack nothing"
    assert (await written(kv, BEAT, lacks=True)).unchecked == "i"
    assert (await written(kv, replace(BEAT, instance="later"))).unchecked == "later", "nothing was compared yet"


async def test_a_removed_node_comes_back_only_with_empty_volumes() -> None:
    kv = MemoryKV()
    await written(kv, BEAT)
    await kv.transact(lambda tx: put_node(tx, replace(RECORD, desired_state="remove")))
    with pytest.raises(Conflict, match="is being removed"):
        await written(kv, BEAT)
    await kv.transact(lambda tx: remove_node(tx, DATA1, 0))
    with pytest.raises(Conflict, match="was removed from this cluster on 1970-01-01"):
        await written(kv, BEAT)
    with pytest.raises(Conflict, match="was removed"):  # its cluster says that it was here before
        await written(kv, replace(BEAT, volumes=(replace(VOLUME, id="v2"),)))
    fresh = replace(BEAT, cluster=None, volumes=(replace(VOLUME, id="v2"),))
    assert (await written(kv, fresh)).volumes == ("v2",)
