"""Ring: weighted consistent hashing of nodes (Karger et al., 1997), spread over zones."""

from __future__ import annotations

from bisect import bisect
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from flared.names import NodeName

POINTS_PER_NODE = 128
"""Points of a node of average weight: enough that equal nodes differ by about a tenth in their share."""
POINTS_PER_NODE_MAX = 1024


@dataclass(frozen=True, slots=True)
class RingNode:
    name: NodeName
    zone: str
    weight: float
    """Any positive unit; only the ratio to the other nodes counts. Capacity in bytes is what Flare uses."""


class Ring:
    """An immutable ring. ``order`` is asked for every chunk, so each point's walk is remembered.

    The memory is bounded by nodes x POINTS_PER_NODE_MAX walks.
    """

    def __init__(self, nodes: Iterable[RingNode]) -> None:
        self.nodes = tuple(sorted(nodes, key=lambda node: node.name))
        self._zones = {node.name: node.zone for node in self.nodes}
        points = sorted(point for node in self.nodes for point in _points(node, self._average_weight()))
        self._hashes = [value for value, _ in points]
        self._owners = [name for _, name in points]
        self._walks: dict[int, tuple[NodeName, ...]] = {}

    def order(self, digest_hex: str) -> tuple[NodeName, ...]:
        """Return every node, best first, for the chunk with this digest (at least 16 hex digits).

        The first node of each zone comes before the second of any.
        """
        if not self._hashes:
            return ()
        start = bisect(self._hashes, int(digest_hex[:16], 16)) % len(self._hashes)
        walk = self._walks.get(start)
        if walk is None:
            walk = self._walks[start] = self._walk(start)
        return walk

    def _walk(self, start: int) -> tuple[NodeName, ...]:
        met = dict.fromkeys(self._owners[start:] + self._owners[:start])
        return spread_zones(tuple(met), self._zones)

    def _average_weight(self) -> float:
        return sum(node.weight for node in self.nodes) / len(self.nodes) if self.nodes else 1.0


def spread_zones(nodes: Sequence[NodeName], zones: dict[NodeName, str]) -> tuple[NodeName, ...]:
    """Return the same nodes, reordered so that the first of each zone comes before the second of any, and so on."""
    taken: dict[str, int] = {}
    rounds: list[list[NodeName]] = []
    for node in nodes:
        turn = taken.get(zones[node], 0)
        taken[zones[node]] = turn + 1
        if turn == len(rounds):
            rounds.append([])
        rounds[turn].append(node)
    return tuple(node for turn in rounds for node in turn)


def _points(node: RingNode, average: float) -> list[tuple[int, NodeName]]:
    share = node.weight / average if average > 0 else 1.0
    count = max(1, min(POINTS_PER_NODE_MAX, round(POINTS_PER_NODE * share)))
    return [
        (int.from_bytes(sha256(f"{node.name}/{number}".encode()).digest()[:8], "big"), node.name)
        for number in range(count)
    ]
