"""Checks that find problems of a cluster in the api node's answers. ``docs/doctor.md`` explains each."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, NamedTuple

from flarectl.render import span_text
from flared.chunks.scheme import Scheme, parse_scheme
from flared.errors import BadRequest
from flared.findings import Check, Severity, Trouble

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flarectl.answers import Key, Node, Status

SKEW_SECONDS_MAX = 2.0
"""With larger differences the logs of two hosts cannot be read side by side."""
SKEW_SECONDS_RISKY = 60.0
"""With larger differences deletions, which are due by the clock, come too early or too late."""
USED_SHARE_MAX = 0.85
USED_SHARE_RISKY = 0.95
DAMAGE_SECONDS = 30 * 86400.0
"""How long damage that was found and repaired remains a warning."""
CERTIFICATE_SECONDS_MIN = 30 * 86400.0
KEY_SECONDS_MIN = 7 * 86400.0
AWAY = {"suspect": Severity.WARNING, "offline": Severity.CRITICAL}
SOUND_VOLUMES = {"ok", "full", "replaying"}


class ClusterFacts(NamedTuple):
    """The facts gathered about a cluster; None where there was no answer."""

    status: Status
    lost_chunks: int = 0
    api_ahead_seconds: float | None = None
    """The api node's clock minus ours."""
    ahead_seconds: Mapping[str, float] = {}
    """The clocks of data nodes minus the api node's."""
    schemes: Sequence[str] = ()
    """Of the buckets."""
    time: float = 0.0
    """The api node's time, in seconds since 1970; 0 if it did not report it."""

    endpoint_ends: float | None = None
    """When the certificate of the endpoint ends, in seconds since 1970; None without TLS."""

    keys: Sequence[Key] | None = None
    """Access keys; None if we may not list them."""

    @property
    def nodes(self) -> list[Node]:
        """The data nodes."""
        return [node for node in self.status.nodes if node.role == "data"]


def check_nodes(cluster: ClusterFacts) -> list[Trouble]:
    """Report nodes that are away, or accept no new data."""
    if not cluster.nodes:
        if refused := cluster.status.refused:
            return [Trouble(Severity.CRITICAL, f"no data node is accepted; {refused[0]}", cluster.status.advice[0])]
        command = "for each data host: flarectl node invite; there: flared init data --join TOKEN"
        return [Trouble(Severity.CRITICAL, "there is no data node: nothing can be stored", command)]
    troubles = []
    for node in cluster.nodes:
        command = f"on {_host(node)}: flared doctor; journalctl -u 'flared@*' -n 50"
        if node.state == "offline":
            command += f"; if it is gone for good: flarectl node rm {shlex.quote(node.name)}"
        if node.state in AWAY:
            cause = f"node {node.name} is {node.state}{_since(node)}"
            if node.unreachable:
                cause += f": its heartbeats arrive, but the api node cannot connect to it ({node.unreachable})"
                command = node.advice[0] if node.advice else command
            troubles.append(Trouble(AWAY[node.state], cause, command))
        elif node.state == "full":
            cause = f"node {node.name} accepts no new data: none of its volumes has room or is writable"
            troubles.append(Trouble(Severity.WARNING, cause, f"flarectl node show {shlex.quote(node.name)}"))
    return troubles


def check_volumes(cluster: ClusterFacts) -> list[Trouble] | None:
    return (
        [
            Trouble(
                Severity.WARNING if volume.repaired else Severity.CRITICAL,
                f"volume {volume.path} on node {node.name} is {volume.state}"
                + (volume.repair and f": {volume.repair}"),
                f"on {_host(node)}: flared doctor; to try the disk again: systemctl restart flared@data",
            )
            for node in cluster.nodes
            for volume in node.volumes
            if volume.state not in SOUND_VOLUMES
        ]
        if any(node.volumes for node in cluster.nodes)
        else None
    )


