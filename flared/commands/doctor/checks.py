"""Checks that find problems in the facts of a host. ``CHECKS`` lists them; ``docs/doctor.md`` explains each."""

from __future__ import annotations

import shlex
from collections import defaultdict
from typing import TYPE_CHECKING

from flared.commands.prepare import USER
from flared.commands.units import CONFIGURATION
from flared.findings import Check, Severity, Trouble
from flared.systemd import NOT_HEARD

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from flared.commands.doctor.facts import HostFacts, Place

SYNC_SECONDS_MIN = 20e-6
"""About what the fastest disks with a power-protected cache take; a faster sync has only reached memory."""
SYNC_SECONDS_MAX = 0.1
"""A put waits for a sync; sound disks take 0.05 to 30 ms."""
MEMORY_KINDS = {"tmpfs", "ramfs"}
LAYER_KINDS = {"overlay", "aufs"}
NETWORK_KINDS = {"nfs", "nfs4", "cifs", "smb3", "ceph", "glusterfs", "fuse.sshfs", "fuse.glusterfs", "9p", "afs"}
RISKY_OPTIONS = ("nobarrier", "barrier=0", "data=writeback", "nolog", "norecovery")
FREE_SHARE_MIN = 0.1
INODES_SHARE_MIN = 0.05
INODES_MIN = 100
BACKUP_SECONDS_MAX = 2 * 86400
CERTIFICATE_DAYS_MIN = 30
RESTARTS_MAX = 3
OTHERS_READ, OTHERS_WRITE, GROUP_READ, GROUP_WRITE = 0o004, 0o002, 0o040, 0o020


def check_configured(host: HostFacts) -> list[Trouble]:
    if host.nodes:
        return []
    if host.user != "root":  # the directory is closed to others, so there may be files that this user cannot see
        cause = f"user {host.user} cannot see any TOML file in /etc/flare"
        return [Trouble(Severity.WARNING, cause, "sudo flared doctor")]
    return [Trouble(Severity.WARNING, "this host has no node: /etc/flare has no TOML file", "man flared")]


def check_mistakes(host: HostFacts) -> list[Trouble] | None:
    troubles = []
    for node in host.nodes:
        command = f"flared check-config {_quoted(node.file)}"
        for mistake in node.mistakes:
            if host.user != "root" and "Permission denied" in mistake:
                cause = f"{mistake} (as user {host.user})"
                troubles.append(Trouble(Severity.WARNING, cause, "sudo flared doctor"))
            else:
                troubles.append(Trouble(Severity.CRITICAL, mistake, command))
    return troubles if host.nodes else None


def check_drop_ins(host: HostFacts) -> list[Trouble] | None:
    services = [node for node in host.nodes if node.is_service]
    return (
        [
            Trouble(Severity.WARNING, f"{node.file}: {mistake}", f"flared prepare {_quoted(node.file)}")
            for node in services
            for mistake in node.stale
        ]
        if services
        else None
    )


def check_secrets(host: HostFacts) -> list[Trouble] | None:
    secrets = {node.secret.path: node.secret for node in host.nodes if node.secret}
    troubles = []
    for secret in secrets.values():
        path = _quoted(secret.path)
        if secret.mode & (OTHERS_READ | OTHERS_WRITE):
            cause = f"{secret.path} (mode {secret.mode:04o}) can be read by everybody on this machine"
            troubles.append(Trouble(Severity.CRITICAL, cause, f"chmod 0600 {path}"))
        elif secret.mode & GROUP_WRITE:
            cause = f"{secret.path} (mode {secret.mode:04o}) can be changed by the group {secret.group}"
            troubles.append(Trouble(Severity.WARNING, cause, f"chmod 0600 {path}"))
        elif _is_ours(secret.path) and secret.owner != "root":
            cause = f"{secret.path} belongs to {secret.owner}, who can replace it; it must belong to root"
            troubles.append(Trouble(Severity.WARNING, cause, f"chown root: {path}"))
    return troubles if secrets else None


