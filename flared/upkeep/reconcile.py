"""Reconcile: hold a node's inventory against the chunk records, in both directions.

A node that comes back is neither blindly trusted nor wiped. Pieces that the records place there and that it does not
have are noted as missing. Pieces that it has and that no record places there are orphans: of puts that died, of
deletes it slept through. **An orphan is deleted only after two looks a grace apart, on the monotonic clock**, found
without a record each time, and never while this process writes its chunk. Everything a look relies on must have been
answered completely; a page that could not be read ends the look with nothing deleted. For some days after the metadata
came from a backup nothing is deleted either (``catalog.restored``).

Why a piece of a put under way cannot be taken for an orphan: it is in ``in_flight`` from before its first byte is sent
until after its record is committed, and the records of a page are read after its inventory.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from flared.catalog.chunks import ChunkRecord, find_many, list_chunks
from flared.catalog.restored import orphans_kept_until
from flared.cluster.states import NodeState
from flared.errors import BadName, FlareError, NodeUnreachable, NoSuchPiece
from flared.names import ChunkId, NodeName, PieceName, piece_name, piece_parts
from flared.objects.store import now_ms
from flared.upkeep.heal import Heal, mark_missing

if TYPE_CHECKING:
    from flared.chunks.nodes import PieceNode
    from flared.objects.store import Store

log = logging.getLogger(__name__)

PAGE = 200
"""Looking up so many records takes about two milliseconds of the event loop."""
REST = 4.0
"""A look rests four times as long as it works: a million pieces take some minutes, and clients notice nothing."""
ORPHANS_MAX = 100_000
"""Candidates remembered between two looks; more are found by later looks."""
INTERVAL_SECONDS = 24 * 3600.0
"""Every node is looked at this often even if nothing happened to it."""
SETTLE_SECONDS = 5.0
"""After a node's return, so that a cluster that starts is not busy with inventories at once."""


@dataclass(frozen=True, slots=True)
class ReconcileStatistics:
    looks: int
    missing: int
    orphans: int
    suspects: int
    """Orphans seen once, waiting for the second look."""


