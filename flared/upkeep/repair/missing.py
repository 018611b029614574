"""Missing: noting in chunk records which pieces are not where they should be. Heal goes by nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flared.catalog.chunks import ChunkRecord, read_chunk, update_placement
from flared.upkeep.batches import transact_each

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flared.meta.kv import Transaction
    from flared.objects.store import Store


async def mark_missing(store: Store, record: ChunkRecord, number: int) -> bool:
    """Record that a piece is missing or wrong where ``record`` says it is. Return whether that was news.

    Decided inside the transaction: what else changed in the record meanwhile does not matter.
    """
    marked = await store.kv.transact(lambda tx: _mark(tx, record, number))
    store.missing_marks.count += marked
    return marked


async def mark_many_missing(store: Store, marks: Sequence[tuple[ChunkRecord, int]]) -> int:
    """The same for many pieces, some in one transaction. Return how many were news."""
    marked = sum(await transact_each(store.kv, marks, lambda tx, mark: _mark(tx, *mark)))
    store.missing_marks.count += marked
    return marked


def _mark(tx: Transaction, record: ChunkRecord, number: int) -> bool:
    now = read_chunk(tx, record.id)
    if now is None or number >= len(now.nodes) or now.nodes[number] != record.nodes[number] or number in now.missing:
        return False
    return update_placement(tx, record.id, now, now._replace(missing=tuple(sorted((*now.missing, number)))))
