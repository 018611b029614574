"""LostVolumes: when a volume of a living node has been failed for ``repair_after``, note what was on it as missing.

A failed volume cannot be asked what it holds. But the node lists what its working volumes hold, and says which volumes
the list leaves out; so what the records place on the node and the list does not have was on a failed volume, if on any.
**A page counts only if all that it leaves out are volumes failed for that long**, and each absence is seen twice.
Nothing is deleted here: what a volume brings back when it returns is looked at by ``reconcile``.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from flared.errors import Busy, FlareError, NodeUnreachable
from flared.names import NodeName, PieceName, piece_name, piece_parts
from flared.upkeep.repair.missing import mark_many_missing
from flared.upkeep.walk import Walk

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flared.catalog.chunks import ChunkRecord
    from flared.objects.store import Store
    from flared.upkeep.membership.membership import GivenUp, Membership
    from flared.upkeep.repair.heal import Heal

log = logging.getLogger(__name__)

INVENTORY_PAGE = 200
CHECK_SECONDS = 5.0
RETRY_SECONDS = 60.0
"""After a walk that was broken off."""


@dataclass(frozen=True, slots=True)
class VolumeRepair:
    """How far the repair of a node's failed volumes has come."""

    volumes: frozenset[str]
    """Their paths."""
    share: float
    """Of all chunk records looked at; 1 when what was on them is known."""
    pieces: int
    """Found to have been on them, and noted as missing."""
    waiting: bool
    """Chunks may still wait for heal to make their pieces again."""


@dataclass(slots=True)
class _Search:
    """For what was on the failed volumes of one node."""

    given_up: GivenUp
    walk: Walk = field(default_factory=Walk)
    pieces: int = 0
    """Noted as missing so far."""
    rests_until: float = 0.0
    unchecked: str = ""
    """The instance that came back with less than it had, when the walk began: this compares it too."""
    passes: int = 0
    """Of heal, when the walk ended."""


class LostVolumes:
    """A Worker."""

    name = "lost_volumes"

    def __init__(self, store: Store, heal: Heal) -> None:
        self._store = store
        self._heal = heal
        self._given_up: Callable[[], Mapping[NodeName, GivenUp]] = dict
        self._membership: Membership | None = None
        self._searches: dict[NodeName, _Search] = {}

    def follow(self, membership: Membership) -> None:
        """Ask there which volumes of which living nodes have been failed for long enough."""
        self._given_up, self._membership = membership.given_up, membership

    async def step(self) -> bool:
        """One page of the walk for one node."""
        given_up = self._given_up()
        for node in [node for node in self._searches if node not in given_up]:
            del self._searches[node]
        # A volume more, or another start of the node, begins the walk anew: what it listed before may be wrong now.
        for node, volumes in given_up.items():
            search = self._searches.get(node)
            if search is None or search.given_up != volumes:
                log.warning("event=volume_given_up node=%s volumes=%s", node, ",".join(sorted(volumes.paths)))
                unchecked = self._membership.unchecked_instance(node) if self._membership else ""
                search = self._searches[node] = _Search(volumes, unchecked=unchecked)
            if not search.walk.ended and trio.current_time() >= search.rests_until:
                await self._advance(node, search)
                return True
        return False

    async def wait(self) -> None:
        await trio.sleep(CHECK_SECONDS)

    def repair_of(self, node: NodeName, path: str) -> VolumeRepair | None:
        """Return how far the repair of this volume has come; None if it has not begun."""
        search = self._searches.get(node)
        if search is None or path not in search.given_up.paths:
            return None
        walk = search.walk
        waiting = not (walk.ended and self._heal.statistics().caught_up_since(search.passes))
        return VolumeRepair(search.given_up.paths, walk.share(self._store), search.pieces, waiting)

    async def _advance(self, node: NodeName, search: _Search) -> None:
        """Records are read first, so a piece that one names was durable before the inventory was taken."""
        page = await search.walk.read_page(self._store)
        try:
            marks = await self._find_missing(node, search.given_up.paths, page)
        except FlareError as error:
            log.info("event=volume_repair_broken_off node=%s error=%s message=%r", node, error.code, str(error))
            search.rests_until = trio.current_time() + RETRY_SECONDS
            return
        # The walk moves on after its marks are durable: a crash in between marks them again, which changes nothing.
        search.pieces += await mark_many_missing(self._store, marks)
        search.walk.move_on(page)
        if search.walk.ended:
            search.passes = self._heal.statistics().passes
            self._store.chunks.nodes.set_searched(node, search.given_up.paths)
            if self._membership:
                await self._membership.settle_unchecked(node, search.unchecked)
            log.warning(
                "event=volume_pieces_missing node=%s volumes=%s pieces=%d",
                node, ",".join(sorted(search.given_up.paths)), search.pieces,
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
            page, left_out = await store.list_working(after, INVENTORY_PAGE)
            early = set(left_out) - given_up
            if early:
                raise Busy(f"volume {min(early)} on node {node} may still come back")
            held.update(PieceName(name) for name, _ in page)
            if len(page) < INVENTORY_PAGE or page[-1][0] >= last:
                return held
            after = page[-1][0]
