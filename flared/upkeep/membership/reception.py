"""Reception: what a heartbeat changes. ``claims``, ``admission`` and ``returns`` decide if its sender is believed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from flared.errors import BadName, Conflict
from flared.names import PieceName, piece_parts
from flared.upkeep.membership.admission import being_removed, differs, refuse_other_cluster
from flared.upkeep.membership.claims import Holder, refuse_second, refuse_shared_volumes
from flared.upkeep.membership.returns import RECORDED, holding_of, parse_holding, reason_to_compare

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flared.chunks.damage import DamageList
    from flared.chunks.nodes import Nodes
    from flared.upkeep.membership.heartbeat import Heartbeat
    from flared.upkeep.membership.known_node import KnownNode
    from flared.upkeep.membership.metadata_age import MetadataAge
    from flared.upkeep.membership.roster import Roster

log = logging.getLogger(__name__)


class Reception:
    """Takes heartbeats for the nodes of one roster."""

    def __init__(self, cluster: str, roster: Roster, nodes: Nodes, age: MetadataAge, damage: DamageList) -> None:
        self._cluster = cluster
        self._roster = roster
        self._nodes = nodes
        self._age = age
        self._damage = damage

    async def receive(self, heartbeat: Heartbeat) -> None:
        """Take over what a node says of itself. Raises Conflict if its sender is not to be believed.

        The order: who sends it, before anything is changed; which metadata it has seen, before it may take a put;
        its record, durably; then what is kept in memory.
        """
        # Its sender must be of this cluster, welcome, and the only one of its name.
        refuse_other_cluster(heartbeat, self._cluster)
        known = self._roster.find(heartbeat.name)
        if known is not None and known.record.is_leaving:
            raise Conflict(being_removed(heartbeat.name))
        if known is None:
            refuse_shared_volumes(heartbeat, self._roster.heartbeats_of_others(heartbeat.name))
            self._age.compare(heartbeat.name, heartbeat.marks)
            known = await self._roster.record(heartbeat, None)
            if not known.instance:
                known.instance = known.judged = heartbeat.instance
        restarted = known.instance != heartbeat.instance
        if restarted:
            async with known.claim:
                restarted = await self._take_over(known, heartbeat)
        self._age.compare(heartbeat.name, heartbeat.marks)
        # That it came back with less is recorded with the rest: a crash must not make its pieces count.
        reason = self._judge(known, heartbeat)
        if reason or differs(known.record, heartbeat):
            known = await self._roster.record(heartbeat, known, lacks=bool(reason))
        if known.judged != heartbeat.instance and holding_of(heartbeat).final:
            known.judged = heartbeat.instance
        known.heartbeat = heartbeat
        # A volume that was failed may have worked in between: what was found out about it is void.
        if restarted:
            self._nodes.set_failed(heartbeat.name, frozenset())
        self._nodes.set_failed(heartbeat.name, heartbeat.failed_paths)
        if not heartbeat.dead:
            known.last_heard = trio.current_time()
        self._take_damage(heartbeat)
        if not self._roster.review(known) and (restarted or reason):
            self._roster.announce(known)

    def take_status(self, known: KnownNode, status: Mapping[str, object]) -> None:
        """Learn from a node's ``/status`` which process answers for it, and whether that lacks what the records place
        on it. The node's first heartbeat has the same recorded."""
        holding = parse_holding(status)
        if holding is None:
            return
        known.instance = holding.instance
        reason = reason_to_compare(known.record, None, holding)
        if reason or not holding.final:
            self._roster.set_unchecked(known, reason or known.unchecked)

    async def _take_over(self, known: KnownNode, heartbeat: Heartbeat) -> bool:
        """Let the sender of the heartbeat be the node from now on, if the process before it has gone.

        Return whether there was one before. Raises DuplicateNode, and then nothing has changed. Both addresses are
        asked who answers: after a restart only the new process does, however soon it comes.
        """
        if known.instance == heartbeat.instance:  # decided while this one waited for its turn
            return False
        refuse_shared_volumes(heartbeat, self._roster.heartbeats_of_others(heartbeat.name))
        answers = await known.ask_instances(known.record.address, heartbeat.address)
        heard = known.last_heard if known.heartbeat is not None else None
        silent = None if heard is None else trio.current_time() - heard
        holder = Holder(known.record.address, known.instance, silent)
        refuse_second(holder, heartbeat, answers[known.record.address], answers[heartbeat.address])
        before, known.instance = known.instance, heartbeat.instance
        if known.heartbeat is not None and known.judged == known.heartbeat.instance:
            known.had_pieces = known.heartbeat.pieces
        return bool(before)

    def _judge(self, known: KnownNode, heartbeat: Heartbeat) -> str:
        """Return why the node may lack what the records place on it, if this heartbeat is the first to say so."""
        if known.judged == heartbeat.instance:
            return ""
        holding = holding_of(heartbeat)
        reason = reason_to_compare(known.record, known.had_pieces, holding)
        if holding.final:
            self._roster.set_unchecked(known, reason or (RECORDED if known.record.unchecked else ""))
            if reason:
                log.warning("event=node_unchecked node=%s message=%r", heartbeat.name, reason)
            return reason
        self._nodes.set_unchecked(heartbeat.name, unchecked=True)
        return ""

    def _take_damage(self, heartbeat: Heartbeat) -> None:
        for name in heartbeat.damage:
            try:
                chunk, number = piece_parts(PieceName(name))
            except BadName:
                log.warning("event=strange_damage node=%s piece=%r", heartbeat.name, name)
                continue
            self._damage.add(chunk, number, heartbeat.name, "the data node found it damaged", corrupt=True)
