"""Reconcile: hold a node's inventory against the chunk records, in both directions.

A node that comes back is neither blindly trusted nor wiped. Pieces that the records place there and that it does not
have are noted as missing. Pieces that it has and that no record places there are orphans: of puts that died, of
deletes it slept through. **An orphan is deleted only after two looks a grace apart, on the monotonic clock**, found
without a record each time, and never while this process writes its chunk. One whose chunk has a record is deleted only
after the node that should have the piece said that it has; while it is missing there, the record is pointed to the
orphan instead (``strays``). Everything a look relies on must have been answered completely; a page that could not be
read ends the look with nothing deleted. **What is deleted goes to quarantine first**:
the node hides it and keeps it for days. Other reasons to keep orphans are rules (``deletion``): for some days after
the metadata came from a backup nothing is deleted (``catalog.restored``); then moved copies are looked for whenever
more pieces were found missing. Of a node with too many orphans at once nothing is deleted until an operator allows it
(``brake``).

Why a piece of a put under way cannot be taken for an orphan: it is in ``in_flight`` from before its first byte is sent
until after its record is committed, and the records of a page are read after its inventory.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from flared.catalog.chunks import ChunkRecord, find_many
from flared.catalog.orphans import SAMPLE_MAX
from flared.catalog.restored import orphans_kept_until
from flared.cluster.states import NodeState
from flared.errors import BadName, FlareError, ManifestCorrupt, NodeOutdated, NodeUnreachable, NoSuchPiece
from flared.names import ChunkId, NodeName, PieceName, piece_name, piece_parts
from flared.objects.store import now_ms
from flared.upkeep.deletion.brake import Brake, Found
from flared.upkeep.deletion.rules import DeletionRules
from flared.upkeep.deletion.steady_clock import SteadyClock
from flared.upkeep.deletion.strays import adopt, may_go
from flared.upkeep.repair.missing import mark_missing
from flared.upkeep.walk import BEYOND, Walk, find_horizon

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from flared.chunks.nodes import PieceNode
    from flared.objects.store import Store
    from flared.upkeep.membership.membership import Membership
    from flared.upkeep.repair.heal import Heal

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
CHECK_SECONDS = 15.0
"""After a restore: how often heal is asked whether it lacks more than before."""
LOOKS_APART = 9.0
"""After a restore: at most a tenth of the time goes to looks for moved copies."""


@dataclass(frozen=True, slots=True)
class ReconcileStatistics:
    looks: int
    missing: int
    orphans: int
    suspects: int
    """Orphans seen once, waiting for the second look."""
    adopted: int
    """Missing pieces that were found on another node."""
    held: int
    """Orphans that are held back, because a node has too many at once."""
    obstacles: tuple[str, ...]
    """Why no orphan is deleted on any node now."""


class Reconcile:
    """A Worker."""

    name = "reconcile"

    def __init__(self, store: Store, heal: Heal) -> None:
        self._store = store
        self._heal = heal
        self._due: dict[NodeName, float] = {}
        self._candidates: dict[tuple[NodeName, PieceName], float] = {}
        self._clock = SteadyClock(store)
        self.rules = DeletionRules()
        """Reasons to keep orphans; others add theirs."""
        self.rules.add(self._explain_restored)
        self.rules.add(self._explain_unchecked)
        self.brake = Brake(store)
        self._loaded = False
        self._kept_until_ms: int | None = None
        self._looked_for: dict[NodeName, int] = {}
        """How many pieces had been noted as missing when the last look at the node began."""
        self._rested: dict[NodeName, float] = {}
        self._membership: Membership | None = None
        self._woken = trio.Event()
        self._looks = self._missing = self._orphans = self._adopted = 0

    def follow(self, membership: Membership) -> None:
        """Say there which nodes that came back with less than they had have been compared."""
        self._membership = membership

    def node_changed(self, node: NodeName, state: NodeState) -> None:
        """For ``Membership.subscribe``: at a node's first heartbeat, its return, and its restart."""
        if state in (NodeState.ONLINE, NodeState.FULL):
            soon = trio.current_time() + SETTLE_SECONDS
            self._due[node] = min(self._due.get(node, soon), soon)
            self._woken.set()

    async def step(self) -> bool:
        """Compare every node that is due. A node whose inventory breaks off is due again after a grace."""
        # What was held back before a restart is known before anything is admitted.
        if not self._loaded:
            await self.brake.load()
            self._loaded = True
        now = trio.current_time()
        if await self._keeps_orphans():
            self._look_for_moved()
        for node in [node for node, due in self._due.items() if due <= now]:
            if not self._store.chunks.nodes.is_online(node):
                del self._due[node]
                self._rested.pop(node, None)
                self._forget(node, keep=frozenset())  # it may never return, and others need the room
                continue
            # Due again before it begins: a change of its state meanwhile may bring that forward.
            self._due[node] = now + INTERVAL_SECONDS
            try:
                await self._look(node)
            except NodeOutdated as error:
                log.warning("event=orphans_kept node=%s message=%r; it must be upgraded first", node, str(error))
                self._due[node] = now + INTERVAL_SECONDS  # and when it starts again, with another version
            except FlareError as error:
                log.info("event=reconcile_broken_off node=%s error=%s message=%r", node, error.code, str(error))
                self._due[node] = now + self._grace()
            ended = trio.current_time()
            self._rested[node] = ended + max(CHECK_SECONDS, LOOKS_APART * (ended - now))
            now = ended
        return False

    async def wait(self) -> None:
        now = trio.current_time()
        soonest = min(self._due.values(), default=now + INTERVAL_SECONDS)
        if await self._keeps_orphans():
            soonest = min(soonest, now + CHECK_SECONDS)
        with trio.move_on_after(max(0.01, soonest - now)):
            await self._woken.wait()
        self._woken = trio.Event()

    def statistics(self) -> ReconcileStatistics:
        held = sum(record.held for record in self.brake.held().values())
        obstacles = tuple(self.rules.obstacles(-math.inf))
        suspects = len(self._candidates)
        return ReconcileStatistics(self._looks, self._missing, self._orphans, suspects, self._adopted, held, obstacles)

    async def allow(self, node: NodeName, pieces: int) -> None:
        """An operator lets so many held orphans of the node be deleted: at its next inventory, which begins at once."""
        await self.brake.allow(node, pieces)
        self._due[node] = trio.current_time()
        self._woken.set()

    def _grace(self) -> float:
        return max(1.0, self._store.garbage_grace_seconds)

    async def _look(self, node: NodeName) -> None:
        """Walk inventory and records side by side; both are in the order of chunk ids."""
        started = trio.current_time()
        # What is noted before the first page counts: marks and instances that come later are for the next look.
        self._looked_for[node] = self._store.missing_marks.count
        missing_before, orphans_before, adopted_before = self._missing, self._orphans, self._adopted
        unchecked = self._membership.unchecked_instance(node) if self._membership else ""
        keeps = await self._keeps_orphans()
        if keeps:
            log.info("event=orphans_kept node=%s until_ms=%d", node, self._kept_until_ms)
        # What lacks is noted before anything is deleted, so that a crash in between loses no copy.
        confirmed, found = await self._find_orphans(node, keeps)
        await self._find_missing(node)
        if self._membership:
            await self._membership.settle_unchecked(node, unchecked)
        # A stray goes by another rule: the node that should have the piece must say that it has.
        admitted = await self.brake.admits(node, found, self._now_ms())
        await self._delete(node, confirmed, admitted=admitted)
        self._looks += 1
        waiting = [first for (where, _), first in self._candidates.items() if where == node]
        if waiting:
            # Those that are kept after their second look wait for what changes that, not for their time.
            ended, soonest = trio.current_time(), min(waiting) + self._grace() + 0.1
            self._due[node] = min(self._due[node], soonest if soonest > ended else ended + self._grace())
        before = missing_before, orphans_before, adopted_before
        if (self._missing, self._orphans, self._adopted) != before or waiting:
            log.info(
                "event=reconciled node=%s missing=%d orphans=%d suspects=%d adopted=%d seconds=%.1f",
                node, self._missing - missing_before, self._orphans - orphans_before, len(waiting),
                self._adopted - adopted_before, trio.current_time() - started,
            )  # fmt: skip

    def _now_ms(self) -> int:
        """For what is counted by the hour: a clock that jumps forward does not empty the count."""
        return self._clock.steady_ms() or now_ms(self._store)

    def _explain_unchecked(self, first_look: float) -> str:
        """A row that is there and not found, because the index is damaged, makes its pieces look like orphans."""
        if self._store.kv.checked_since(first_look):
            return ""
        return "the metadata was not checked from end to end, or not found sound, since the first look"

    def _explain_restored(self, first_look: float) -> str:
        if self._kept_until_ms is None:
            return "it is not known yet whether the metadata came from a backup"
        if self._clock.steady_ms() < self._kept_until_ms:
            return "the metadata came from a backup: for seven days after a restore no orphan is deleted"
        return ""

    async def _keeps_orphans(self) -> bool:
        """Records that came from a backup know nothing of what was written since: for a while nothing is an orphan."""
        self._kept_until_ms = await orphans_kept_until(self._store.kv)  # it may have been accepted as old just now
        return self._clock.steady_ms() < self._kept_until_ms

    def _look_for_moved(self) -> None:
        """What heal lacks may have been moved since the backup, to a node that was looked at before it was missed.

        It goes by pieces, not by chunks: a chunk that lacked one copy and then lacks another is to be looked for again.
        """
        if not self._heal.statistics().backlog:
            return
        for node in self._store.chunks.nodes.names():
            if self._looked_for.get(node, -1) < self._store.missing_marks.count:
                soon = max(trio.current_time(), self._rested.get(node, 0.0))
                self._due[node] = min(self._due.get(node, soon), soon)

    async def _find_orphans(self, node: NodeName, keeps: bool) -> tuple[list[PieceName], Found]:
        """Orphans of this look that were orphans a grace ago too; the others are remembered. None, if it ``keeps``
        them. What is missing elsewhere is adopted."""
        store = self._remote(node)
        seen: set[PieceName] = set()
        confirmed: list[PieceName] = []
        pieces = orphans = size = without_record = 0
        sample: list[str] = []

        async def holds_from(name: str) -> bool:
            found, _ = await store.list_working(name, 1)
            return bool(found) and found[0][0] < BEYOND

        # Without an end the walk would never catch up with clients that put faster than it reads.
        horizon = await find_horizon(self._store, holds_from)
        after = ""
        while True:
            started = trio.current_time()
            # Of a node with a failed volume too: the others may have what was moved there since the backup.
            page, _ = await store.list_working(after, PAGE)
            now = trio.current_time()
            pieces += len(page)
            sizes = dict(page)
            for piece, record in await self._unrecorded(node, list(sizes)):
                chunk, number = piece_parts(piece)
                if record is not None and number in record.missing:
                    # Even while heal has this chunk in hand: the next look may be a day away.
                    self._adopted += await adopt(self._store, chunk, number, node)
                    continue
                if keeps or self._store.chunks.in_flight.is_claimed(chunk):
                    continue
                # The brake counts all orphans; only those seen a grace ago, with no rule against it, may go.
                if record is None:
                    orphans, size = orphans + 1, size + sizes[piece]
                    sample += [piece] if len(sample) < SAMPLE_MAX else []
                seen.add(piece)
                first = self._candidates.get((node, piece))
                if first is not None and now - first >= self._grace() and not self.rules.obstacles(first):
                    without_record += record is None
                    confirmed.append(piece)
                elif first is None and len(self._candidates) < ORPHANS_MAX:
                    self._candidates[node, piece] = now
            if len(page) < PAGE or page[-1][0] >= horizon:  # what is put meanwhile is for the next look
                break
            after = page[-1][0]
            await trio.sleep(REST * (trio.current_time() - started))
        self._forget(node, keep=seen)
        return confirmed, Found(pieces, orphans, size, tuple(sample), without_record)

    def _forget(self, node: NodeName, *, keep: AbstractSet[PieceName]) -> None:
        """Orphans of the node that were seen once, but for these."""
        for key in [key for key in self._candidates if key[0] == node and key[1] not in keep]:
            del self._candidates[key]

    async def _unrecorded(self, node: NodeName, names: list[str]) -> list[tuple[PieceName, ChunkRecord | None]]:
        """Those of the names that no record wants on this node. With the records of their chunks, which want them
        elsewhere. A put or a repair of ours may be writing some of them."""
        parts: list[tuple[PieceName, ChunkId, int]] = []
        for name in names:
            try:
                parts.append((PieceName(name), *piece_parts(PieceName(name))))
            except BadName:
                log.warning("event=strange_piece node=%s piece=%r", node, name)
        try:
            records = await find_many(self._store.kv, [chunk for _, chunk, _ in parts])
        except ManifestCorrupt as error:
            if len(names) > 1:  # the others are looked at nevertheless
                return [found for name in names for found in await self._unrecorded(node, [name])]
            log.error("event=record_unreadable piece=%s message=%r", names[0], str(error))
            return []
        return [
            (piece, record)
            for (piece, _, number), record in zip(parts, records, strict=True)
            if not _names(record, number, node)
        ]

    async def _find_missing(self, node: NodeName) -> None:
        """Records are read first, so a piece that one names was durable before the inventory was taken."""
        store = self._remote(node)
        walk = Walk()
        while not walk.ended:
            started = trio.current_time()
            page = await walk.read_page(self._store)
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
                        self._missing += await mark_missing(self._store, wanted[piece], piece_parts(piece)[1])
            walk.move_on(page)
            if not walk.ended:
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

    async def _delete(self, node: NodeName, confirmed: list[PieceName], *, admitted: bool) -> None:
        """Ask the records once more, right before: nothing recorded is ever deleted here. Only strays unless
        ``admitted``."""
        for start in range(0, len(confirmed), PAGE):
            await self._keeps_orphans()  # the metadata may have been accepted as old since the look began
            found = await self._unrecorded(node, list(confirmed[start : start + PAGE]))
            in_flight = self._store.chunks.in_flight
            orphans: list[PieceName] = []
            found = [
                (name, record)
                for name, record in found
                if (admitted or record is not None)
                and not in_flight.is_claimed(piece_parts(name)[0])
                and not self.rules.obstacles(self._candidates.get((node, name), math.inf))
            ]
            # No repair may choose this node for one of these chunks while the delete is on its way.
            chunks = {piece_parts(name)[0] for name, _ in found}
            for chunk in chunks:
                in_flight.claim(chunk)
            try:
                # Counted durably before the node is asked: a crash in between counts too many, never too few.
                orphans = [name for name, record in found if record is None]
                strays = [
                    name
                    for name, record in found
                    if record is not None and await may_go(self._store, record, piece_parts(name)[1])
                ]
                self._store.chunks.nodes.refuse_deletes(repair=False)
                await self.brake.count(node, len(orphans), self._now_ms())
                errors = await self._remote(node).quarantine([*orphans, *strays])
            except NodeOutdated:
                await self.brake.count(node, -len(orphans), self._now_ms())  # it has done nothing, for certain
                raise
            finally:
                for chunk in chunks:
                    in_flight.release(chunk)
            for name, error in zip([*orphans, *strays], errors, strict=True):
                if error is None:
                    self._orphans += 1
                    self._candidates.pop((node, name), None)
            refused = sum(error is not None for error in errors[: len(orphans)])
            await self.brake.count(node, -refused, self._now_ms())  # else each attempt would count

    def _remote(self, node: NodeName) -> PieceNode:
        store = self._store.chunks.nodes.store(node)
        if store is None:
            raise NodeUnreachable(node, "it is not known")
        return store


def _names(record: ChunkRecord | None, number: int, node: NodeName) -> bool:
    """Return whether the record places this piece on this node, missing or not: then it is heal's business."""
    return record is not None and number < len(record.nodes) and record.nodes[number] == node


def _places(record: ChunkRecord | None, number: int, node: NodeName) -> bool:
    """Return whether the record says that this piece is on this node now."""
    return record is not None and _names(record, number, node) and number not in record.missing
