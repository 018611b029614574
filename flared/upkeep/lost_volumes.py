"""LostVolumes: when a volume of a living node has been failed for ``repair_after``, note what was on it as missing.

Nobody can ask a failed volume what it holds. But the node lists what its working volumes hold, and says which volumes
the list leaves out; so what the records place on the node and the list does not have was on a failed volume, if on any.
**A page counts only if all that it leaves out are volumes failed for that long**, and each absence is seen twice.
Nothing is deleted here: what a volume brings back when it returns is looked at by ``reconcile``.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from flared.catalog.chunks import ChunkRecord, list_chunks
from flared.errors import Busy, FlareError, NodeUnreachable
from flared.names import ChunkId, NodeName, PieceName, piece_name, piece_parts
from flared.upkeep.heal import Heal, mark_many_missing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flared.objects.store import Store
    from flared.upkeep.membership import GivenUp

log = logging.getLogger(__name__)

PAGE = 200
CHECK_SECONDS = 5.0
RETRY_SECONDS = 60.0
"""After a walk that was broken off."""


@dataclass(frozen=True, slots=True)
class VolumeRepair:
    """How far the repair of a node's failed volumes is."""

    volumes: frozenset[str]
    """Their paths."""
    share: float
    """Of all chunk records looked at; 1 when what was on them is known."""
    pieces: int
    """Found to have been on them, and noted as missing."""
    waiting: bool
    """Whether chunks may still wait for heal to make them again."""


@dataclass(slots=True)
class _Walk:
    given_up: GivenUp
    cursor: ChunkId | None = None
    pieces: int = 0
    ended: bool = False
    rests_until: float = 0.0
    passes: int = 0
    """Of heal, when the walk ended."""


class LostVolumes:
    """A Worker."""

    name = "lost_volumes"

    def __init__(self, store: Store, heal: Heal) -> None:
        self._store = store
        self._heal = heal
        self._given_up: Callable[[], Mapping[NodeName, GivenUp]] = dict
        self._walks: dict[NodeName, _Walk] = {}

    def follow(self, given_up: Callable[[], Mapping[NodeName, GivenUp]]) -> None:
        """Ask there which volumes of which living nodes have been failed for long enough."""
        self._given_up = given_up

    async def step(self) -> bool:
        """One page of the walk for one node."""
        given_up = self._given_up()
        for node in [node for node in self._walks if node not in given_up]:
            del self._walks[node]
        for node, volumes in given_up.items():
            walk = self._walks.get(node)
            if walk is None or walk.given_up != volumes:
                log.warning("event=volume_given_up node=%s volumes=%s", node, ",".join(sorted(volumes.paths)))
                walk = self._walks[node] = _Walk(volumes)
            if not walk.ended and trio.current_time() >= walk.rests_until:
                await self._advance(node, walk)
                return True
        return False

    async def wait(self) -> None:
        await trio.sleep(CHECK_SECONDS)

    def repair_of(self, node: NodeName, path: str) -> VolumeRepair | None:
        """How far the repair of this volume is; None if it has not begun."""
        walk = self._walks.get(node)
        if walk is None or path not in walk.given_up.paths:
            return None
        share = 1.0 if walk.ended else int(walk.cursor[:4], 16) / 0x10000 if walk.cursor else 0.0
        heal = self._heal.statistics()
        waiting = not walk.ended or heal.passes <= walk.passes + 1 or heal.backlog > 0
        return VolumeRepair(walk.given_up.paths, share, walk.pieces, waiting)

    async def _advance(self, node: NodeName, walk: _Walk) -> None:
        """Records are read first, so a piece that one names was durable before the inventory was taken."""
        page = await list_chunks(self._store.kv, walk.cursor, PAGE)
        try:
            marks = await self._find_missing(node, walk.given_up.paths, page)
        except FlareError as error:
            log.info("event=volume_repair_broken_off node=%s error=%s message=%r", node, error.code, str(error))
            walk.rests_until = trio.current_time() + RETRY_SECONDS
            return
        walk.pieces += await mark_many_missing(self._store, marks)
        if len(page) == PAGE:
            walk.cursor = page[-1].id
        else:
            walk.ended, walk.passes = True, self._heal.statistics().passes
            self._store.chunks.nodes.set_searched(node, walk.given_up.paths)
            log.warning(
                "event=volume_pieces_missing node=%s volumes=%s pieces=%d",
                node, ",".join(sorted(walk.given_up.paths)), walk.pieces,
            )  # fmt: skip
        self._heal.wake()

    async def _find_missing(
        self, node: NodeName, given_up: frozenset[str], page: list[ChunkRecord]
    ) -> list[tuple[ChunkRecord, int]]:
        """Pieces that the records place on the node, and that none of its working volumes has."""
        wanted = {
            piece_name(record.id, number): record
            for record in page
            for number, owner in enumerate(record.nodes)
            if owner == node and number not in record.missing
        }
        absent = set(wanted)
        for _ in range(2):
            if absent:
                absent -= await self._held_between(node, given_up, min(absent), max(absent))
        return [(wanted[piece], piece_parts(piece)[1]) for piece in sorted(absent)]

    async def _held_between(
        self, node: NodeName, given_up: frozenset[str], first: PieceName, last: PieceName
    ) -> set[PieceName]:
        """The names in the inventory of the node's working volumes from ``first`` to ``last``."""
        store = self._store.chunks.nodes.store(node)
        if store is None:
            raise NodeUnreachable(node, "it is not known")
        held: set[PieceName] = set()
        after = first[:-1]
        while True:
            page, left_out = await store.list_working(after, PAGE)
            early = set(left_out) - given_up
            if early:
                raise Busy(f"volume {min(early)} on node {node} may still come back")
            held.update(PieceName(name) for name, _ in page)
            if len(page) < PAGE or page[-1][0] >= last:
                return held
            after = page[-1][0]