def check_access(host: HostFacts) -> list[Trouble] | None:
    """Report TOML files, and the directory of systemd's, with wrong permissions or owners."""
    found = [node.access for node in host.nodes if node.access]
    troubles = []
    for access in found + ([host.directory] if host.directory else []):
        path = _quoted(access.path)
        if access.mode & OTHERS_WRITE:
            cause = f"{access.path} (mode {access.mode:04o}) can be changed by everybody on this machine"
            troubles.append(Trouble(Severity.CRITICAL, cause, f"chmod o-w {path}"))
        elif _is_ours(access.path) and access.owner != "root":
            cause = f"{access.path} belongs to {access.owner}, who can change what the nodes do"
            troubles.append(Trouble(Severity.WARNING, cause, f"chown root {path}"))
        elif _is_ours(access.path) and not _may_read(access.mode, access.group):
            cause = f"{access.path} ({access.owner}:{access.group}, mode {access.mode:04o}) cannot be read by the nodes"
            troubles.append(Trouble(Severity.CRITICAL, cause, f"chgrp {USER} {path} && chmod g+rX {path}"))
    return troubles if found or host.directory else None


def check_certificates(host: HostFacts) -> list[Trouble] | None:
    """Report certificates that end soon or are for another host, and keys that others may read."""
    found = [certificate for node in host.nodes for certificate in node.certificates]
    troubles = []
    for one in found:
        renew = f"flared renew-certificates {_quoted(one.file)}"
        if not one.is_own:
            renew = f"put a newer one there; systemctl reload flared@{_quoted(one.file.stem)}"
        if one.mistake:
            troubles.append(Trouble(Severity.CRITICAL, one.mistake, f"{renew}; sudo flared doctor"))
            continue
        if one.days_left < CERTIFICATE_DAYS_MIN:
            when = f"ends in {one.days_left:.0f} days" if one.days_left > 0 else "has ended"
            severity = Severity.WARNING if one.days_left > 0 else Severity.CRITICAL
            troubles.append(Trouble(severity, f"{one.path} {when}", renew))
        if one.node_name and one.node_name not in one.names:
            cause = f"{one.path} does not name node {one.node_name}: api nodes refuse to call it"
            troubles.append(Trouble(Severity.CRITICAL, cause, f"{renew} --force" if one.is_own else renew))
        elif not one.node_name and not _names_one(one.names, one.host_names):
            cause = f"{one.path} is for {', '.join(one.names) or 'no host'}, none of which is a name of this host"
            troubles.append(Trouble(Severity.WARNING, cause, f"{renew} --force" if one.is_own else renew))
    keys = {key.path: key for one in found for key in one.keys}
    for key in keys.values():
        if key.mode & (OTHERS_READ | OTHERS_WRITE):
            cause = f"{key.path} (mode {key.mode:04o}) can be read by everybody on this machine"
            troubles.append(Trouble(Severity.CRITICAL, cause, f"chmod o= {_quoted(key.path)}"))
    return troubles if found else None


def _names_one(names: Sequence[str], host_names: Sequence[str]) -> bool:
    """Return whether one of the host's names is among these, or below one that begins with ``*.``."""
    lower = {name.lower() for name in names}
    return any(name.lower() in lower or f"*.{name.lower().partition('.')[2]}" in lower for name in host_names)


