"""Claims: which of two processes that report under one node's name is accepted. Plain functions.

A disk image that was started twice, or a configuration that was copied, gives two living processes one name. Puts that
go to both in turn are lost when one of them stops, so the first stays and the second is refused. A node that was
restarted is a new process too. What tells them apart is who answers: a restart leaves no other process that does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flared.cluster.states import HEARTBEAT_SECONDS
from flared.errors import DuplicateNode
from flared.http.address import HTTPS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flared.upkeep.membership.heartbeat import Heartbeat

ASK_SECONDS = 1.0
"""How long an address has to answer: the sender of the heartbeat gives up after two seconds."""
SILENT_SECONDS = 1.5 * HEARTBEAT_SECONDS
"""A process that cannot be asked counts as alive until it has missed a heartbeat: one that was moved to another
address is taken at its second or third one."""

Answer = str | None
"""The instance that answers at an address; empty from a version that does not say, None where nothing answers."""


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that a node's name belongs to now."""

    address: str
    instance: str
    """Empty if it was not heard since this api node started."""
    silent_seconds: float | None
    """Since its last heartbeat; None if there was none."""

    @property
    def is_heard(self) -> bool:
        return self.silent_seconds is not None and self.silent_seconds < SILENT_SECONDS


def refuse_second(holder: Holder, heartbeat: Heartbeat, at_holder: Answer, at_sender: Answer) -> None:
    """Raises DuplicateNode unless the sender of the heartbeat, another process than the holder, has taken its place.

    ``at_holder`` and ``at_sender`` are what answers at the two addresses, which may be one.
    """
    if _place(holder.address) == _place(heartbeat.address):
        if at_sender:
            if at_sender != heartbeat.instance:
                raise DuplicateNode(_explain_one_address(heartbeat))
        elif holder.instance and holder.is_heard:
            raise DuplicateNode(_explain_one_address(heartbeat))
        return
    if at_holder and at_holder != heartbeat.instance:
        raise DuplicateNode(_explain_two_addresses(holder, heartbeat))
    if at_sender and at_sender != heartbeat.instance:
        raise DuplicateNode(_explain_one_address(heartbeat))
    if holder.instance and holder.is_heard:
        raise DuplicateNode(_explain_two_addresses(holder, heartbeat))


def refuse_shared_volumes(heartbeat: Heartbeat, others: Iterable[Heartbeat]) -> None:
    """Raises DuplicateNode if a node that is alive, one of ``others``, has a volume of the same id."""
    ids = {volume.id: volume.path for volume in heartbeat.volumes}
    for other in others:
        for volume in other.volumes:
            if volume.id in ids and volume.id != volume.path:
                raise DuplicateNode(
                    f"volume {volume.id} is on node {other.name} at {other.address} ({volume.path}) and on node "
                    f"{heartbeat.name} at {heartbeat.address} ({ids[volume.id]}): one is a copy of the other. The one "
                    f"on {other.name} is used. On {_host(heartbeat.address)}: take {ids[volume.id]} out of `volumes`, "
                    "or empty it"
                )


def _explain_two_addresses(holder: Holder, heartbeat: Heartbeat) -> str:
    return (
        f"node {heartbeat.name} runs twice, at {holder.address} and at {heartbeat.address}: the one at "
        f"{holder.address} was first and is used. Its disk or its configuration was copied. On "
        f"{_host(heartbeat.address)}: stop the one at {heartbeat.address}, and give it another name and empty volumes; "
        f"or, to use that one, stop the one at {holder.address}"
    )


def _explain_one_address(heartbeat: Heartbeat) -> str:
    return (
        f"node {heartbeat.name} runs twice with the address {heartbeat.address}: the process that answers there is "
        f"used, another one sends heartbeats too. Find it (flared doctor on the hosts that have a node of this name), "
        "stop it, and give it another name and empty volumes; if this is the only one, correct its `advertise`"
    )


def _host(address: str) -> str:
    return _place(address).rpartition(":")[0]


def _place(address: str) -> str:
    """Return the host and port: a node that begins to speak TLS has not moved."""
    return address.removeprefix(HTTPS)
