"""Admission: whom a heartbeat is believed, and what is recorded of its node. Plain functions."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from flared.catalog.nodes import VOLUMES_MAX, NodeRecord, put_node, read_node, read_removed
from flared.errors import Conflict

if TYPE_CHECKING:
    from flared.meta.kv import Transaction
    from flared.names import NodeName
    from flared.upkeep.heartbeat import Heartbeat

CAPACITY_CHANGE = 0.1
"""A node's weight follows its capacity when that changed by a tenth: a ring that twitches moves data for nothing."""


def refuse_other_cluster(heartbeat: Heartbeat, cluster: str) -> None:
    """Raises Conflict if its volumes belong to another cluster; fresh ones belong to none yet."""
    if heartbeat.cluster is not None and heartbeat.cluster != cluster:
        raise Conflict(
            f"node {heartbeat.name} belongs to cluster {heartbeat.cluster}, this is cluster {cluster}: "
            "its volumes hold another cluster's data: let it ask its own api node, or give it other volumes"
        )


def refuse_double(record: NodeRecord, before: Heartbeat, heartbeat: Heartbeat) -> None:
    """Two processes under one name would take each other's pieces for lost. Raises Conflict if there are two.

    ``before`` is what the node of this name said last; it is alive.
    """
    others = {volume.id for volume in before.volumes} - {volume.id for volume in heartbeat.volumes}
    if record.address != heartbeat.address and others:
        raise Conflict(
            f"a node named {heartbeat.name} is online at {record.address} with other volumes: "
            f"give the one at {heartbeat.address} another name"
        )


def write_record(tx: Transaction, heartbeat: Heartbeat) -> NodeRecord:
    """Record what a heartbeat says of its node. Raises Conflict if the node was removed, or is being removed."""
    name, volumes = heartbeat.name, _volumes_of(heartbeat)
    before, removed = read_node(tx, name), read_removed(tx, name)
    if before is not None and before.wish == "remove":
        raise Conflict(being_removed(name))
    # A fresh machine belongs to no cluster yet; whoever belongs to this one and is not known was here before.
    if removed is not None and (volumes & set(removed.volumes) or (before is None and heartbeat.cluster is not None)):
        when = time.strftime("%Y-%m-%d", time.gmtime(removed.at_ms / 1000))
        raise Conflict(
            f"node {name} was removed from this cluster on {when} and its volumes are those of then: "
            f"empty them (then: flared prepare --new DIRECTORY FILE), or let it return: flarectl node add {name}"
        )
    known = before.volumes if before else ()
    ids = (*sorted(volumes - set(known)), *known)[:VOLUMES_MAX]
    record = NodeRecord(name, heartbeat.address, heartbeat.zone, heartbeat.capacity, volumes=ids)
    put_node(tx, record)
    return record


def differs(record: NodeRecord, heartbeat: Heartbeat) -> bool:
    """Whether a heartbeat tells something of its node that is to be recorded."""
    return (
        not _volumes_of(heartbeat) <= set(record.volumes)
        or record.address != heartbeat.address
        or record.zone != heartbeat.zone
        or abs(record.capacity - heartbeat.capacity) > CAPACITY_CHANGE * max(1, record.capacity)
    )


def being_removed(name: NodeName) -> str:
    """What a node is told that lives although it is to go."""
    return (
        f"node {name} is being removed from this cluster: wait until it is, and come back with new volumes, "
        f"or let it stay: flarectl node add {name}"
    )


def _volumes_of(heartbeat: Heartbeat) -> set[str]:
    """The ids of its volumes; one that has failed may tell its path instead."""
    return {volume.id for volume in heartbeat.volumes if volume.id != volume.path}
