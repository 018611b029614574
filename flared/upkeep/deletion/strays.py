"""Strays: pieces whose chunk has a record that wants them on another node.

Repair moves a piece by writing it elsewhere and then changing the record, so a crash in between leaves one; and
metadata that came from a backup does not know of any move since. A stray may be the only copy there is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flared.catalog.chunks import ChunkRecord, read_chunk, update_placement
from flared.errors import FlareError, NoSuchPiece
from flared.names import piece_name
from flared.upkeep.repair.missing import mark_missing

if TYPE_CHECKING:
    from flared.meta.kv import Transaction
    from flared.names import ChunkId, NodeName
    from flared.objects.store import Store


async def adopt(store: Store, chunk: ChunkId, number: int, node: NodeName) -> bool:
    """Have the record of a missing piece say that it should be on ``node``, which has one. Return whether it now does.

    It stays missing: heal reads it there, and only then relies on it.
    """

    def decide(tx: Transaction) -> bool:
        now = read_chunk(tx, chunk)
        if now is None or number not in now.missing or now.nodes[number] == node:
            return False
        lost = len(now.missing) == len(now.nodes)
        if node in now.nodes and not lost:
            return False  # two copies on one node are one copy
        nodes = [None if other == node else other for other in now.nodes]
        nodes[number] = node
        return update_placement(tx, chunk, now, now._replace(nodes=tuple(nodes)))

    return await store.kv.transact(decide)


async def may_go(store: Store, record: ChunkRecord, number: int) -> bool:
    """Return whether the node that the record names has the piece, so that a stray copy of it is one too many.

    If it says that it has not, that is noted.
    """
    if number >= len(record.nodes):
        return True
    owner = record.nodes[number]
    remote = None if owner is None else store.chunks.nodes.store(owner)
    if remote is None or number in record.missing:
        return False
    try:
        await remote.head(piece_name(record.id, number))
    except NoSuchPiece:
        await mark_missing(store, record, number)
        return False
    except FlareError:
        return False
    return True