def check_schemes(cluster: ClusterFacts) -> list[Trouble] | None:
    """Report schemes that have more pieces than there are nodes."""
    schemes = {scheme for scheme in map(_scheme, cluster.schemes) if scheme}
    known, usable = len(cluster.nodes), sum(node.state == "online" for node in cluster.nodes)
    troubles = []
    for scheme in sorted(schemes, key=lambda scheme: -scheme.pieces):
        command = "flarectl bucket ls; flarectl node invite; on one more host: flared init data --join TOKEN"
        if usable < scheme.quorum:
            cause = f"buckets with {scheme.text} accept no writes: they need {scheme.quorum} usable nodes, {usable} are"
            troubles.append(Trouble(Severity.CRITICAL, cause, command))
        elif known < scheme.pieces:
            cause = f"{scheme.text} needs {scheme.pieces} data nodes, and there are {known}: objects lack copies"
            troubles.append(Trouble(Severity.WARNING, cause, command))
    return troubles if schemes else None


def check_domains(cluster: ClusterFacts) -> list[Trouble] | None:
    """Report if the failure of one host or zone would take every copy."""
    if len(cluster.nodes) < 2:
        return None
    hosts, zones = {_host(node) for node in cluster.nodes}, {node.zone for node in cluster.nodes}
    count = len(cluster.nodes)
    every = "both" if count == 2 else f"all {count}"
    if len(hosts) == 1:
        cause = f"{every} data nodes are on one host, {hosts.pop()}: its failure takes every copy"
        return [
            Trouble(Severity.WARNING, cause, "flarectl node invite; on another host: flared init data --join TOKEN")
        ]
    if len(zones) == 1:
        cause = f"{every} data nodes are in one zone, {zones.pop()}: Flare cannot know which of them fail together"
        command = "on each data host: set zone in /etc/flare/data.toml; systemctl restart flared@data"
        return [Trouble(Severity.WARNING, cause, command)]
    return []


def check_chunks(cluster: ClusterFacts) -> list[Trouble]:
    troubles = []
    if lost := cluster.lost_chunks:
        chunks = "1 chunk has" if lost == 1 else f"{lost} chunks have"
        cause = f"{chunks} no good piece that can be reached: their objects cannot be read"
        troubles.append(
            Trouble(Severity.CRITICAL, cause, "flarectl node ls; bring back the nodes and disks that are away")
        )
    if degraded := cluster.status.degraded_chunks:
        chunks = "1 chunk lacks pieces and waits" if degraded == 1 else f"{degraded} chunks lack pieces and wait"
        cause = f"{chunks} for repair"
        troubles.append(Trouble(Severity.WARNING, cause, "flarectl status --watch"))
    return troubles


def check_room(cluster: ClusterFacts) -> list[Trouble] | None:
    troubles = []
    nodes = [node for node in cluster.status.nodes if node.capacity]
    for node in nodes:
        share = _share_used(node)
        what = "the metadata's disk on" if node.role == "api" else "data node"
        if share > USED_SHARE_MAX:
            severity = Severity.CRITICAL if share > USED_SHARE_RISKY else Severity.WARNING
            command = "add a disk or a host (docs/operations.md)" if node.role == "data" else f"on {_host(node)}: df -h"
            troubles.append(Trouble(severity, f"{what} {node.name} is {share:.0%} full", command))
        if node.state != "full":
            troubles += [
                Trouble(
                    Severity.WARNING,
                    f"volume {volume.path} on node {node.name} is full; new pieces go to the node's other volumes",
                    f"on {_host(node)}: df -h {shlex.quote(volume.path)}; du -xhd1 {shlex.quote(volume.path)}",
                )
                for volume in node.volumes
                if volume.state == "full"
            ]
    return troubles if nodes else None


