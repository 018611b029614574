"""The record of the damage on a node: how many of its pieces failed their checksum, and were written again.

damage/{node} = "1" {"f": found, "m": mended, "t": found last, ms}

One record a node. It outlives restarts of both ends: a disk that decays does so over months.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flared.catalog.records import UNDECODABLE, corrupt, parse, scan_readable, text_of
from flared.errors import ManifestCorrupt
from flared.meta import keys
from flared.names import NodeName

if TYPE_CHECKING:
    from flared.meta.kv import KV, Transaction

NODES_MAX = 10_000


@dataclass(frozen=True, slots=True)
class NodeDamage:
    found: int = 0
    """Pieces on this node that failed their checksum."""
    mended: int = 0
    """Of these, written again, here or elsewhere, while this was remembered."""
    last_ms: int = 0
    """When the last one was found."""


async def list_damage(kv: KV) -> dict[NodeName, NodeDamage]:
    """Of every node that has a record which can be read."""

    def read(key: bytes, value: bytes) -> tuple[NodeName, NodeDamage]:
        node = NodeName(key.decode().partition("/")[2])
        return node, _decode(node, value)

    return dict(await scan_readable(kv, *keys.under(b"damage/"), NODES_MAX, read))


def count_damage(tx: Transaction, node: NodeName, *, found: int = 0, mended: int = 0, now_ms: int = 0) -> NodeDamage:
    """Add to the record, which begins anew if it cannot be read. Return it as it is now."""
    value = tx.get(keys.damage(node))
    try:
        before = NodeDamage() if value is None else _decode(node, value)
    except ManifestCorrupt:
        before = NodeDamage()
    after = NodeDamage(before.found + found, before.mended + mended, max(before.last_ms, now_ms))
    fields = {"f": after.found, "m": after.mended, "t": after.last_ms}
    tx.put(keys.damage(node), b"1" + json.dumps(fields, separators=(",", ":")).encode())
    return after


def _decode(node: NodeName, value: bytes) -> NodeDamage:
    try:
        fields = parse(text_of(value), 1)[0]
        return NodeDamage(int(fields["f"]), int(fields["m"]), int(fields["t"]))
    except UNDECODABLE as error:
        raise corrupt(f"the damage of {node}", error) from error
