"""Refusals: the processes whose heartbeats were refused lately, and why."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from flared.cluster.states import HEARTBEAT_SECONDS, MISSED_HEARTBEATS
from flared.errors import Conflict, DuplicateNode

if TYPE_CHECKING:
    from flared.names import NodeName
    from flared.upkeep.membership.heartbeat import Heartbeat

log = logging.getLogger(__name__)

REFUSED_MAX = 1000
"""Processes remembered; the oldest is forgotten for a new one."""


@dataclass(frozen=True, slots=True)
class _Refusal:
    message: str
    at: float
    is_duplicate: bool


class Refusals:
    """By name, address and instance, so that two processes of one name are both shown."""

    def __init__(self) -> None:
        self._refused: dict[tuple[NodeName, str, str], _Refusal] = {}

    def note(self, heartbeat: Heartbeat, error: Conflict) -> None:
        """Remember why a heartbeat was refused; logged once until the reason changes."""
        sender = _sender_of(heartbeat)
        if sender not in self._refused or self._refused[sender].message != str(error):
            log.warning("event=node_refused node=%s message=%r", heartbeat.name, str(error))
        if sender not in self._refused and len(self._refused) >= REFUSED_MAX:
            del self._refused[next(iter(self._refused))]
        self._refused[sender] = _Refusal(str(error), trio.current_time(), isinstance(error, DuplicateNode))

    def clear(self, heartbeat: Heartbeat) -> None:
        """The sender's heartbeat was accepted."""
        self._refused.pop(_sender_of(heartbeat), None)

    def current(self, *, duplicates: bool = False) -> list[str]:
        """Return why processes that still send heartbeats are refused; with ``duplicates``, those that run twice."""
        recent = trio.current_time() - MISSED_HEARTBEATS * HEARTBEAT_SECONDS
        return [
            refusal.message
            for refusal in self._refused.values()
            if refusal.at >= recent and (refusal.is_duplicate or not duplicates)
        ]


def _sender_of(heartbeat: Heartbeat) -> tuple[NodeName, str, str]:
    return heartbeat.name, heartbeat.address, heartbeat.instance