def _share_used(node: Node) -> float:
    """Return the share of the space for pieces that is taken, by Flare or by others."""
    sound = [volume for volume in node.volumes if volume.state != "failed"]
    known = [(volume.capacity, volume.free) for volume in sound if volume.capacity]
    if not known:
        return node.used / node.capacity
    return 1 - sum(free for _, free in known) / sum(capacity for capacity, _ in known)


def check_versions(cluster: ClusterFacts) -> list[Trouble] | None:
    versions: dict[str, list[str]] = {}
    for node in cluster.status.nodes:
        if node.version:
            versions.setdefault(node.version, []).append(node.name)
    if len(versions) <= 1:
        return [] if versions else None
    cause = "nodes run several versions: " + "; ".join(f"{v} on {', '.join(names)}" for v, names in versions.items())
    command = "on each host: apt install ./python3-flare_*.deb ./flared_*.deb; data hosts first"
    return [Trouble(Severity.WARNING, cause, command)]


def check_clocks(cluster: ClusterFacts) -> list[Trouble] | None:
    known = {f"node {name}": (seconds, "the api node") for name, seconds in cluster.ahead_seconds.items()}
    if cluster.api_ahead_seconds is not None:
        known["the api node"] = (cluster.api_ahead_seconds, "this machine")
    troubles = []
    for who, (seconds, whom) in known.items():
        if abs(seconds) > SKEW_SECONDS_MAX:
            severity = Severity.CRITICAL if abs(seconds) > SKEW_SECONDS_RISKY else Severity.WARNING
            cause = f"the clock of {who} is {abs(seconds):.1f} s {'ahead of' if seconds > 0 else 'behind'} {whom}"
            troubles.append(Trouble(severity, cause, "timedatectl on both; apt install chrony"))
    return troubles if known else None


def check_orphans(cluster: ClusterFacts) -> list[Trouble] | None:
    """Report nodes with so many pieces that no record names that these are held back from deletion."""
    troubles = [
        Trouble(
            Severity.CRITICAL,
            f"node {node.name} holds {node.orphans_held:,} pieces that no record names: the metadata may be damaged or "
            "old. They are kept for some days",
            f"flarectl node orphans {shlex.quote(node.name)}; does the metadata lack objects? flared restore",
        )
        for node in cluster.nodes
        if node.orphans_held
    ]
    return troubles if cluster.nodes else None


def check_damage(cluster: ClusterFacts) -> list[Trouble] | None:
    """Report pieces that failed their checksum lately, also if repaired: the disk may fail again."""
    troubles = []
    for node in cluster.nodes:
        last = node.damaged_last
        if node.checksum_errors and last is not None and cluster.time - last < DAMAGE_SECONDS:
            cause = (
                f"{node.checksum_errors:,} pieces on node {node.name} failed their checksum, {node.pieces_mended:,} "
                "were repaired: its disk may be failing"
            )
            command = f"on {_host(node)}: smartctl -a DEVICE; flared doctor; dmesg | grep -i error"
            troubles.append(Trouble(Severity.WARNING, cause, command))
    return troubles if cluster.nodes else None


def check_file_systems(cluster: ClusterFacts) -> list[Trouble] | None:
    """Report volumes that share one file system, its space and its failures."""
    troubles = []
    for node in cluster.nodes:
        shared: dict[int, list[str]] = {}
        for volume in node.volumes:
            if volume.file_system:
                shared.setdefault(volume.file_system, []).append(volume.path)
        for paths in shared.values():
            if len(paths) > 1:
                cause = (
                    f"volumes {' and '.join(paths)} of node {node.name} lie on one file system: "
                    "they share its space and its speed, and fail together"
                )
                command = f"on {_host(node)}: findmnt; is a disk not mounted? Give each disk one volume"
                troubles.append(Trouble(Severity.WARNING, cause, command))
    return troubles if any(node.volumes for node in cluster.nodes) else None


