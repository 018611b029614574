"""Placement: which nodes take a chunk's pieces, out of those that can be used now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from flared.cluster.ring import Ring, spread_zones

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from flared.names import NodeName


class Policy(Protocol):
    def order(self, digest_hex: str) -> tuple[NodeName, ...]:
        """Return every node, best first."""


class RoundRobin:
    """Every chunk begins at the next node: an even spread that ignores the nodes' sizes."""

    def __init__(self, ring: Ring) -> None:
        self._names = tuple(node.name for node in ring.nodes)
        self._zones = {node.name: node.zone for node in ring.nodes}
        self._turn = 0

    def order(self, digest_hex: str) -> tuple[NodeName, ...]:
        if not self._names:
            return ()
        self._turn = (self._turn + 1) % len(self._names)
        return spread_zones(self._names[self._turn :] + self._names[: self._turn], self._zones)


def choose(
    order: Sequence[NodeName], pieces: int, usable: Callable[[NodeName], bool], *, taken: Iterable[NodeName] = ()
) -> list[NodeName]:
    """Return at most ``pieces`` distinct usable nodes, in order, none of them already ``taken``."""
    excluded = set(taken)
    return [node for node in order if node not in excluded and usable(node)][:pieces]
