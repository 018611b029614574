"""volume.toml: the node and cluster of the volume in a directory. Never guessed from the directory's content."""

from __future__ import annotations

import tomllib
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import tomli_w

from flared.errors import ConfigError, VolumeFailed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flared.data.disk.disk import Disk

FORMAT_FIRST = 1
"""The format of a new volume, which the previous version of Flare can still open."""
FORMAT = 2
"""The newest format: the volume may have quarantine records. Raised right before the first one is written."""
_FILE = "volume.toml"
_FOREIGN_ADVICE = "remove the foreign volume from `volumes`, or empty its directory"


@dataclass(frozen=True, slots=True)
class VolumeIdentity:
    """A volume's own id, its node, and the cluster it serves ("" until the first heartbeat)."""

    volume: str
    node: str
    cluster: str = ""
    format: int = FORMAT_FIRST


def identity_path(path: str) -> str:
    """Return the path of the file that marks a directory as a volume."""
    return f"{path}/{_FILE}"


def require_volume(disk: Disk, path: str) -> None:
    """Raise VolumeFailed if the directory is not a volume. Nothing is written: the right disk may not be mounted."""
    if disk.read(identity_path(path)) is None:
        raise VolumeFailed(f"{path} has no volume: its disk is not mounted, or new and not prepared")


def load_identity(disk: Disk, path: str, node: str, fresh: uuid.UUID) -> VolumeIdentity:
    """Return the identity of the volume in this directory; an unmarked one becomes volume ``fresh`` of this node.

    Raise ConfigError if it belongs to another node, or has a format that this version does not know.
    """
    content = disk.read(identity_path(path))
    if content is None:
        identity = VolumeIdentity(str(fresh), node)
        _save(disk, path, identity)
        return identity
    try:
        fields = tomllib.loads(content.decode())
        form = int(fields["format"])
        found = VolumeIdentity(str(uuid.UUID(fields["volume"])), str(fields["node"]), str(fields["cluster"]), form)
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError([f"{path}/{_FILE}: not readable: {error}"]) from error
    if not FORMAT_FIRST <= form <= FORMAT:
        raise ConfigError(
            [f"{path}/{_FILE}: format {form} is not known to this version: install the one that wrote it"]
        )
    if found.node != node:
        raise ConfigError([f"{path}: this volume belongs to node {found.node!r}, not to {node!r}: {_FOREIGN_ADVICE}"])
    return found


def find_cluster(volumes: Iterable[tuple[str, VolumeIdentity]]) -> str:
    """Return the cluster of the volumes at these paths, "" if none has one. Raise ConfigError if there are two."""
    places = {identity.cluster: path for path, identity in volumes if identity.cluster}
    if len(places) > 1:
        named = ", ".join(f"{path} to {cluster}" for cluster, path in places.items())
        raise ConfigError([f"the volumes belong to different clusters, {named}: {_FOREIGN_ADVICE}"])
    return next(iter(places), "")


def refuse_copies(volumes: Iterable[tuple[str, VolumeIdentity]]) -> None:
    """Raise ConfigError if two of the directories are the same volume: one is a copy of the other, and deletes and
    repair could not tell them apart."""
    places: dict[str, str] = {}
    for path, identity in volumes:
        first = places.setdefault(identity.volume, path)
        if first != path:
            raise ConfigError(
                [f"{first} and {path} hold one volume, {identity.volume}, because one is a copy: {_FOREIGN_ADVICE}"]
            )


def join_cluster(disk: Disk, path: str, identity: VolumeIdentity, cluster: str) -> VolumeIdentity:
    """Store the cluster in the volume. Raise ConfigError if the volume serves another one."""
    if identity.cluster == cluster:
        return identity
    if identity.cluster:
        raise ConfigError([f"{path}: this volume belongs to cluster {identity.cluster}, not to {cluster}"])
    joined = replace(identity, cluster=cluster)
    _save(disk, path, joined)
    return joined


def raise_format(disk: Disk, path: str, identity: VolumeIdentity) -> VolumeIdentity:
    """Raise the volume's format, durably: older versions cannot read all of it and refuse it from then on."""
    raised = replace(identity, format=FORMAT)
    _save(disk, path, raised)
    return raised


def _save(disk: Disk, path: str, identity: VolumeIdentity) -> None:
    fields = {"format": identity.format, "volume": identity.volume, "node": identity.node, "cluster": identity.cluster}
    disk.replace(identity_path(path), tomli_w.dumps(fields).encode())