def check_refused(cluster: ClusterFacts) -> list[Trouble] | None:
    """Report nodes and volumes that exist twice: the cluster refuses one of each."""
    command = "journalctl -u 'flared@*' -g node_refused; on the host of the second one: flared doctor"
    return [Trouble(Severity.CRITICAL, reason, command) for reason in cluster.status.refused] if cluster.nodes else None


def check_metadata(cluster: ClusterFacts) -> list[Trouble] | None:
    status = cluster.status
    if status.metadata_reasons is None:
        return None
    command = "; ".join(status.metadata_advice) or "flarectl status"
    return [Trouble(Severity.CRITICAL, reason, command) for reason in status.metadata_reasons]


def check_certificates(cluster: ClusterFacts) -> list[Trouble] | None:
    """Report certificates that end soon, as the api node and we were shown them."""
    renew = "flared renew-certificates"
    shown = [
        (f"the certificate of node {node.name}", node.certificate_ends, f"on {_host(node)}: {renew}")
        for node in cluster.nodes
    ]
    shown.append(("the certificate of the api node", cluster.endpoint_ends, f"on the api host: {renew}; flared doctor"))
    ends = [(what, moment, command) for what, moment, command in shown if moment is not None]
    now = cluster.time
    if not ends or not now:
        return None
    return [
        Trouble(Severity.CRITICAL, f"{what} has ended", command)
        if moment <= now
        else Trouble(Severity.WARNING, f"{what} ends in {span_text(moment - now)}", command)
        for what, moment, command in ends
        if moment - now < CERTIFICATE_SECONDS_MIN
    ]


def check_keys(cluster: ClusterFacts) -> list[Trouble] | None:
    """Report access keys that cannot be used any more, or soon."""
    if cluster.keys is None:
        return None
    found = [
        Trouble(
            Severity.CRITICAL,
            f"no secret of the cluster opens the access key {key.name}: all who sign with it are refused",
            f"add the secret it was made under to secret_file, or flarectl key rotate {key.name}",
        )
        for key in cluster.keys
        if key.state == "unreadable"
    ]
    for key in cluster.keys:
        left = None if key.expires is None else key.expires - cluster.time
        if key.state == "works" and left is not None and left < KEY_SECONDS_MIN:
            cause = f"the access key {key.name} ends in {span_text(max(0.0, left))}"
            command = f"flarectl key create NAME with the grants of flarectl key show {key.name}, for who uses it"
            found.append(Trouble(Severity.WARNING, cause, command))
    return found


CHECKS: Sequence[Check[ClusterFacts]] = (
    Check("F501", "all data nodes are online and accept writes", check_nodes),
    Check("F502", "all volumes are sound", check_volumes),
    Check("F503", "there are enough nodes for the schemes of the buckets", check_schemes),
    Check("F504", "no single host or zone holds every copy", check_domains),
    Check("F505", "no chunk lacks a piece", check_chunks),
    Check("F506", "there is room", check_room),
    Check("F507", "all nodes run one version", check_versions),
    Check("F508", "the clocks agree", check_clocks),
    Check("F509", "every volume has a file system of its own", check_file_systems),
    Check("F510", "no node holds more pieces without a record than mishaps leave", check_orphans),
    Check("F511", "no node is refused", check_refused),
    Check("F512", "the metadata is sound, new enough, and can be written", check_metadata),
    Check("F513", "no data node had damaged pieces within 30 days", check_damage),
    Check("F514", "the certificates are good for a month", check_certificates),
    Check("F515", "all access keys can be used, and none ends within a week", check_keys),
)


def _since(node: Node) -> str:
    return "" if node.state_since_seconds is None else f" for {span_text(node.state_since_seconds)}"


def _host(node: Node) -> str:
    return node.address.removeprefix("https://").rpartition(":")[0] or node.name


def _scheme(text: str) -> Scheme | None:
    """Return None for a scheme that only newer versions know."""
    try:
        return parse_scheme(text)
    except BadRequest:
        return None
