"""DamageLog: which nodes had pieces that failed their checksum. What was mended leaves its trace here: a disk that
decays is found by it before it fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flared.catalog.damage import NodeDamage, count_damage, list_damage
from flared.objects.store import now_ms

if TYPE_CHECKING:
    from flared.names import ChunkId, NodeName
    from flared.objects.store import Store

MENDING_MAX = 10_000
"""Pieces remembered until they are written again; beyond that some are not counted as mended."""


class DamageLog:
    """Keeps the counts in the metadata, and in memory for those who ask. ``load`` first."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._nodes: dict[NodeName, NodeDamage] = {}
        self._mending: dict[tuple[ChunkId, int], NodeName] = {}
        self._loaded = False

    async def load(self) -> None:
        """Learn what was found before this process started; once."""
        if not self._loaded:
            self._nodes = await list_damage(self._store.kv)
            self._loaded = True

    def of_node(self, node: NodeName) -> NodeDamage:
        return self._nodes.get(node, NodeDamage())

    async def found(self, chunk: ChunkId, number: int, node: NodeName) -> None:
        """A piece on this node failed its checksum. Recorded durably."""
        at_ms = now_ms(self._store)
        self._nodes[node] = await self._store.kv.transact(lambda tx: count_damage(tx, node, found=1, now_ms=at_ms))
        if len(self._mending) < MENDING_MAX:
            self._mending[chunk, number] = node

    async def mended(self, chunk: ChunkId, number: int) -> None:
        """The piece was written again; nothing if it was not damaged."""
        node = self._mending.pop((chunk, number), None)
        if node is not None:
            self._nodes[node] = await self._store.kv.transact(lambda tx: count_damage(tx, node, mended=1))
