"""Heal: take what is known to be damaged or missing, read a good copy, write the lacking pieces, record them.

Damage is recorded first (``missing`` in the chunk record), so that a restart forgets nothing; then every chunk with
missing pieces is repaired, as far as nodes can take them. The order of a repair is: the piece durable on its node,
then the record. A crash in between leaves a piece that is written again, or collected by ``reconcile``.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import trio

from flared.catalog.chunks import ChunkRecord, find_chunk, list_repairs, read_chunk, update_placement
from flared.catalog.garbage import condemn_pieces
from flared.chunks.gatherer import read_stored, verify_piece
from flared.chunks.scheme import parse_scheme
from flared.chunks.write import make_pieces
from flared.data.pieces import LARGE_SIZE, Piece
from flared.errors import (
    ChunkLost,
    Damaged,
    FlareError,
    ManifestCorrupt,
    NodeUnreachable,
    NoSuchPiece,
    PieceCorrupt,
    Unavailable,
)
from flared.names import ChunkId, NodeName, PieceName, chunk_digest_hex
from flared.objects.store import Store, now_ms
from flared.upkeep.repair.damage_log import DamageLog
from flared.upkeep.repair.missing import mark_missing
from flared.upkeep.walk import find_horizon

if TYPE_CHECKING:
    from flared.chunks.damage import DamageList
    from flared.meta.kv import Transaction

log = logging.getLogger(__name__)

BATCH = 64
PARALLEL = 8
"""Repairs under way at once: enough to fill a link with small pieces, few enough to leave the loop to clients."""
DENIED_MAX = 10_000
RETRY_SECONDS = 15.0
"""A chunk that could not be repaired is tried again this much later, or when a node comes back."""


@dataclass(frozen=True, slots=True)
class HealStatistics:
    backlog: int
    """Chunks known to lack pieces: what the last pass left, and while one is under way at least what it has in hand."""
    repaired: int
    """Pieces written since the start."""
    lost: int
    """Chunks of which the last pass found no good piece."""
    passes: int
    """Through everything that is recorded as lacking; before the first one the backlog is not known."""
    backlog_seconds: float
    """How long there has been a backlog without a break, as passes saw it."""
    unplaced: int = 0
    """Of the backlog of the last pass, chunks for which there was no data node to put a lacking piece on."""
    unplaced_scheme: str = ""
    """The scheme of these that wants the most data nodes."""

    def caught_up_since(self, passes: int) -> bool:
        """Return whether nothing waits of what was recorded as missing when so many passes were through.

        The pass under way at that time may have been beyond it already, so it is the one after it that counts.
        """
        return not self.backlog and self.passes > passes + 1


class Heal:
    """A Worker."""

    name = "heal"

    def __init__(self, store: Store) -> None:
        self._store = store
        self._damage: DamageList = store.chunks.damage
        self._woken = trio.Event()
        self._cursor: ChunkId | None = None
        self._horizon = ""
        """Where the pass ends: puts that lack pieces may come faster than heal looks at them. Empty on its first page.
        """
        self._denied: dict[tuple[ChunkId, int, NodeName], FlareError] = {}
        """Answers of nodes to readers, for the next repair of these chunks, which does not repeat the requests."""
        self._repaired = 0
        self._backlog = 0
        self._in_hand = 0
        """Chunks of the page that is being repaired."""
        self._pass_left = 0
        self._pass_lost = 0
        self._pass_unplaced: list[str] = []
        """The schemes of the chunks that found no node, in the pass under way."""
        self._unplaced: list[str] = []
        self.damage_log = DamageLog(store)
        self._lost = 0
        self._passes = 0
        self._backlog_since: float | None = None

    def wake(self) -> None:
        """Note that there may be something to repair, or a new node to put it on."""
        self._woken.set()

    async def step(self) -> bool:
        # Damage is recorded before it is repaired: a restart in between forgets nothing.
        await self.damage_log.load()
        recorded = await self._record_damage()
        chunks = await list_repairs(self._store.kv, self._cursor, BATCH, self._horizon)
        self._in_hand = len(chunks)
        lacking = await self._repair_all(chunks)
        self._pass_left, self._in_hand = self._pass_left + lacking, 0
        if self._pass_left:
            self._note_backlog()
        # A full page has more behind it; else the pass is over, and what it counted becomes what is reported.
        if len(chunks) == BATCH:
            self._cursor = chunks[-1]
            self._horizon = self._horizon or await find_horizon(self._store, self._lacks_from)
            return True
        self._backlog, self._pass_left = self._pass_left, 0
        self._lost, self._pass_lost = self._pass_lost, 0
        self._unplaced, self._pass_unplaced = self._pass_unplaced, []
        self._passes += 1
        if not self._backlog:
            self._backlog_since = None
        self._cursor, self._horizon = None, ""
        return recorded == BATCH

    async def wait(self) -> None:
        if not self._woken.is_set():
            with trio.move_on_after(RETRY_SECONDS):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._wake_on_damage)
                    await self._woken.wait()
                    nursery.cancel_scope.cancel()
        self._woken = trio.Event()

    def statistics(self) -> HealStatistics:
        waiting = self._damage.statistics().waiting
        since = self._backlog_since
        lasted = 0.0 if since is None else trio.current_time() - since
        unplaced = self._unplaced if self._backlog else []
        return HealStatistics(
            self._backlog + waiting, self._repaired, self._lost, self._passes, round(lasted, 1),
            len(unplaced), max(unplaced, key=lambda text: parse_scheme(text).pieces, default=""),
        )  # fmt: skip

    async def _lacks_from(self, chunk: str) -> bool:
        """Return whether a chunk from here on in the order of ids lacks pieces."""
        return bool(await list_repairs(self._store.kv, ChunkId(chunk), 1))

    async def _wake_on_damage(self) -> None:
        await self._damage.wait()
        self._woken.set()

    async def _record_damage(self) -> int:
        """Write what readers and scrubs found into the chunk records. Return how many entries there were."""
        entries = self._damage.oldest(BATCH)
        for chunk, number, node in entries:
            try:
                record = await find_chunk(self._store.kv, chunk)
            except ManifestCorrupt as error:  # it must not keep repair from all behind it
                log.error("event=record_unreadable chunk=%s message=%r", chunk, str(error))
                record = None
            names_it = record is not None and number < len(record.nodes) and record.nodes[number] == node
            if record is not None and names_it and number not in record.missing:
                marked = await mark_missing(self._store, record, number)
                is_corrupt = self._damage.is_corrupt(chunk, number)
                if len(self._denied) < DENIED_MAX:
                    said = f"node {node} was asked just now"
                    denied = PieceCorrupt(said) if is_corrupt else NoSuchPiece(said)
                    self._denied[chunk, number, NodeName(node)] = denied
                if marked and is_corrupt:
                    await self.damage_log.found(chunk, number, NodeName(node))
            self._damage.settle(chunk, number)
        return len(entries)

    async def _repair_all(self, chunks: list[ChunkId]) -> int:
        """Repair these chunks. Return how many of them still lack pieces."""
        lacking = 0
        limit = trio.CapacityLimiter(PARALLEL)

        async def repair(chunk: ChunkId) -> None:
            nonlocal lacking
            async with limit:
                try:
                    whole = await self._repair(chunk)
                    lacking += not whole  # never across an await: the others count meanwhile
                except Unavailable as error:
                    lacking += 1
                    log.debug("event=repair_postponed chunk=%s message=%r", chunk, str(error))
                except Damaged as error:
                    lacking += 1
                    self._pass_lost += 1
                    log.error("event=chunk_lost chunk=%s message=%r", chunk, str(error))
                except FlareError as error:
                    lacking += 1
                    log.warning("event=repair_failed chunk=%s error=%s message=%r", chunk, error.code, str(error))

        async with trio.open_nursery() as nursery:
            for chunk in chunks:
                nursery.start_soon(repair, chunk)
        return lacking

    async def _repair(self, chunk: ChunkId) -> bool:
        """Write the missing pieces of one chunk where they can be. Return whether none is missing afterwards."""
        record = await find_chunk(self._store.kv, chunk)
        if record is None or not record.missing or not record.references:
            return True  # what is deleted only waits for its grace
        nodes = self._store.chunks.nodes
        in_flight = self._store.chunks.in_flight
        self._note_backlog()
        targets = choose_targets(self._store, record)
        answering = any(nodes.is_online(record.nodes[number]) for number in record.missing)
        if any(number not in targets and not nodes.is_online(record.nodes[number]) for number in record.missing):
            self._pass_unplaced.append(record.scheme)
        if not (targets or answering) or in_flight.is_claimed(chunk):
            return False
        in_flight.claim(chunk)
        try:
            found = await self._rewrite(record, targets)
            return await self._record(record, found) if found else False
        except ChunkLost:
            if await find_chunk(self._store.kv, chunk) == record:
                raise
            self.wake()  # a copy turned up elsewhere while the others were asked
            return False
        finally:
            in_flight.release(chunk)

    def _note_backlog(self) -> None:
        """Chunks lack pieces: until this pass ends the backlog must not be reported as empty."""
        self._backlog = max(self._backlog, self._pass_left + self._in_hand)
        if self._backlog_since is None:
            self._backlog_since = trio.current_time()

    async def _rewrite(self, record: ChunkRecord, targets: dict[int, NodeName]) -> dict[int, NodeName]:
        """Find missing pieces where they should be, or write them to their targets: (number, node) of those that are
        durable now."""
        chunks, scheme = self._store.chunks, parse_scheme(record.scheme)
        amount = scheme.gathered_size(record.stored) if record.stored >= LARGE_SIZE else 0
        beside = record.size if scheme.needed == 1 else record.size + amount + scheme.pieces * amount // scheme.needed
        with await chunks.budget.lease(amount, beside=beside) as lease:
            found, denied = await self._find_again(record, lease.view)
            targets = {number: node for number, node in targets.items() if number not in found}
            if not targets:
                return found
            try:
                gathered = await read_stored(chunks, record, lease.view, denied=denied)
            except ChunkLost:  # nothing is called lost because of an earlier answer
                gathered = await read_stored(chunks, record, lease.view)
            for source in gathered.sources:
                own = record.nodes[source]
                if own is not None and source in record.missing and chunks.nodes.is_online(own):
                    # The good piece in hand is one that was called missing; there may be no other. That of a node which
                    # is away stays missing: nothing would note it again when the node is gone for good.
                    found[source] = own
                    targets.pop(source, None)
            make = partial(make_pieces, codec=record.codec, plain_size=record.size)
            pieces = await chunks.threads.run(make, record.id, gathered.stored, scheme)
            # Each piece on its own node, else on a spare one; durable before the record names it.
            for number, node in targets.items():
                numbered, payload = pieces[number]
                spare = self._spare_for(record, {*targets.values(), *found.values()})
                for candidate in (node, *spare):
                    if await self._write(numbered, payload, candidate):
                        found[number] = candidate
                        break
        return found

    async def _find_again(
        self, record: ChunkRecord, buffer: memoryview
    ) -> tuple[dict[int, NodeName], dict[int, FlareError]]:
        """Missing pieces that are where they belong after all (of a node that was only silent, say), and why the
        others are not: their nodes are not asked again for this repair."""
        nodes = self._store.chunks.nodes
        found: dict[int, NodeName] = {}
        denied: dict[int, FlareError] = {}
        for number in record.missing:
            own = record.nodes[number]
            if own is None or not nodes.is_online(own):
                continue
            just_denied = self._denied.pop((record.id, number, own), None)
            if just_denied is not None:
                denied[number] = just_denied
                continue
            try:
                await verify_piece(self._store.chunks, record, number, buffer)
                found[number] = own
            except FlareError as error:
                denied[number] = error
        return found, denied

    def _spare_for(self, record: ChunkRecord, used: set[NodeName]) -> list[NodeName]:
        """A node to go to when a piece's own node refuses it."""
        taken = used | {node for node in record.nodes if node}
        return self._store.chunks.nodes.choose(chunk_digest_hex(record.id), 1, taken=taken)

    async def _write(self, piece: Piece, payload: bytes | memoryview, node: NodeName) -> bool:
        """Store the piece there, instead of what lies there under its name: a put alone would be answered that it
        is there already, even if that one is wrong."""
        chunks = self._store.chunks
        try:
            for error in await chunks.nodes.delete(node, [PieceName(piece.name)], repair=True):
                if error is not None:
                    raise error
            store = chunks.nodes.store(node)
            if store is None:
                raise NodeUnreachable(node, "it is not known")
            await store.put(piece, payload)
        except FlareError as error:
            log.info("event=repair_failed piece=%s node=%s message=%r", piece.name, node, str(error))
            return False
        return True

    async def _record(self, record: ChunkRecord, written: dict[int, NodeName]) -> bool:
        nodes = tuple(written.get(number, node) for number, node in enumerate(record.nodes))
        missing = tuple(number for number in record.missing if number not in written)
        new = record._replace(nodes=nodes, missing=missing)

        def decide(tx: Transaction) -> bool:
            if update_placement(tx, record.id, record, new):
                return True
            if read_chunk(tx, record.id) is None:
                # The chunk was condemned meanwhile: nothing else names what was just written.
                condemn_pieces(tx, record.id, tuple(written.items()), now_ms(self._store))
            return False

        placed = await self._store.kv.transact(decide)
        if placed:
            self._repaired += len(written)
            for number in written:
                self._damage.settle(record.id, number)
                await self.damage_log.mended(record.id, number)
        return placed and not missing


def choose_targets(store: Store, record: ChunkRecord) -> dict[int, NodeName]:
    """For each missing piece the node that can take it now: its own if it is back, else another without a piece."""
    nodes = store.chunks.nodes
    targets: dict[int, NodeName] = {}
    for number in record.missing:
        own = record.nodes[number]
        if own is not None and nodes.takes_pieces(own):
            targets[number] = own
    taken = {node for number, node in enumerate(record.nodes) if node and number not in record.missing}
    for number in record.missing:
        if number not in targets:
            found = nodes.choose(chunk_digest_hex(record.id), 1, taken=taken | set(targets.values()))
            if found:
                targets[number] = found[0]
    return targets
