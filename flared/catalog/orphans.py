"""The record of a node's orphans: how many were deleted lately, and whether the rest are held back.

orphans/{node} = "1" {"d": [[hour since 1970, pieces deleted], …], "a": pieces that an operator allowed,
                      "h": held since, ms, "w": ms of that in which an api node ran, "n": pieces, "b": bytes,
                      "s": names}

Bounded: one record a node, ``HOURS_MAX`` hours, ``SAMPLE_MAX`` names.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flared.catalog.records import UNDECODABLE, corrupt, parse, scan_readable, text_of
from flared.meta import keys
from flared.names import NodeName

if TYPE_CHECKING:
    from flared.meta.kv import KV, Snapshot, Transaction

HOURS_MAX = 24
"""The window in which deleted orphans count."""
SAMPLE_MAX = 10
"""Names kept of what is held back: enough to look some of them up."""
NODES_MAX = 10_000


@dataclass(frozen=True, slots=True)
class OrphanRecord:
    """One node's. Nothing is held back while ``held_since_ms`` is 0."""

    deleted: tuple[tuple[int, int], ...] = ()
    """(hour since 1970, orphans deleted in it), the oldest first. What an operator allowed is not counted."""
    allowed: int = 0
    """Orphans that may still be deleted because an operator said so."""
    held_since_ms: int = 0
    waited_ms: int = 0
    """How much of the time since then an api node ran, by its monotonic clock."""
    held: int = 0
    held_bytes: int = 0
    sample: tuple[str, ...] = ()


def read_orphans(snapshot: Snapshot, node: NodeName) -> OrphanRecord:
    """Raises ManifestCorrupt."""
    value = snapshot.get(keys.orphans(node))
    return OrphanRecord() if value is None else decode(node, value)


def put_orphans(tx: Transaction, node: NodeName, record: OrphanRecord) -> None:
    """An empty record is deleted."""
    if record == OrphanRecord():
        return tx.delete(keys.orphans(node))
    fields = {
        "d": record.deleted[-HOURS_MAX:],
        "a": record.allowed,
        "h": record.held_since_ms,
        "w": record.waited_ms,
        "n": record.held,
        "b": record.held_bytes,
        "s": record.sample[:SAMPLE_MAX],
    }
    return tx.put(keys.orphans(node), b"1" + json.dumps(fields, separators=(",", ":")).encode())


async def list_orphans(kv: KV) -> dict[NodeName, OrphanRecord]:
    """Of every node that has a record which can be read."""

    def read(key: bytes, value: bytes) -> tuple[NodeName, OrphanRecord]:
        node = NodeName(key.decode().partition("/")[2])
        return node, decode(node, value)

    return dict(await scan_readable(kv, *keys.under(b"orphans/"), NODES_MAX, read))


def decode(node: NodeName, value: bytes) -> OrphanRecord:
    """Raises ManifestCorrupt."""
    try:
        fields = parse(text_of(value), 1)[0]
        deleted = tuple((int(hour), int(count)) for hour, count in fields["d"])
        sample = tuple(map(str, fields["s"]))
        allowed, since, waited, held, size = (int(fields[name]) for name in "ahwnb")
        return OrphanRecord(deleted, allowed, since, waited, held, size, sample)
    except UNDECODABLE as error:
        raise corrupt(f"the orphans of {node}", error) from error
