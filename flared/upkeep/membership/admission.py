"""Admission: which heartbeats are accepted, and what is recorded of their nodes. Plain functions."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from flared.catalog.nodes import VOLUMES_MAX, NodeRecord, put_node, read_node, read_removed
from flared.errors import Conflict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flared.data.report import VolumeReport
    from flared.meta.kv import Transaction
    from flared.names import NodeName
    from flared.upkeep.membership.heartbeat import Heartbeat

CAPACITY_CHANGE = 0.1
"""A node's weight follows its capacity when that changed by a tenth: a ring that twitches moves data for nothing."""
PIECES_CHANGE = 0.1
"""How many pieces a node has is recorded anew when that changed by a tenth: some ten times until they have doubled."""
PIECES_FEW = 100
"""A node that fills from nothing is not recorded for each handful."""


def refuse_other_cluster(heartbeat: Heartbeat, cluster: str) -> None:
    """Raises Conflict if its volumes belong to another cluster; fresh ones belong to none yet."""
    if heartbeat.cluster is not None and heartbeat.cluster != cluster:
        raise Conflict(
            f"node {heartbeat.name} belongs to cluster {heartbeat.cluster}, this is cluster {cluster}: "
            "its volumes hold another cluster's data: let it ask its own api node, or give it other volumes"
        )


def write_record(tx: Transaction, heartbeat: Heartbeat, *, lacks: bool) -> NodeRecord:
    """Record what a heartbeat says of its node; with ``lacks``, that its inventory is to be compared first (see
    ``returns``). Raises Conflict if the node was removed, or is being removed."""
    name, volumes = heartbeat.name, ids_of(heartbeat.volumes)
    before, removed = read_node(tx, name), read_removed(tx, name)
    if before is not None and before.is_leaving:
        raise Conflict(being_removed(name))
    # A fresh machine belongs to no cluster yet; a node of this cluster that has no record was removed.
    if removed is not None and (volumes & set(removed.volumes) or (before is None and heartbeat.cluster is not None)):
        when = time.strftime("%Y-%m-%d", time.gmtime(removed.at_ms / 1000))
        raise Conflict(
            f"node {name} was removed from this cluster on {when} and its volumes are those of then: "
            f"empty them (then: flared prepare --new DIRECTORY FILE), or let it return: flarectl node add {name}"
        )
    known = before.volumes if before else ()
    # The newest ids first: the limit drops the oldest.
    ids = (*sorted(volumes - set(known)), *known)[:VOLUMES_MAX]
    unchecked = heartbeat.instance if before and (lacks or before.unchecked) else ""
    record = NodeRecord(
        name,
        heartbeat.address,
        heartbeat.zone,
        heartbeat.capacity,
        volumes=ids,
        pieces=pieces_of(heartbeat, before),
        unchecked=unchecked,
    )
    put_node(tx, record)
    return record


def differs(record: NodeRecord, heartbeat: Heartbeat) -> bool:
    """Return whether a heartbeat says something of its node that is not recorded yet."""
    return (
        not ids_of(heartbeat.volumes) <= set(record.volumes)
        or record.address != heartbeat.address
        or record.zone != heartbeat.zone
        or abs(record.capacity - heartbeat.capacity) > CAPACITY_CHANGE * max(1, record.capacity)
        or abs(record.pieces - pieces_of(heartbeat, record)) > PIECES_CHANGE * max(PIECES_FEW, record.pieces)
    )


def pieces_of(heartbeat: Heartbeat, record: NodeRecord | None) -> int:
    """Return how many pieces to record: the recorded number while some volume does not know its own."""
    counted = all(volume.state not in ("replaying", "failed") for volume in heartbeat.volumes)
    return heartbeat.pieces if counted or record is None else record.pieces


def being_removed(name: NodeName) -> str:
    """Return why the heartbeat of a node that is being removed is refused."""
    return (
        f"node {name} is being removed from this cluster: wait until it is, and come back with new volumes, "
        f"or let it stay: flarectl node add {name}"
    )


def ids_of(volumes: Iterable[VolumeReport]) -> set[str]:
    """Return the ids of the volumes that know theirs: one that has failed reports its path instead."""
    return {volume.id for volume in volumes if volume.id != volume.path}
