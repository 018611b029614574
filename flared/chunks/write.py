"""Write one chunk: encode, place, send its pieces, count to the quorum.

The order is: pieces durable, then (by the caller) the record. A crash in between leaves pieces that no record
names; ``upkeep.reconcile`` collects them.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import trio

from flared.chunks.chunk import Chunk, Chunks
from flared.chunks.codec import encode
from flared.cluster.quorum import Tally
from flared.data.pieces import LARGE_SIZE, Piece, describe_piece
from flared.errors import FlareError, NoPlacement, QuorumNotReached, VolumeFull
from flared.names import ChunkId, NodeName, chunk_id, piece_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flared.chunks.scheme import Scheme

STRAGGLER_SECONDS = 0.05
"""How long a put waits for the remaining pieces once the quorum is durable. A large piece gets as long again as the
quorum took, if that is more: on slow disks 50 ms would leave every large put degraded."""


async def write_chunk(
    chunks: Chunks, plain: bytes | memoryview, digest: bytes, *, scheme: Scheme, compress: bool
) -> Chunk:
    """Store ``plain`` (whose SHA-256 is ``digest``) under a fresh generation.

    Returns when at least the scheme's write quorum of pieces is durable. Raises QuorumNotReached, NoPlacement, or
    VolumeFull if that is why; then, and when cancelled, the pieces that were sent are handed to the sweep.
    The caller ends the write in ``chunks.in_flight``: settled when it recorded the chunk, abandoned if not.
    """
    chunk = chunk_id(digest, chunks.random_bits(64))
    if len(plain) < LARGE_SIZE:
        # A straggler keeps its payload queued after the put has returned and its buffer serves another.
        piece, payload = _encode(bytes(plain), chunk, scheme, compress)
    else:
        piece, payload = await chunks.threads.run(_encode, plain, chunk, scheme, compress)
    fan = _FanOut(chunks, chunk, piece, payload, scheme)
    chunks.in_flight.begin_write(chunk)
    try:
        await (fan.send_small() if piece.size < LARGE_SIZE else fan.send_large())
    except BaseException:
        fan.complete = True  # what still fails takes no spare node now, of which nobody would be told
        chunks.in_flight.abandon_write(chunk, placed_pieces(fan.nodes), trio.current_time())
        raise
    return Chunk(chunk, len(plain), piece.size, piece.codec, scheme.text, tuple(fan.nodes), tuple(fan.tally.missing))


def placed_pieces(nodes: Sequence[NodeName | None]) -> tuple[tuple[int, NodeName], ...]:
    """(piece number, node) of every piece that a node may hold."""
    return tuple((number, node) for number, node in enumerate(nodes) if node is not None)


async def write_piece(chunks: Chunks, node: NodeName, piece: Piece, payload: bytes | memoryview) -> None:
    """Store one piece on one node, as heal does; raises what the node answered."""
    store = chunks.nodes.store(node)
    if store is None:
        raise NoPlacement(f"node {node} is not known")
    if piece.size >= LARGE_SIZE:
        await store.put(piece, [memoryview(payload)])
        return
    waiting = _Single()
    store.put_nowait(piece, payload, waiting.done)
    await waiting.settled.wait()
    if waiting.error is not None:
        raise waiting.error


class _Single:
    def __init__(self) -> None:
        self.settled = trio.Event()
        self.error: FlareError | None = None

    def done(self, error: FlareError | None) -> None:
        self.error = error
        self.settled.set()


def _encode(
    plain: bytes | memoryview, chunk: ChunkId, scheme: Scheme, compress: bool
) -> tuple[Piece, bytes | memoryview]:
    codec, stored = encode(plain, compress=compress)
    return describe_piece(piece_name(chunk, 0), stored, codec=codec, scheme=scheme.text, plain_size=len(plain)), stored


class _FanOut:
    """The pieces of one chunk on their way to their nodes, each with the ring's next node as its spare."""

    __slots__ = ("_chunk", "_chunks", "_full", "_payload", "_piece", "_spares", "_task", "complete", "nodes", "tally")

    def __init__(
        self, chunks: Chunks, chunk: ChunkId, piece: Piece, payload: bytes | memoryview, scheme: Scheme
    ) -> None:
        self._chunks = chunks
        self._chunk = chunk
        self._piece = piece
        self._payload = payload
        self._full = 0
        self._spares: list[NodeName] | None = None
        self._task: trio.lowlevel.Task | None = None
        self.tally = Tally(scheme.pieces, scheme.quorum)
        self.complete = False
        """No answer that comes after it counts."""
        targets = chunks.nodes.choose(chunk, scheme.pieces)
        if len(targets) < scheme.quorum:
            _refuse(chunks, chunk, scheme)
        self.nodes: list[NodeName | None] = [*targets]
        if len(targets) < scheme.pieces:
            self._note_absent(scheme.pieces)

    def _note_absent(self, pieces: int) -> None:
        """Pieces that no node can take now belong to the next nodes of the ring, and are missing there."""
        absent = [node for node in self._chunks.nodes.order(self._chunk) if node not in self.nodes]
        for number in range(len(self.nodes), pieces):
            self.nodes.append(absent.pop(0) if absent else None)
            self.tally.fail(number, "no node could take it")

    async def send_small(self) -> None:
        for number in range(self.tally.wanted - len(self.tally.failed)):
            self._queue(number)
        if not self._decided:
            await self._park()
        if not self.complete:
            with trio.move_on_after(STRAGGLER_SECONDS):
                await self._park()
            self.complete = True
        if not self.tally.won:
            self._raise()

    def _queue(self, number: int) -> None:
        node = self.nodes[number]
        store = self._chunks.nodes.store(node) if node else None
        if store is None:
            self._done(number, NoPlacement(f"node {node} has gone"))
            return
        store.put_nowait(self._numbered(number), self._payload, partial(self._done_small, number))

    def _done_small(self, number: int, error: FlareError | None) -> None:
        # After the put was answered a straggler may still end well; heal finds its piece already there.
        if error is not None and not self.complete and self._take_spare(number):
            self._full += isinstance(error, VolumeFull)
            self._queue(number)
            return
        self._done(number, error)

    async def send_large(self) -> None:
        started = trio.current_time()
        async with trio.open_nursery() as nursery:
            for number in range(self.tally.wanted - len(self.tally.failed)):
                nursery.start_soon(self._send_one, number)
            if not self._decided:
                await self._park()
            if not self.complete:
                with trio.move_on_after(max(STRAGGLER_SECONDS, trio.current_time() - started)):
                    await self._park()
                self.complete = True
            nursery.cancel_scope.cancel()
        if not self.tally.won:
            self._raise()

    async def _send_one(self, number: int) -> None:
        while True:
            node = self.nodes[number]
            store = self._chunks.nodes.store(node) if node else None
            error: FlareError | None = None
            try:
                if store is None:
                    raise NoPlacement(f"node {node} has gone")
                await store.put(self._numbered(number), [memoryview(self._payload)])
            except FlareError as refusal:
                error = refusal
                if self._take_spare(number):
                    self._full += isinstance(refusal, VolumeFull)
                    continue
            self._done(number, error)
            return

    @property
    def _decided(self) -> bool:
        return self.complete or self.tally.won

    async def _park(self) -> None:
        """Until the quorum is there, or the last answer."""
        self._task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._abort)

    def _abort(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED

    def _done(self, number: int, error: FlareError | None) -> None:
        if self.complete:
            return
        tally = self.tally
        was_won = tally.won
        if error is None:
            tally.store(number)
        else:
            self._full += isinstance(error, VolumeFull)
            tally.fail(number, str(error))
        self.complete = tally.complete
        if self._task is not None and (self.complete or (tally.won and not was_won)):
            task, self._task = self._task, None
            trio.lowlevel.reschedule(task)

    def _raise(self) -> None:
        if self._full and self._full >= len(self.tally.failed):
            raise VolumeFull("no data node has room left for this")
        raise QuorumNotReached(wanted=self.tally.quorum, got=len(self.tally.stored), failures=self.tally.failures)

    def _numbered(self, number: int) -> Piece:
        return self._piece if number == 0 else replace(self._piece, name=piece_name(self._chunk, number))

    def _take_spare(self, number: int) -> bool:
        """Give piece ``number`` the next node of the ring that holds none of this chunk; False if there is none."""
        if self._spares is None:
            taken = [node for node in self.nodes if node]
            self._spares = self._chunks.nodes.choose(self._chunk, len(self._chunks.nodes.names()), taken=taken)
        if not self._spares:
            return False
        self.nodes[number] = self._spares.pop(0)
        return True


def _refuse(chunks: Chunks, chunk: ChunkId, scheme: Scheme) -> None:
    order: Sequence[NodeName] = chunks.nodes.order(chunk)
    states = ", ".join(f"{node} is {chunks.nodes.state(node).value}" for node in order) or "no data node is known yet"
    usable = sum(map(chunks.nodes.takes_pieces, order))
    answering = sum(map(chunks.nodes.is_online, order))
    if usable < scheme.quorum <= answering:
        raise VolumeFull(f"{scheme.text} needs {scheme.quorum} nodes with room: {states}")
    raise NoPlacement(f"{scheme.text} needs {scheme.quorum} reachable nodes, {usable} can be used: {states}")
