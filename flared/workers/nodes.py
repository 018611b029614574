"""Nodes: what the owner knows of the data nodes, as it is sent to its workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flared.chunks.nodes import NodeNow, NodesNow
from flared.cluster.ring import RingNode
from flared.cluster.states import NodeState
from flared.data.transport.remote import Remote
from flared.names import NodeName

if TYPE_CHECKING:
    from collections.abc import Callable


def describe_nodes(now: NodesNow) -> dict[str, object]:
    """Return it as JSON has it."""
    nodes = [
        [
            node.name, node.store.address, node.state.value, sorted(node.failed), sorted(node.searched),
            node.unchecked, node.uncompared,
        ]
        for node in now.nodes
        if isinstance(node.store, Remote)
    ]  # fmt: skip
    return {"halted": now.halted, "ring": [[node.name, node.zone, node.weight] for node in now.ring], "nodes": nodes}


def parse_nodes(described: dict[str, Any], remote: Callable[[NodeName, str], Remote]) -> NodesNow:  # type: ignore[explicit-any]
    """Return it as it was described; ``remote`` finds or makes our end of a node at an address."""
    return NodesNow(
        described["halted"],
        tuple(RingNode(NodeName(name), zone, weight) for name, zone, weight in described["ring"]),
        tuple(
            NodeNow(
                NodeName(name),
                remote(NodeName(name), address),
                NodeState(state),
                frozenset(failed),
                frozenset(searched),
                unchecked,
                uncompared,
            )
            for name, address, state, failed, searched, unchecked, uncompared in described["nodes"]
        ),
    )
