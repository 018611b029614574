"""volume.toml: whose volume a directory is. Never guessed from what lies in it."""

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
"""What a new volume has, so that the version before this one can still open it."""
FORMAT = 2
"""The newest: the volume may have quarantine records. Raised right before the first one is written."""
_FILE = "volume.toml"
_STRANGE = "take what is another's out of `volumes`, or empty it"


@dataclass(frozen=True, slots=True)
class Identity:
    """A volume's own id, its node, and the cluster it serves ("" until the first heartbeat tells)."""

    volume: str
    node: str
    cluster: str = ""
    format: int = FORMAT_FIRST


def identity_path(path: str) -> str:
    """The file that makes a directory a volume."""
    return f"{path}/{_FILE}"


def require_volume(disk: Disk, path: str) -> None:
    """Raises VolumeFailed if the directory holds no volume. Nothing is written: below may be another disk."""
    if disk.read(identity_path(path)) is None:
        raise VolumeFailed(f"{path} holds no volume: its disk is not mounted, or new and not prepared")


def load_identity(disk: Disk, path: str, node: str, fresh: uuid.UUID) -> Identity:
    """The identity of the volume in this directory; an unmarked directory becomes volume ``fresh`` of this node.

    Raises ConfigError if it belongs to another node, or has a format that this version does not know.
    """
    content = disk.read(identity_path(path))
    if content is None:
        identity = Identity(str(fresh), node)
        _save(disk, path, identity)
        return identity
    try:
        fields = tomllib.loads(content.decode())
        form = int(fields["format"])
        found = Identity(str(uuid.UUID(fields["volume"])), str(fields["node"]), str(fields["cluster"]), form)
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError([f"{path}/{_FILE}: not readable: {error}"]) from error
    if not FORMAT_FIRST <= form <= FORMAT:
        raise ConfigError(
            [f"{path}/{_FILE}: format {form} is not known to this version: install the one that wrote it"]
        )
    if found.node != node:
        raise ConfigError([f"{path}: this volume belongs to node {found.node!r}, not to {node!r}: {_STRANGE}"])
    return found


def find_cluster(volumes: Iterable[tuple[str, Identity]]) -> str:
    """The cluster of the volumes at these paths, "" if none of them knows. Raises ConfigError if there are two."""
    places = {identity.cluster: path for path, identity in volumes if identity.cluster}
    if len(places) > 1:
        named = ", ".join(f"{path} to {cluster}" for cluster, path in places.items())
        raise ConfigError([f"the volumes belong to different clusters, {named}: {_STRANGE}"])
    return next(iter(places), "")


def refuse_copies(volumes: Iterable[tuple[str, Identity]]) -> None:
    """Raises ConfigError if two of the directories hold one volume: one is a copy of the other, and deletes and repair
    would take them for one."""
    places: dict[str, str] = {}
    for path, identity in volumes:
        first = places.setdefault(identity.volume, path)
        if first != path:
            raise ConfigError(
                [f"{first} and {path} hold one volume, {identity.volume}: one is a copy of the other: {_STRANGE}"]
            )


def join_cluster(disk: Disk, path: str, identity: Identity, cluster: str) -> Identity:
    """Note the cluster; raises ConfigError if the volume serves another one."""
    if identity.cluster == cluster:
        return identity
    if identity.cluster:
        raise ConfigError([f"{path}: this volume belongs to cluster {identity.cluster}, not to {cluster}"])
    joined = replace(identity, cluster=cluster)
    _save(disk, path, joined)
    return joined


def raise_format(disk: Disk, path: str, identity: Identity) -> Identity:
    """Have the volume say, durably, that older versions cannot read all of it. They refuse it from then on."""
    raised = replace(identity, format=FORMAT)
    _save(disk, path, raised)
    return raised


def _save(disk: Disk, path: str, identity: Identity) -> None:
    fields = {"format": identity.format, "volume": identity.volume, "node": identity.node, "cluster": identity.cluster}
    disk.replace(identity_path(path), tomli_w.dumps(fields).encode())