def check_presence(host: HostFacts) -> list[Trouble] | None:
    """Report volumes that are missing, or whose mount point is empty."""
    troubles = []
    for place in host.places:
        path, file = _quoted(place.path), _quoted(place.file)
        new = f"flared prepare --new {path} {file}"
        if place.unmounted:
            lies = "" if place.path == place.unmounted else f"lies on {place.unmounted}, which "
            cause = f"{place.path} {lies}is in /etc/fstab and not mounted"
            troubles.append(Trouble(Severity.CRITICAL, cause, f"mount {_quoted(place.unmounted)}"))
        elif place.is_hidden:
            cause = f"{place.path}: {place.obstacle}"
            troubles.append(Trouble(Severity.WARNING, cause, "sudo flared doctor"))
        elif not place.exists and not place.made_at_start:
            cause = f"{place.path} is missing, so its node does not start"
            command = f"findmnt {path}; if the disk is new: {new}" if place.is_volume else f"flared prepare {file}"
            troubles.append(Trouble(Severity.CRITICAL, cause, command))
        elif place.is_volume and not place.marked and not place.made_at_start:
            cause = f"{place.path} has no volume: its disk is not mounted, or new and not prepared"
            troubles.append(Trouble(Severity.CRITICAL, cause, f"findmnt {path}; if the disk is new: {new}"))
    return troubles if host.places else None


def check_devices(host: HostFacts) -> list[Trouble] | None:
    volumes = defaultdict(list)
    for place in host.places:
        if place.is_volume and place.device:
            volumes[place.device].append(place.path)
    return (
        [
            Trouble(
                Severity.WARNING,
                f"{' and '.join(map(str, paths))} are on one disk, {device}: they share its speed, and fail together",
                f"lsblk; give each disk one volume in {_quoted(_file_of(host, paths[0]))}",
            )
            for device, paths in volumes.items()
            if len(paths) > 1
        ]
        if volumes
        else None
    )


def check_kind(host: HostFacts) -> list[Trouble] | None:
    troubles = []
    for place, kind in _mounted(host):
        command = f"findmnt --target {_quoted(place.path)}"
        if kind in MEMORY_KINDS:
            cause = f"{place.path} is in memory ({kind}): a reboot loses all of it"
            troubles.append(Trouble(Severity.CRITICAL, cause, command))
        elif kind in NETWORK_KINDS:
            cause = (
                f"{place.path} is on a network file system ({kind}), whose syncs and locks depend on another machine"
            )
            troubles.append(Trouble(Severity.WARNING, cause, command))
        elif kind in LAYER_KINDS:
            cause = f"{place.path} is on {kind}, which is deleted with its container"
            troubles.append(Trouble(Severity.WARNING, cause, command))
    return troubles if _mounted(host) else None


def check_options(host: HostFacts) -> list[Trouble] | None:
    troubles = []
    for place in host.places:
        if not place.mount:
            continue
        point, options = _quoted(place.mount.point), place.mount.options
        if "ro" in options:
            cause = f"{place.path} is mounted read-only; the kernel does that to a disk with errors"
            troubles.append(Trouble(Severity.CRITICAL, cause, f"dmesg | grep -i error; mount -o remount,rw {point}"))
        for option in RISKY_OPTIONS:
            if option in options:
                cause = (
                    f"{place.path} is mounted with {option}: a power cut may lose what was synced; "
                    "remove the option from /etc/fstab and mount it again"
                )
                troubles.append(Trouble(Severity.CRITICAL, cause, _mount_anew(place, point)))
    return troubles if _mounted(host) else None


def check_syncs(host: HostFacts) -> list[Trouble] | None:
    """Report syncs too fast to have reached the disk, or slow ones."""
    places = [place for place in host.places if place.exists and not place.is_hidden]
    measured = [
        place
        for place in places
        if place.mount and place.mount.kind not in MEMORY_KINDS and "ro" not in place.mount.options
    ]
    troubles = []
    for place in measured:
        if place.sync_seconds is None:
            cause = f"{place.path}: syncs cannot be measured: {place.obstacle}"
            troubles.append(Trouble(Severity.WARNING, cause, "sudo flared doctor"))
        elif place.sync_seconds < SYNC_SECONDS_MIN:
            cause = f"{place.path}: a sync takes {place.sync_seconds * 1e6:.1f} µs: it does not reach the disk"
            command = "lsblk -o NAME,MODEL,TRAN; on a virtual machine: its disk's cache mode, which must honour flushes"
            troubles.append(Trouble(Severity.CRITICAL, cause, command))
        elif place.sync_seconds > SYNC_SECONDS_MAX:
            cause = f"{place.path}: a sync takes {place.sync_seconds * 1e3:.0f} ms, and every put waits for one"
            troubles.append(Trouble(Severity.WARNING, cause, f"iostat -x 1 5; smartctl -H {_quoted(place.device)}"))
    return troubles if measured else None


