from __future__ import annotations

from dataclasses import replace

import pytest

from flared.catalog.cluster import FORMAT, open_cluster, read_cluster
from flared.catalog.nodes import (
    NodeRecord,
    Removed,
    list_nodes,
    put_node,
    read_node,
    read_removed,
    readmit_node,
    remove_node,
)
from flared.errors import ConfigError, ManifestCorrupt
from flared.meta.keys import CLUSTER, node, removed
from flared.meta.memory import MemoryKV
from flared.names import NodeName


async def test_a_cluster_is_founded_once() -> None:
    kv = MemoryKV()
    first = await open_cluster(kv, "one", 5)
    assert await open_cluster(kv, "two", 6) == first
    assert (first.id, first.format, first.created_ms) == ("one", FORMAT, 5)


async def test_a_removed_node_is_known_by_its_volumes_until_it_may_return() -> None:
    kv, name = MemoryKV(), NodeName("a")
    first = NodeRecord(name, "host:9000", "z", 10**12, "remove", forced=True, volumes=("v1", "v2"))
    await kv.transact(lambda tx: put_node(tx, first))
    assert await list_nodes(kv) == [first]
    assert await kv.transact(lambda tx: readmit_node(tx, name)), "while it is under way"
    assert await list_nodes(kv) == [replace(first, desired_state="stay", forced=False)]
    await kv.transact(lambda tx: remove_node(tx, name, 7))
    await kv.transact(lambda tx: put_node(tx, replace(first, volumes=("v3",))))
    await kv.transact(lambda tx: remove_node(tx, name, 8))
    assert await kv.view(lambda snapshot: read_removed(snapshot, name)) == Removed(8, ("v3", "v1", "v2"))
    assert await kv.transact(lambda tx: readmit_node(tx, name))
    assert await kv.view(lambda snapshot: read_removed(snapshot, name)) is None
    assert not await kv.transact(lambda tx: readmit_node(tx, name))
    await kv.commit({}, {removed("a"): b"1{broken"})
    with pytest.raises(ManifestCorrupt):
        await kv.view(lambda snapshot: read_removed(snapshot, name))


async def test_metadata_of_a_newer_flare_is_refused() -> None:
    kv = MemoryKV()
    newer = b'1{"i":"x","f":%d,"t":1}' % (FORMAT + 1)
    await kv.commit({}, {CLUSTER: newer})
    with pytest.raises(ConfigError, match="newer Flare"):
        await open_cluster(kv, "one", 5)
    entry = await kv.get(CLUSTER)
    assert entry is not None
    assert entry.value == newer
    await kv.commit({}, {CLUSTER: b"2"})
    with pytest.raises(ManifestCorrupt):
        await open_cluster(kv, "one", 5)


async def test_metadata_of_an_older_format_is_marked_so_that_an_older_flare_refuses_it() -> None:
    kv = MemoryKV()
    await kv.commit({}, {CLUSTER: b'1{"i":"x","f":1,"t":1}'})
    opened = await open_cluster(kv, "one", 5)
    assert (opened.id, opened.format, opened.created_ms) == ("x", FORMAT, 1)
    assert await kv.view(read_cluster) == opened


async def test_nodes_are_recorded_replaced_and_removed() -> None:
    kv = MemoryKV()
    records = [NodeRecord(NodeName(name), "host:9000", "z", 10**12) for name in ("b", "a")]
    for record in records:
        await kv.transact(lambda tx, record=record: put_node(tx, record))
    drained = replace(records[0], desired_state="drain", address="[::1]:9000", zone='"')
    await kv.transact(lambda tx: put_node(tx, drained))
    assert await list_nodes(kv) == [records[1], drained]
    await kv.transact(lambda tx: remove_node(tx, NodeName("a"), 7))
    assert await kv.view(lambda snapshot: read_node(snapshot, NodeName("a"))) is None
    assert await kv.view(lambda snapshot: read_removed(snapshot, NodeName("a"))) == Removed(7, ())
    await kv.commit({}, {node("c"): b'1{"a":"x","z":"y","c":1,"w":"strange"}'})
    with pytest.raises(ManifestCorrupt):
        await list_nodes(kv)
