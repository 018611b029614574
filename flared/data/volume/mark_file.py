"""The file of a volume with the metadata's mark.

It has a checksum, since a damaged mark would accuse good metadata.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import xxhash

from flared.data.mark import mark_fields, parse_mark
from flared.errors import BadRequest
from flared.http.json_body import parse_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flared.data.disk.disk import Disk
    from flared.data.mark import SeenMark

FILE = "metadata-mark.json"


def load_mark(disk: Disk, path: str, cluster: str) -> SeenMark | None:
    """Return the mark in the volume at ``path``; None if there is none, or one of another cluster's metadata.

    Raise BadRequest if the file is damaged, VolumeFailed if it cannot be read.
    """
    content = disk.read(f"{path}/{FILE}")
    if content is None:
        return None
    try:
        fields = parse_json(content)
    except ValueError as error:
        raise BadRequest(f"{path}/{FILE} {error}") from error
    if not isinstance(fields, dict) or fields.get("checksum") != _checksum(fields):
        raise BadRequest(f"{path}/{FILE} is damaged: it does not have its checksum")
    return parse_mark(fields) if fields.get("cluster") == cluster else None


def save_mark(disk: Disk, path: str, cluster: str, mark: SeenMark) -> None:
    """Replace the mark in the volume at ``path``. The new one is durable when this returns; until then the old one is
    complete. Blocks for a sync or two. Raise VolumeFailed, VolumeFull."""
    fields = {"cluster": cluster, **mark_fields(mark)}
    disk.replace(f"{path}/{FILE}", json.dumps(fields | {"checksum": _checksum(fields)}).encode() + b"\n")


def _checksum(fields: Mapping[str, object]) -> str:
    said = {name: value for name, value in sorted(fields.items()) if name != "checksum"}
    return xxhash.xxh3_64_hexdigest(json.dumps(said).encode())