def check_room(host: HostFacts) -> list[Trouble] | None:
    places = [place for place in host.places if place.capacity]
    troubles = []
    for place in places:
        free = f"{_size(place.free)} of {_size(place.capacity)}"
        if place.free <= place.reserve:
            cause = f"{place.path} is full: {free} free, which is reserved for deletes"
            troubles.append(Trouble(Severity.CRITICAL, cause, f"du -xhd1 {_quoted(place.path)}"))
        elif place.free < FREE_SHARE_MIN * place.capacity:
            cause = f"{place.path} is nearly full: {free} free"
            troubles.append(Trouble(Severity.WARNING, cause, f"du -xhd1 {_quoted(place.path)}"))
    return troubles if places else None


def check_inodes(host: HostFacts) -> list[Trouble] | None:
    places = [place for place in host.places if place.inodes]
    troubles = []
    for place in places:
        severity = Severity.CRITICAL if place.inodes_free < INODES_MIN else Severity.WARNING
        if place.inodes_free < max(INODES_MIN, INODES_SHARE_MIN * place.inodes):
            cause = f"{place.path} runs out of inodes: {place.inodes_free} of {place.inodes} are free"
            troubles.append(Trouble(severity, cause, f"du --inodes -xd2 {_quoted(place.path)}"))
    return troubles if places else None


def check_units(host: HostFacts) -> list[Trouble] | None:
    units = [node.unit for node in host.nodes if node.unit]
    troubles = []
    # One cause for each unit, the most serious first; restarts are a cause of their own, because the unit may run
    # now.
    for unit in units:
        log = f"journalctl -u {_quoted(unit.name)} -n 50"
        if unit.active == "failed":
            cause = f"{unit.name} has failed ({unit.result})"
            troubles.append(Trouble(Severity.CRITICAL, cause, f"{log}; systemctl restart {_quoted(unit.name)}"))
        elif unit.sub == "auto-restart":
            cause = f"{unit.name} cannot start: {unit.text.removeprefix('failed: ') or unit.result}"
            troubles.append(Trouble(Severity.CRITICAL, cause, log))
        elif unit.active == "activating":
            cause = f"{unit.name} is starting, and does not serve yet"
            troubles.append(Trouble(Severity.WARNING, cause, f"systemctl status {_quoted(unit.name)}"))
        elif unit.active != "active":
            cause = f"{unit.name} is {unit.active or 'not known to systemd'}"
            troubles.append(Trouble(Severity.WARNING, cause, f"systemctl enable --now {_quoted(unit.name)}"))
        elif NOT_HEARD in unit.text:
            cause = f"{unit.name} runs, but no api node accepts its heartbeats: {unit.text.partition(NOT_HEARD)[2]}"
            troubles.append(Trouble(Severity.WARNING, cause, log))
        elif unit.enabled != "enabled":
            cause = f"{unit.name} runs, but will not after a reboot: it is {unit.enabled or 'not enabled'}"
            troubles.append(Trouble(Severity.WARNING, cause, f"systemctl enable {_quoted(unit.name)}"))
        if unit.restarts > RESTARTS_MAX:
            cause = f"{unit.name} died and was started again {unit.restarts} times"
            command = f"{log}; to reset the count: systemctl reset-failed {_quoted(unit.name)}"
            troubles.append(Trouble(Severity.WARNING, cause, command))
    return troubles if units else None


