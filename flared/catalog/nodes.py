"""Nodes: their identities, and what the operator wants of them. ``upkeep.membership`` knows whether they live.

A node that was removed leaves the key ``removed/{node}``, by which its old volumes are known when they turn up again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

from flared.catalog.records import UNDECODABLE, corrupt, parse, text_of
from flared.meta import keys
from flared.meta.kv import DAMAGED
from flared.names import NodeName

if TYPE_CHECKING:
    from flared.meta.kv import KV, Snapshot, Transaction

DesiredState = Literal["stay", "drain", "remove"]
_DESIRED_STATES = {state: state for state in get_args(DesiredState)}
VOLUMES_MAX = 1024
"""Ids of volumes remembered of one node, the newest: four times as many as a node may have at once."""


@dataclass(frozen=True, slots=True)
class NodeRecord:
    name: NodeName
    address: str
    """``host:port``; may change."""
    zone: str
    capacity: int
    """Bytes: its weight on the ring."""
    desired_state: DesiredState = "stay"
    forced: bool = False
    """To be removed even if that loses the last copies of something."""
    volumes: tuple[str, ...] = ()
    """Ids of the volumes that it has, and had."""
    pieces: int = 0
    """How many it had, to about a tenth: a node that returns with fewer may have lost some."""
    unchecked: str = ""
    """The instance that came back with less than the records place on it, or with new volumes, until its inventory has
    been compared with the records. Recorded, so that a restart of the api node does not forget it."""

    @property
    def is_leaving(self) -> bool:
        """The operator removes this node: nothing new goes to it, and its heartbeats are refused."""
        return self.desired_state == "remove"


@dataclass(frozen=True, slots=True)
class Removed:
    """The record of a removed node."""

    at_ms: int
    volumes: tuple[str, ...]


async def list_nodes(kv: KV, limit: int = 10_000) -> list[NodeRecord]:
    """All nodes, in the order of their names. A damaged row is left out."""
    rows = await kv.scan(*keys.under(b"node/"), limit)
    return [decode(NodeName(key.decode().partition("/")[2]), value) for key, value in rows if value != DAMAGED]


def read_node(snapshot: Snapshot, name: NodeName) -> NodeRecord | None:
    value = snapshot.get(keys.node(name))
    return None if value is None else decode(name, value)


def put_node(tx: Transaction, node: NodeRecord) -> None:
    fields: dict[str, object] = {"a": node.address, "z": node.zone, "c": node.capacity, "w": node.desired_state}
    if node.forced:
        fields["f"] = 1
    if node.volumes:
        fields["v"] = node.volumes[:VOLUMES_MAX]
    if node.pieces:
        fields["p"] = node.pieces
    if node.unchecked:
        fields["u"] = node.unchecked
    tx.put(keys.node(node.name), b"1" + json.dumps(fields, separators=(",", ":")).encode())


def remove_node(tx: Transaction, name: NodeName, at_ms: int) -> None:
    """The node is no more; its volumes are remembered."""
    node, before = read_node(tx, name), read_removed(tx, name)
    volumes = (*(node.volumes if node else ()), *(before.volumes if before else ()))
    fields = {"t": at_ms, "v": tuple(dict.fromkeys(volumes))[:VOLUMES_MAX]}
    tx.delete(keys.node(name))
    tx.delete(keys.orphans(name))
    tx.delete(keys.damage(name))
    tx.put(keys.removed(name), b"1" + json.dumps(fields, separators=(",", ":")).encode())


def settle_unchecked(tx: Transaction, name: NodeName, instance: str) -> None:
    """The inventory of this instance of the node was compared with all records."""
    node = read_node(tx, name)
    if node is not None and node.unchecked == instance:
        put_node(tx, replace(node, unchecked=""))


def read_removed(snapshot: Snapshot, name: NodeName) -> Removed | None:
    value = snapshot.get(keys.removed(name))
    if value is None:
        return None
    try:
        fields = parse(text_of(value), 1)[0]
        return Removed(fields["t"], tuple(fields["v"]))
    except UNDECODABLE as error:
        raise corrupt(f"the removed node {name}", error) from error


def readmit_node(tx: Transaction, name: NodeName) -> bool:
    """Call off the removal of a node, under way or done. Return whether there was one."""
    node = read_node(tx, name)
    if node is not None and node.is_leaving:
        put_node(tx, replace(node, desired_state="stay", forced=False))
        return True
    gone = read_removed(tx, name) is not None
    tx.delete(keys.removed(name))
    return gone


def decode(name: NodeName, value: bytes) -> NodeRecord:
    """Raises ManifestCorrupt."""
    try:
        fields = parse(text_of(value), 1)[0]
        volumes = tuple(map(str, fields.get("v", ())))
        desired_state = _DESIRED_STATES[fields["w"]]
        return NodeRecord(
            name,
            fields["a"],
            fields["z"],
            fields["c"],
            desired_state,
            bool(fields.get("f")),
            volumes,
            int(fields.get("p", 0)),
            str(fields.get("u", "")),
        )
    except UNDECODABLE as error:
        raise corrupt(f"the node {name}", error) from error
