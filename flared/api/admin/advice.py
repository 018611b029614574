"""Advice: what to type next, the most urgent first. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flared.cluster.states import NodeState
from flared.upkeep.problems import HeartbeatRefused, Shortage

if TYPE_CHECKING:
    from flared.meta.kv import Health
    from flared.upkeep.membership.member import Member
    from flared.upkeep.status import ClusterStatus

GROW = "flarectl node invite; on a further data host: flared init data --join TOKEN"
OLDER = (
    "put the right meta.db back: flared restore FILE on the api host; "
    "or go on with what there is and lose what was written since: flarectl metadata accept"
)


def advise(status: ClusterStatus) -> list[str]:
    """Return what to type about the whole cluster."""
    return [
        *advise_metadata(status.metadata, older=bool(status.metadata_older)),
        *_advise_nodes(status),
        *(f"flarectl node orphans {node}" for node in sorted(status.held)),
    ]


def advise_metadata(health: Health, *, older: bool) -> list[str]:
    """Return what to type about the metadata; ``older`` if data nodes have seen newer metadata."""
    lines = [OLDER] if older else []
    if health.failure:
        lines.append("on the api host: flared doctor; journalctl -u 'flared@*' -n 50; systemctl restart flared@api")
    elif health.full:
        lines.append("on the api host: df -h; flared doctor; for room: delete files there, or flarectl rm")
    if health.problems or health.damaged_rows:
        lines.append(
            "on the api host: journalctl -u 'flared@*' -g metadata_; then put a backup back with flared restore, or "
            "delete or put again what is damaged (docs/operations.md)"
        )
    return lines


def _advise_nodes(status: ClusterStatus) -> list[str]:
    members, heal = status.members, status.heal
    lacking = any(isinstance(problem, Shortage) for problem in status.problems)
    # What is wrong with nodes that are there, or may come back.
    lines = [
        f"flarectl node show {member.record.name}; {line}" if _bad_volumes(member) else line
        for member in members
        for line in advise_member(member)[:1]
    ]
    gone = [member for member in members if member.state is NodeState.OFFLINE and not member.record.is_leaving]
    lines += [f"if {member.record.name} is gone for good: flarectl node rm {member.record.name}" for member in gone]
    # A further node helps only if none is refused or broken.
    if any(isinstance(problem, HeartbeatRefused) for problem in status.problems):
        what = "; if this is not those nodes' metadata: flared restore" if lacking else ""
        lines.append(f"journalctl -u 'flared@*' -g node_refused{what}")
    elif lacking and not lines:
        lines.append(GROW)
    # Lost data goes before everything: what is typed for other reasons must not delete the last copies.
    if heal.lost:
        lines.insert(
            0, "flarectl node ls    (bring back the nodes and disks that held the lost copies; delete nothing)"
        )
    if heal.unplaced and not any("node invite" in line for line in lines):
        away = any(member.is_away for member in members)
        lines.append(f"{'if it does not come back: ' if away else ''}{GROW}")
    if heal.backlog > heal.lost + heal.unplaced and not lines:
        lines.append("flarectl status --watch    (repair goes on by itself)")
    return lines


def advise_member(member: Member) -> list[str]:
    """Return what to type about one node."""
    name, address = member.record.name, member.record.address
    if member.record.is_leaving:
        return [f"flarectl status --watch    (it goes on by itself; flarectl node add {name} calls it off)"]
    host = f"on {name} ({address.rpartition(':')[0]})"
    if member.is_away:
        gone = f"if it is gone for good: flarectl node rm {name}"
        if member.is_only_heard:
            return [
                f"{host}: open {address} to the api node, or correct advertise in /etc/flare/data.toml and restart",
                f"to try whether it answers, here: curl http://{address}/healthz",
            ]
        lines = [f"{host}: flared doctor; journalctl -u 'flared@*' -n 50"]
        return [*lines, gone] if member.state is NodeState.OFFLINE else lines
    if bad := _bad_volumes(member):
        again = "systemctl restart flared@data"
        return [
            f"{host}: flared doctor",
            f"{host}, to try the disk again, which only a start does: {again}",
            *(f"with a new disk at {path}: flared prepare --new {path} /etc/flare/data.toml; {again}" for path in bad),
        ]
    if member.state is NodeState.FULL:
        return [f"{host}: flared doctor; for more room a disk or a host more (docs/operations.md), or flarectl rm"]
    return []


def _bad_volumes(member: Member) -> list[str]:
    """Return the paths of its volumes that failed, while the node itself is there."""
    if member.heartbeat is None or not member.answers:
        return []
    return [volume.path for volume in member.heartbeat.volumes if volume.state in ("failed", "readonly")]
