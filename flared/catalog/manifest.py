"""Manifest: one version of one object.

record = packed row (``packed``) | "1" object
object = {"s": size, "v": version, "e": etag, "m": modified, "t": content type
          ["u": {name: value}] ["d": details] ["c": chunk id]
          ["x": [[extent, size, chunks, chunk size (, children)], ...]]}
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, NewType

from flared.catalog import details as detail
from flared.catalog import packed
from flared.catalog.chunks import ChunkRecord, record_of
from flared.catalog.records import DECODED_MAX, UNDECODABLE, corrupt, parse, quote, text_of

if TYPE_CHECKING:
    from flared.catalog.details import Details
    from flared.names import ChunkId, ObjectName

ExtentId = NewType("ExtentId", str)
"""32 hex digits, drawn at random when the extent is opened."""


class ExtentRef(NamedTuple):
    """A sealed extent, as a manifest or a parent names it."""

    id: ExtentId
    size: int
    chunks: int
    chunk_size: int
    """Of every chunk but the last; 0: it is a parent, whose children say it, each for itself."""
    children: int = 0
    """How many extents a parent lists (``parents``); 0: it lists chunks."""

    @property
    def is_parent(self) -> bool:
        return not self.chunk_size


class Manifest(NamedTuple):
    """The part that clients see never changes once written. An empty object has neither chunk nor extents."""

    name: ObjectName
    version: int
    """max(clock in ms, the key's last version + 1); 0 until ``put_version`` gives it."""
    size: int
    etag: str
    modified: float
    """Seconds since 1970, UTC."""
    content_type: str
    user: dict[str, str]
    """``x-flare-meta-*`` without the prefix."""
    chunk: ChunkId | None
    """The only chunk of the object; its size is the object's."""
    extents: tuple[ExtentRef, ...] = ()
    packed: ChunkRecord | None = None
    """The record of the chunk, if it stands in the same row. It changes as pieces get lost and are repaired."""
    details: Details | None = None

    @property
    def is_readable(self) -> bool:
        return bool(self.etag) or self.deletes

    @property
    def deletes(self) -> bool:
        """Return whether this version is a delete marker."""
        return self.details is not None and self.details.deletes

    @property
    def is_null(self) -> bool:
        """Whether the version has no id of its own: it was put while its bucket had versioning off or suspended."""
        return self.details is None or not self.details.versioned

    def with_version(self, version: int) -> Manifest:
        """``_replace`` takes five times as long, and every put does this."""
        return tuple.__new__(Manifest, (self[0], version, *self[2:]))


def unreadable(name: ObjectName) -> Manifest:
    """Return the stand-in for an object whose row is damaged: it exists, and nothing is known of it. It has no etag."""
    return Manifest(name, 0, 0, "", 0.0, "", {}, None)


def encode(manifest: Manifest, version: int) -> bytes:
    """The record of the manifest with this version."""
    record = manifest.packed
    if record is not None:
        return packed.encode(
            record.id,
            record.size,
            record.stored,
            version,
            manifest.modified,
            record.codec,
            manifest.etag,
            manifest.content_type,
            record.scheme,
            record.nodes,
            manifest.user,
            record.missing,
            b"" if manifest.details is None else detail.encode(manifest.details).encode(),
        )
    text = (
        f'1{{"s":{manifest.size},"v":{version},"e":{quote(manifest.etag)},"m":{manifest.modified!r},'
        f'"t":{quote(manifest.content_type)}'
    )
    if manifest.user:
        text += f',"u":{json.dumps(manifest.user, separators=(",", ":"))}'
    if manifest.details is not None:
        text += f',"d":{detail.encode(manifest.details)}'
    if manifest.chunk is not None:
        text += f',"c":"{manifest.chunk}"'
    if manifest.extents:
        refs = [ref if ref.children else ref[:4] for ref in manifest.extents]
        text += f',"x":{json.dumps(refs, separators=(",", ":"))}'
    return (text + "}").encode()


def redescribed(value: bytes, manifest: Manifest, details: Details | None) -> bytes:
    """Return the row ``value``, which is that of ``manifest``, with other details."""
    if value[:1] in packed.MARKS:
        return packed.described(value, b"" if details is None else detail.encode(details).encode())
    return encode(manifest._replace(details=details), manifest.version)


@lru_cache(DECODED_MAX)
def decode(name: ObjectName, value: bytes) -> Manifest:
    """Raises ManifestCorrupt."""
    try:
        if value[:1] in packed.MARKS:
            return _decode_packed(name, packed.decode(value))
        fields = parse(text_of(value), 1)[0]
        get = fields.get
        extents = get("x")
        return Manifest(
            name,
            fields["v"],
            fields["s"],
            fields["e"],
            fields["m"],
            fields["t"],
            get("u") or {},
            get("c"),
            tuple(ExtentRef(*extent) for extent in extents) if extents else (),
            None,
            detail.decode(fields["d"]) if "d" in fields else None,
        )
    except UNDECODABLE as error:
        raise corrupt(f"the object {name.bucket}/{name.key}", error) from error


def _decode_packed(name: ObjectName, row: packed.Packed) -> Manifest:
    return Manifest(
        name,
        row.version,
        row.size,
        row.etag,
        row.modified,
        row.content_type,
        row.user,
        row.chunk,
        (),
        None if row.alone else record_of(row),
        detail.decode_packed(row.details) if row.details else None,
    )