class Reconcile:
    """A Worker."""

    name = "reconcile"

    def __init__(self, store: Store, heal: Heal) -> None:
        self._store = store
        self._heal = heal
        self._due: dict[NodeName, float] = {}
        self._candidates: dict[tuple[NodeName, PieceName], float] = {}
        self._woken = trio.Event()
        self._looks = self._missing = self._orphans = 0

    def node_changed(self, node: NodeName, state: NodeState) -> None:
        """Told by membership: at a node's first heartbeat, its return, and its restart."""
        if state in (NodeState.ONLINE, NodeState.FULL):
            self._due[node] = min(
                self._due.get(node, trio.current_time() + SETTLE_SECONDS), trio.current_time() + SETTLE_SECONDS
            )
            self._woken.set()

    async def step(self) -> bool:
        now = trio.current_time()
        for node in [node for node, due in self._due.items() if due <= now]:
            if not self._store.chunks.nodes.is_online(node):
                del self._due[node]
                continue
            self._due[node] = now + INTERVAL_SECONDS
            try:
                await self._look(node)
            except FlareError as error:
                log.info("event=reconcile_broken_off node=%s error=%s message=%r", node, error.code, str(error))
                self._due[node] = now + self._grace()
        return False

    async def wait(self) -> None:
        now = trio.current_time()
        soonest = min(self._due.values(), default=now + INTERVAL_SECONDS)
        with trio.move_on_after(max(0.01, soonest - now)):
            await self._woken.wait()
        self._woken = trio.Event()

    def statistics(self) -> ReconcileStatistics:
        return ReconcileStatistics(self._looks, self._missing, self._orphans, len(self._candidates))

    def _grace(self) -> float:
        return max(1.0, self._store.garbage_grace_seconds)

    async def _look(self, node: NodeName) -> None:
        """Walk inventory and records side by side; both are in the order of chunk ids."""
        started = trio.current_time()
        missing_before, orphans_before = self._missing, self._orphans
        confirmed = [] if await self._keeps_orphans(node) else await self._find_orphans(node)
        await self._find_missing(node)
        await self._delete(node, confirmed)
        self._looks += 1
        waiting = [found for (where, _), found in self._candidates.items() if where == node]
        if waiting:
            self._due[node] = min(self._due[node], min(waiting) + self._grace() + 0.1)
        if self._missing != missing_before or self._orphans != orphans_before or waiting:
            log.info(
                "event=reconciled node=%s missing=%d orphans=%d suspects=%d seconds=%.1f",
                node, self._missing - missing_before, self._orphans - orphans_before, len(waiting),
                trio.current_time() - started,
            )  # fmt: skip

    async def _keeps_orphans(self, node: NodeName) -> bool:
        """Records that came from a backup know nothing of what was written since: for a while nothing is an orphan."""
        until_ms = await orphans_kept_until(self._store.kv)
        keeps = now_ms(self._store) < until_ms
        if keeps:
            log.info("event=orphans_kept node=%s until_ms=%d", node, until_ms)
        return keeps

    async def _find_orphans(self, node: NodeName) -> list[PieceName]:
        """Orphans of this look that were orphans a grace ago too; the others are remembered."""
        store = self._remote(node)
        seen: set[PieceName] = set()
        confirmed: list[PieceName] = []
        after = ""
        while True:
            started = trio.current_time()
            page = await store.list(after, PAGE)
            now = trio.current_time()
            for piece in await self._unrecorded(node, [name for name, _ in page]):
                seen.add(piece)
                first = self._candidates.get((node, piece))
                if first is not None and now - first >= self._grace():
                    confirmed.append(piece)
                elif first is None and len(self._candidates) < ORPHANS_MAX:
                    self._candidates[node, piece] = now
            if len(page) < PAGE:
                break
            after = page[-1][0]
            await trio.sleep(REST * (trio.current_time() - started))
        for key in [key for key in self._candidates if key[0] == node and key[1] not in seen]:
            del self._candidates[key]
        return confirmed

    async def _unrecorded(self, node: NodeName, names: list[str]) -> list[PieceName]:
        """Those of the names that no record wants on this node, and that no put or repair of ours is writing."""
        parts: list[tuple[PieceName, ChunkId, int]] = []
        for name in names:
            try:
                parts.append((PieceName(name), *piece_parts(PieceName(name))))
            except BadName:
                log.warning("event=strange_piece node=%s piece=%r", node, name)
        records = await find_many(self._store.kv, [chunk for _, chunk, _ in parts])
        in_flight = self._store.chunks.in_flight
        return [
            piece
            for (piece, chunk, number), record in zip(parts, records, strict=True)
            if not _names(record, number, node) and not in_flight.writes(chunk)
        ]

    async def _find_missing(self, node: NodeName) -> None:
        """Records are read first, so a piece that one names was durable before the inventory was taken."""
        store = self._remote(node)
        after: ChunkId | None = None
        while True:
            started = trio.current_time()
            page = await list_chunks(self._store.kv, after, PAGE)
            wanted = {
                piece_name(record.id, number): record
                for record in page
                for number in range(len(record.nodes))
                if _places(record, number, node)
            }
            if wanted:
                held = await self._held_between(node, min(wanted), max(wanted))
                for piece in sorted(wanted.keys() - held):
                    try:
                        await store.head(piece)
                    except NoSuchPiece:
                        self._missing += await mark_missing(self._store, wanted[piece], (piece_parts(piece)[1],))
            if len(page) < PAGE:
                break
            after = page[-1].id
            await trio.sleep(REST * (trio.current_time() - started))
        self._heal.wake()

    async def _held_between(self, node: NodeName, first: PieceName, last: PieceName) -> set[str]:
        """The names in the node's inventory from ``first`` to ``last``."""
        held: set[str] = set()
        after = first[:-1]
        while True:
            page = await self._remote(node).list(after, PAGE)
            held.update(name for name, _ in page if first <= name <= last)
            if len(page) < PAGE or page[-1][0] >= last:
                return held
            after = page[-1][0]

    async def _delete(self, node: NodeName, confirmed: list[PieceName]) -> None:
        """Ask the records once more, right before: nothing recorded is ever deleted here."""
        for start in range(0, len(confirmed), PAGE):
            names = await self._unrecorded(node, list(confirmed[start : start + PAGE]))
            # No repair may choose this node for one of these chunks while the delete is on its way.
            in_flight, chunks = self._store.chunks.in_flight, {piece_parts(name)[0] for name in names}
            for chunk in chunks:
                in_flight.begin_write(chunk)
            try:
                errors = await self._remote(node).delete(names)
            finally:
                for chunk in chunks:
                    in_flight.settle_write(chunk)
            for name, error in zip(names, errors, strict=True):
                if error is None:
                    self._orphans += 1
                    self._candidates.pop((node, name), None)

    def _remote(self, node: NodeName) -> PieceNode:
        store = self._store.chunks.nodes.store(node)
        if store is None:
            raise NodeUnreachable(node, "it is not known")
        return store


def _names(record: ChunkRecord | None, number: int, node: NodeName) -> bool:
    """Whether the record says that this piece belongs on this node, missing or not: then it is heal's business."""
    return record is not None and number < len(record.nodes) and record.nodes[number] == node


def _places(record: ChunkRecord | None, number: int, node: NodeName) -> bool:
    """Whether the record says that this piece is on this node now."""
    return record is not None and _names(record, number, node) and number not in record.missing
