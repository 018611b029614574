"""Nodes: who they are and what the operator wants of them. Whether they live is no record (``upkeep.membership``)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from flared.catalog.records import UNDECODABLE, corrupt, parse, text_of
from flared.meta import keys
from flared.names import NodeName

if TYPE_CHECKING:
    from flared.meta.kv import KV, Snapshot, Transaction

Wish = Literal["stay", "drain", "remove"]
_WISHES = {wish: wish for wish in get_args(Wish)}


@dataclass(frozen=True, slots=True)
class NodeRecord:
    name: NodeName
    address: str
    """``host:port``; may change."""
    zone: str
    capacity: int
    """Bytes: its weight on the ring."""
    wish: Wish = "stay"


async def list_nodes(kv: KV, limit: int = 10_000) -> list[NodeRecord]:
    """All nodes, in the order of their names."""
    rows = await kv.scan(*keys.under(b"node/"), limit)
    return [decode(NodeName(key.decode().partition("/")[2]), value) for key, value in rows]


def read_node(look: Snapshot, name: NodeName) -> NodeRecord | None:
    value = look.get(keys.node(name))
    return None if value is None else decode(name, value)


def put_node(tx: Transaction, node: NodeRecord) -> None:
    fields = {"a": node.address, "z": node.zone, "c": node.capacity, "w": node.wish}
    tx.put(keys.node(node.name), b"1" + json.dumps(fields, separators=(",", ":")).encode())


def remove_node(tx: Transaction, name: NodeName) -> None:
    tx.delete(keys.node(name))


def decode(name: NodeName, value: bytes) -> NodeRecord:
    """Raises ManifestCorrupt."""
    try:
        fields = parse(text_of(value), 1)[0]
        return NodeRecord(name, fields["a"], fields["z"], fields["c"], _WISHES[fields["w"]])
    except UNDECODABLE as error:
        raise corrupt(f"the node {name}", error) from error
