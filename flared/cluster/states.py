"""NodeState: whether a data node is used, decided from when its last heartbeat came."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

HEARTBEAT_SECONDS = 3.0
MISSED_HEARTBEATS = 3


class NodeState(Enum):
    ONLINE = "online"
    SUSPECT = "suspect"
    """Three heartbeats missed, or none came since this api node started."""
    OFFLINE = "offline"
    """No heartbeat for ``repair_after``: its pieces are rebuilt elsewhere."""
    FULL = "full"
    """Online, reads and deletes, but takes no new pieces."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """When a node's last heartbeat came, in seconds of this api node's monotonic clock."""

    last_heard: float | None
    full: bool = False


def decide_state(seen: Sighting, *, now: float, started: float, repair_after: float) -> NodeState:
    """Return the state of a node at ``now``; all times are seconds of one monotonic clock.

    No node is offline until ``repair_after`` has passed since the api node ``started``: an api node that was
    down itself must not take its own silence for theirs.
    """
    silent_since = started if seen.last_heard is None else max(seen.last_heard, started)
    if now - silent_since >= repair_after:
        return NodeState.OFFLINE
    if seen.last_heard is None or now - seen.last_heard > MISSED_HEARTBEATS * HEARTBEAT_SECONDS:
        return NodeState.SUSPECT
    return NodeState.FULL if seen.full else NodeState.ONLINE
