"""FanOut: one chunk on its way to its nodes, in pieces; the only way by which pieces go out.

A scheme says what they carry: equal copies, or shards that differ. A node that fails is replaced by the ring's next
one. The fan is **decided** when every piece was answered for, or when the quorum is durable and the stragglers have had
their time, or when the quorum is out of reach; what is answered later changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import trio

from flared.chunks.chunk import ChunkRecord, placed_pieces
from flared.chunks.delays import STRAGGLER_SECONDS
from flared.cluster.quorum import COMPLETE, QUORUM, WAITING, Tally
from flared.data.pieces import LARGE_SIZE
from flared.errors import FlareError, NoPlacement, QuorumNotReached, VolumeFull, drop_tracebacks
from flared.names import chunk_digest_hex

if TYPE_CHECKING:
    from flared.chunks.chunk import Chunks
    from flared.chunks.scheme import Scheme
    from flared.data.pieces import Piece
    from flared.names import ChunkId, NodeName

Payload = bytes | memoryview
Outgoing = Sequence[tuple["Piece", Payload]]
"""The payloads to send, by piece number."""


class FanOut:
    """Made with its nodes chosen; then ``send`` (in a task), or ``start`` (small pieces, in turns)."""

    __slots__ = (
        "_chunks",
        "_codec",
        "_decided",
        "_digest",
        "_full",
        "_outgoing",
        "_request",
        "_scheme",
        "_size",
        "_spares",
        "_stored",
        "complete",
        "id",
        "nodes",
        "tally",
    )

    def __init__(
        self,
        chunks: Chunks,
        chunk: ChunkId,
        outgoing: Outgoing,
        scheme: Scheme,
        *,
        codec: int,
        size: int,
        stored: int,
        request: int | str,
    ) -> None:
        """Claim the chunk, whose id is fresh, in ``chunks.in_flight`` until ``abandon``, or until its caller has
        recorded it.

        Raises NoPlacement or VolumeFull if the quorum cannot be reached from the start; then nothing has happened.
        ``request`` is what the nodes' logs will name.
        """
        self._chunks = chunks
        self.id = chunk
        self._digest = chunk_digest_hex(chunk)
        self._outgoing = outgoing
        self._scheme = scheme.text
        self._codec = codec
        self._size = size
        self._stored = stored
        self._request = request
        self._full = 0
        self._spares: list[NodeName] | None = None
        self._decided: Callable[[], None] | None = None
        self.tally = Tally(scheme.pieces, scheme.quorum)
        self.complete = False
        """No answer that comes after it counts."""
        targets = chunks.nodes.choose(self._digest, scheme.pieces)
        if len(targets) < scheme.quorum:
            _refuse(chunks, self._digest, scheme)
        self.nodes: list[NodeName | None] = [*targets]
        if len(targets) < scheme.pieces:
            self._note_absent(scheme.pieces)
        chunks.in_flight.claim(chunk)

    def finish(self) -> ChunkRecord:
        """Return what was stored, once it is decided. Raise QuorumNotReached, or VolumeFull if that is why; the pieces
        that were sent are handed to the sweep."""
        tally = self.tally
        if not tally.won:
            self.abandon()
            if self._full and self._full >= len(tally.failed):
                raise VolumeFull("no data node has room left for this")
            raise QuorumNotReached(wanted=tally.quorum, got=len(tally.stored), failures=tally.failures)
        missing = () if len(tally.stored) == tally.wanted else tuple(tally.missing)
        nodes = tuple(self.nodes)
        return ChunkRecord(self.id, self._size, self._stored, self._codec, self._scheme, 1, nodes, missing)

    def abandon(self) -> None:
        """Give it up: what a node holds of it, or will hold, is for the sweep. A later failure takes no spare node,
        which no record would name."""
        self.complete = True
        self._decided = None
        self._chunks.in_flight.abandon(self.id, placed_pieces(self.nodes), trio.current_time())

    # Small pieces, in turns

    def start(self, decided: Callable[[], None]) -> None:
        """Queue small pieces at their nodes. ``decided`` is called once, in a turn; or before this returns, if nothing
        could be queued. Payloads must stay as they are until every node has answered, also after that."""
        self._decided = decided
        for number in range(self.tally.wanted - len(self.tally.failed)):
            self._queue(number)

    def give_up_stragglers(self) -> None:
        """Count unanswered pieces as missing, so that heal repairs them."""
        if not self.complete:
            self.complete = True
            decided, self._decided = self._decided, None
            if decided is not None:
                decided()

    def _queue(self, number: int) -> None:
        node = self.nodes[number]
        store = self._chunks.nodes.store(node) if node else None
        if store is None:
            self._answered(number, NoPlacement(f"node {node} has gone"))
            return
        piece, payload = self._outgoing[number]
        store.put_nowait(piece, payload, partial(self._answered, number), self._request)

    def _answered(self, number: int, error: FlareError | None) -> None:
        # After the put was answered a straggler may still end well; heal finds its piece already there.
        if self.complete:
            return None
        if error is None:
            progress = self.tally.store(number)
        elif self._take_spare(number, error):
            return self._queue(number)
        else:
            progress = self._fail(number, error)
        if progress == QUORUM:
            self._chunks.stragglers.add(self.give_up_stragglers)
        elif progress == COMPLETE:
            self.complete = True
            decided, self._decided = self._decided, None
            if decided is not None:
                decided()
        return None

    # In a task

    async def send(self) -> None:
        """Send the pieces, and return once it is decided. From then on, or when it is cancelled, what the payloads are
        views of is read no more."""
        if self._outgoing[0][0].size < LARGE_SIZE:
            self._outgoing = [(piece, bytes(payload)) for piece, payload in self._outgoing]
            decided = trio.Event()
            self.start(decided.set)
            await decided.wait()
            return
        try:
            await self._send_large()
        finally:
            self._outgoing = ()  # what an error still refers to must not keep the payloads

    async def _send_large(self) -> None:
        started = trio.current_time()
        enough, all_answered = trio.Event(), trio.Event()
        async with trio.open_nursery() as nursery:
            for number in range(self.tally.wanted - len(self.tally.failed)):
                nursery.start_soon(self._send_one, number, enough, all_answered)
            await enough.wait()
            with trio.move_on_after(max(STRAGGLER_SECONDS, trio.current_time() - started)):
                await all_answered.wait()
            self.complete = True
            nursery.cancel_scope.cancel()

    async def _send_one(self, number: int, enough: trio.Event, all_answered: trio.Event) -> None:
        """Send one piece, to one node after the other until one takes it or there is none left."""
        error: FlareError | None = None
        while True:
            node = self.nodes[number]
            store = self._chunks.nodes.store(node) if node else None
            try:
                if store is None:
                    raise NoPlacement(f"node {node} has gone")
                piece, payload = self._outgoing[number]
                await store.put(piece, payload)
                error = None
            except FlareError as refusal:
                drop_tracebacks(refusal)  # its frames hold the payload, and this one would hold it
                error = refusal
            if error is None or not self._take_spare(number, error):
                break
        progress = self.tally.store(number) if error is None else self._fail(number, error)
        if progress != WAITING:
            enough.set()
        if progress == COMPLETE:
            self.complete = True
            all_answered.set()

    # Both

    def _fail(self, number: int, error: FlareError) -> int:
        """Count a piece that no node took, as the tally does."""
        self._full += isinstance(error, VolumeFull)
        return self.tally.fail(number, str(error))

    def _note_absent(self, pieces: int) -> None:
        """Pieces that no node can take now belong to the next nodes of the ring, and are missing there."""
        absent = [node for node in self._chunks.nodes.order(self._digest) if node not in self.nodes]
        for number in range(len(self.nodes), pieces):
            self.nodes.append(absent.pop(0) if absent else None)
            self.tally.fail(number, "no node could take it")

    def _take_spare(self, number: int, error: FlareError) -> bool:
        """Give piece ``number`` the next node of the ring that holds none of this chunk; False if there is none."""
        if self._spares is None:
            taken = [node for node in self.nodes if node]
            self._spares = self._chunks.nodes.choose(self._digest, len(self._chunks.nodes.names()), taken=taken)
        if not self._spares:
            return False
        self._full += isinstance(error, VolumeFull)
        self.nodes[number] = self._spares.pop(0)
        return True


def _refuse(chunks: Chunks, digest_hex: str, scheme: Scheme) -> None:
    order: Sequence[NodeName] = chunks.nodes.order(digest_hex)
    chunks.nodes.refuse_while_halted()
    states = ", ".join(f"{node} is {_state(chunks, node)}" for node in order) or "no data node is known yet"
    usable = sum(map(chunks.nodes.takes_pieces, order))
    answering = sum(chunks.nodes.is_online(node) and chunks.nodes.is_compared(node) for node in order)
    if usable < scheme.quorum <= answering:
        raise VolumeFull(f"{scheme.text} needs {scheme.quorum} nodes with room: {states}")
    raise NoPlacement(f"{scheme.text} needs {scheme.quorum} reachable nodes, {usable} can be used: {states}")


def _state(chunks: Chunks, node: NodeName) -> str:
    """In words, and why a node that is here takes nothing yet."""
    new = "" if chunks.nodes.is_compared(node) else " and has not said yet how new the metadata was that it has seen"
    return f"{chunks.nodes.state(node).value}{new}"
