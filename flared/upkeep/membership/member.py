"""Member: one data node as an operator sees it, a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flared.cluster.states import HEARTBEAT_SECONDS, MISSED_HEARTBEATS, NodeState

if TYPE_CHECKING:
    from flared.catalog.nodes import NodeRecord
    from flared.upkeep.membership.heartbeat import Heartbeat

ANSWERING = (NodeState.ONLINE, NodeState.FULL)
AWAY = (NodeState.SUSPECT, NodeState.OFFLINE)


@dataclass(frozen=True, slots=True)
class Member:
    record: NodeRecord
    state: NodeState
    state_seconds: float
    """How long it has been in this state, as far as this api node knows."""
    last_seen_seconds: float | None
    heartbeat: Heartbeat | None
    unreachable: str = ""
    """Why it cannot be called; heartbeats come the other way, which may be open alone."""
    unreachable_seconds: float = 0.0
    compared: bool = True
    """It has said how new the metadata was that it has seen; before that it takes nothing."""
    unchecked: str = ""
    """Why its pieces do not count until its inventory has been compared with the records."""

    @property
    def answers(self) -> bool:
        return self.state in ANSWERING

    @property
    def is_away(self) -> bool:
        return self.state in AWAY

    @property
    def takes_writes(self) -> bool:
        return self.state is NodeState.ONLINE and self.compared

    @property
    def is_only_heard(self) -> bool:
        """Its heartbeats come, and it cannot be called."""
        seen = self.last_seen_seconds
        return bool(self.unreachable) and seen is not None and seen <= MISSED_HEARTBEATS * HEARTBEAT_SECONDS