def check_packages(host: HostFacts) -> list[Trouble] | None:
    packages = [package for package in host.packages if package.status[:1] not in ("", "u", "r", "p")]
    troubles = [
        Trouble(
            Severity.CRITICAL, f"package {package.name} is half installed ({package.status})", "dpkg --configure -a"
        )
        for package in packages
        if package.status[1:2] != "i"
    ]
    if len({package.version for package in packages}) > 1:
        versions = ", ".join(f"{package.name} {package.version}" for package in packages)
        names = " ".join(package.name for package in packages)
        cause = f"the packages have different versions: {versions}"
        troubles.append(Trouble(Severity.WARNING, cause, f"apt install {names}"))
    return troubles if packages else None


def check_clock(host: HostFacts) -> list[Trouble] | None:
    if host.clock_synchronised is None:
        return None
    if host.clock_synchronised:
        return []
    cause = "the clock is not synchronised: versions of objects and their expiry depend on it"
    return [Trouble(Severity.WARNING, cause, "apt install chrony; timedatectl")]


def check_backup(host: HostFacts) -> list[Trouble] | None:
    apis = [node for node in host.nodes if node.has_metadata and node.is_service]
    if not apis:
        return None
    age = host.newest_backup_seconds
    if age is not None and age <= BACKUP_SECONDS_MAX:
        return []
    timer = _quoted(f"flared-backup@{apis[0].file.stem}.timer")
    service = _quoted(f"flared-backup@{apis[0].file.stem}.service")
    what = "there is no backup of the metadata" if age is None else f"the newest backup is {age / 86400:.0f} days old"
    cause = f"{what}: without it, losing {apis[0].places[0].path} loses every object"
    return [Trouble(Severity.WARNING, cause, f"systemctl enable --now {timer}; systemctl start {service}")]


CHECKS: Sequence[Check[HostFacts]] = (
    Check("F101", "there is a node on this host", check_configured),
    Check("F102", "the TOML files have no mistakes", check_mistakes),
    Check("F103", "systemd's drop-ins agree with the TOML files", check_drop_ins),
    Check("F104", "others cannot read or change the secret", check_secrets),
    Check("F105", "the nodes can read the configuration, and only root can change it", check_access),
    Check("F106", "certificates are good for a month, name this host, and their keys are closed", check_certificates),
    Check("F201", "volumes and metadata are where they should be", check_presence),
    Check("F202", "every volume has a disk of its own", check_devices),
    Check("F203", "the file systems are on disks of this host", check_kind),
    Check("F204", "the mount options are safe", check_options),
    Check("F205", "syncs take as long as a real disk needs", check_syncs),
    Check("F206", "there is room", check_room),
    Check("F207", "there are inodes", check_inodes),
    Check("F301", "the units run", check_units),
    Check("F302", "the packages have one version", check_packages),
    Check("F303", "the clock is synchronised", check_clock),
    Check("F304", "there is a fresh backup of the metadata", check_backup),
)


def _mount_anew(place: Place, point: str) -> str:
    node = f"flared@{place.file.stem}" if _is_ours(place.file) else ""
    stop, start = (
        (
            f"systemctl stop {_quoted(node)}.socket {_quoted(node)}; ",
            f"; systemctl start {_quoted(node)}.socket {_quoted(node)}",
        )
        if node
        else ("", "")
    )
    return f"editor /etc/fstab; {stop}umount {point} && mount {point}{start}"


def _size(count: int) -> str:
    return f"{count / 1024**3:.1f} GiB" if count >= 1024**3 else f"{count / 1024**2:.0f} MiB"


def _mounted(host: HostFacts) -> list[tuple[Place, str]]:
    return [(place, place.mount.kind) for place in host.places if place.mount]


def _file_of(host: HostFacts, path: Path) -> Path:
    return next(place.file for place in host.places if place.path == path)


def _is_ours(path: Path) -> bool:
    """Return whether the package created the directory, so that its rules apply."""
    return path == CONFIGURATION or path.parent == CONFIGURATION


def _may_read(mode: int, group: str) -> bool:
    return bool(mode & OTHERS_READ) or (group == USER and bool(mode & GROUP_READ))


def _quoted(path: Path | str) -> str:
    return shlex.quote(str(path))
