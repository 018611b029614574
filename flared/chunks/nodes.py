"""Nodes: the data nodes as the chunk pipeline sees them: who is there, in which state, in which order to ask.

``upkeep.membership`` keeps it up to date; readers and writers only look.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from flared.cluster.placement import Policy, RoundRobin, choose
from flared.cluster.ring import Ring, RingNode
from flared.cluster.states import NodeState
from flared.errors import Busy, MetadataOlder, NodeUnreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractAsyncContextManager

    from flared.data.pieces import Piece, PieceStream, Span
    from flared.errors import FlareError
    from flared.names import NodeName, PieceName


class PieceNode(Protocol):
    """One data node to ask. ``data.transport.remote.Remote`` is one; it documents what each call promises.

    ``put`` and ``read`` take any size and wait in a task; their forms for turns take small pieces and call back.
    """

    async def put(self, piece: Piece, payload: bytes | memoryview) -> None: ...

    def put_nowait(
        self,
        piece: Piece,
        payload: bytes | memoryview,
        done: Callable[[FlareError | None], None],
        request: int | str | None = None,
    ) -> None: ...

    def read(self, name: PieceName, span: Span) -> AbstractAsyncContextManager[PieceStream]: ...

    def read_nowait(
        self,
        name: PieceName,
        heard: Callable[[tuple[Piece, bytes] | FlareError], None],
        request: int | str | None = None,
    ) -> object: ...

    async def head(self, name: PieceName) -> Piece: ...

    async def delete(self, names: Sequence[PieceName]) -> list[FlareError | None]: ...

    async def quarantine(self, names: Sequence[PieceName]) -> list[FlareError | None]: ...

    async def list_working(self, after: str, limit: int) -> tuple[list[tuple[str, int]], tuple[str, ...]]: ...

    async def list(self, after: str, limit: int) -> list[tuple[str, int]]: ...


class NodeNow(NamedTuple):
    """The facts about one data node; see the setters of ``Nodes``."""

    name: NodeName
    store: PieceNode
    state: NodeState
    failed: frozenset[str]
    searched: frozenset[str]
    unchecked: bool
    uncompared: bool


class NodesNow(NamedTuple):
    """The state of ``Nodes``."""

    halted: str
    ring: tuple[RingNode, ...]
    nodes: tuple[NodeNow, ...]


class Nodes:
    """Which data nodes there are, as this moment knows them; ``upkeep.membership`` tells it. In memory only."""

    def __init__(self, *, round_robin: bool = False) -> None:
        self._round_robin = round_robin
        self._stores: dict[NodeName, PieceNode] = {}
        self.store: Callable[[NodeName], PieceNode | None] = self._stores.get
        """The node of this name, if it is known."""
        self._states: dict[NodeName, NodeState] = {}
        self._failed: dict[NodeName, frozenset[str]] = {}
        self._searched: dict[NodeName, frozenset[str]] = {}
        self._unchecked: set[NodeName] = set()
        self._uncompared: set[NodeName] = set()
        self._halted = ""
        self._takers: frozenset[NodeName] = frozenset()
        """Those that take new pieces now: worked out when something changes, because every put asks."""
        self._online: frozenset[NodeName | None] = frozenset()
        """Those that answer, likewise: every read asks."""
        self._ring: tuple[RingNode, ...] = ()
        self._policy: Policy = Ring(())

    def now(self) -> NodesNow:
        """Return all that is known."""
        nodes = tuple(
            NodeNow(
                name,
                store,
                self.state(name),
                self._failed.get(name, frozenset()),
                self._searched.get(name, frozenset()),
                name in self._unchecked,
                name in self._uncompared,
            )
            for name, store in self._stores.items()
        )
        return NodesNow(self._halted, self._ring, nodes)

    def take_over(self, now: NodesNow) -> None:
        """Know this instead of what was known."""
        self._halted = now.halted
        self._stores.clear()
        self._stores.update({node.name: node.store for node in now.nodes})
        self._states = {node.name: node.state for node in now.nodes}
        self._failed = {node.name: node.failed for node in now.nodes}
        self._searched = {node.name: node.searched for node in now.nodes}
        self._unchecked = {node.name for node in now.nodes if node.unchecked}
        self._uncompared = {node.name for node in now.nodes if node.uncompared}
        if now.ring != self._ring:
            self.set_ring(now.ring)
        self._find_takers()

    def set_ring(self, nodes: Iterable[RingNode]) -> None:
        self._ring = tuple(nodes)
        ring = Ring(self._ring)
        self._policy = RoundRobin(ring) if self._round_robin else ring

    def set_node(self, name: NodeName, store: PieceNode, state: NodeState) -> None:
        self._stores[name] = store
        self.set_state(name, state)

    def set_state(self, name: NodeName, state: NodeState) -> None:
        self._states[name] = state
        self._find_takers()

    def set_failed(self, name: NodeName, volumes: frozenset[str]) -> None:
        """Note which volumes of a node have failed, so that their pieces are unknown."""
        self._failed[name] = volumes
        self._searched[name] = self._searched.get(name, frozenset()) & volumes

    def set_searched(self, name: NodeName, volumes: frozenset[str]) -> None:
        """Note that the pieces of these failed volumes are recorded as missing."""
        self._searched[name] = volumes

    def set_unchecked(self, name: NodeName, *, unchecked: bool) -> None:
        """Note whether a node came back with less than it had: its pieces do not count until they were compared with
        the records."""
        (self._unchecked.add if unchecked else self._unchecked.discard)(name)

    def set_uncompared(self, name: NodeName) -> None:
        """The node has not said yet how new the metadata was that it has seen; until then it takes nothing."""
        self._uncompared.add(name)
        self._find_takers()

    def set_compared(self, name: NodeName) -> None:
        self._uncompared.discard(name)
        self._find_takers()

    def is_compared(self, name: NodeName) -> bool:
        return name not in self._uncompared

    def uncompared(self) -> list[NodeName]:
        """The nodes that have not said it and may do so soon: a node that is offline is waited for no longer."""
        return sorted(name for name in self._uncompared if self.state(name) is not NodeState.OFFLINE)

    def halt(self, reason: str) -> None:
        """From now on nothing is written or deleted, because of ``reason``; go on if it is empty."""
        self._halted = reason
        self._find_takers()

    @property
    def halted(self) -> str:
        return self._halted

    def refuse_while_halted(self) -> None:
        """Raises MetadataOlder while nothing may be written. Every change of what users see asks it, when it begins and
        in its transaction."""
        if self._halted:
            raise MetadataOlder(self._halted)

    def refuse_deletes(self, *, repair: bool) -> None:
        """Raises MetadataOlder while nothing may be deleted. ``repair`` is for a piece that is written again at once;
        for any other delete Busy while a node has not said how new the metadata was that it has seen.

        **Everything that deletes asks this right before it does.**
        """
        self.refuse_while_halted()
        waiting = [] if repair else self.uncompared()
        if waiting:
            raise Busy(f"nothing is deleted before node {waiting[0]} was heard, or is offline")

    async def delete(self, name: NodeName, pieces: Sequence[PieceName], *, repair: bool) -> list[FlareError | None]:
        """Have the node delete pieces, if that is allowed now; in their order None or what went wrong."""
        self.refuse_deletes(repair=repair)
        store = self._stores.get(name)
        if store is None:
            raise NodeUnreachable(name, "it is not known")
        return await store.delete(pieces)

    def remove(self, name: NodeName) -> None:
        self._uncompared.discard(name)
        self._unchecked.discard(name)
        for known in (self._stores, self._states, self._failed, self._searched):
            known.pop(name, None)
        self._find_takers()

    def state(self, name: NodeName) -> NodeState:
        return self._states.get(name, NodeState.OFFLINE)

    def is_online(self, name: NodeName | None) -> bool:
        """Return whether the node answers: online, or full."""
        return name in self._online

    def all_online(self, names: Iterable[NodeName | None]) -> bool:
        """Return whether all of these nodes answer."""
        return self._online.issuperset(names)

    def has_all_recorded(self, name: NodeName | None) -> bool:
        """Return whether the node answers and, as far as is known, has every piece that the records place on it."""
        if name is None or not self.is_online(name) or name in self._unchecked:
            return False
        return self._failed.get(name, frozenset()) <= self._searched.get(name, frozenset())

    def takes_pieces(self, name: NodeName) -> bool:
        return name in self._takers

    def names(self) -> list[NodeName]:
        return list(self._stores)

    def order(self, digest_hex: str) -> tuple[NodeName, ...]:
        """Every node of the ring, best first, for a chunk with this digest."""
        return self._policy.order(digest_hex)

    def choose(self, digest_hex: str, pieces: int, *, taken: Iterable[NodeName] = ()) -> list[NodeName]:
        """At most ``pieces`` nodes that take new pieces now, none of them ``taken``."""
        order = self._policy.order(digest_hex)
        if not taken:
            best = order[:pieces]
            if self._takers.issuperset(best):
                return list(best)
        return choose(order, pieces, self.takes_pieces, taken=taken)

    def _find_takers(self) -> None:
        self._online = frozenset(name for name, state in self._states.items() if state in _ANSWERS)
        online = (name for name, state in self._states.items() if state is NodeState.ONLINE)
        self._takers = frozenset(() if self._halted else (name for name in online if name not in self._uncompared))


_ANSWERS = frozenset({NodeState.ONLINE, NodeState.FULL})
