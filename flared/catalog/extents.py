"""Extents: ordered lists of chunks. Open while an upload writes one, then sealed, and never changed again.

    extent/{extent}          "1" {"n": chunks, "s": size, "k": chunk size, "r": references
                                  ["o": when an open one expires] ["d": when its garbage item is due]
                                  ["g": chunks released by the sweep] ["p": it is a parent (``parents``)]}
    extent/{extent}/{page}   "1" [[chunk id, size], ...]       up to PAGE_CHUNKS
    open/{expires}/{extent}  "1{}"                             as long as the extent is open

An upload writes each chunk's record and its place in the open extent in one transaction: that is the chunk's pin.
A parent is an extent that lists extents instead of chunks. It is counted, given up and released in the same way.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from flared.catalog import chunks, garbage
from flared.catalog.garbage import EXTENT, PARENT, Garbage
from flared.catalog.manifest import ExtentId, ExtentRef
from flared.catalog.records import UNDECODABLE, corrupt, parse, scan_readable, text_of
from flared.errors import Conflict, ManifestCorrupt
from flared.meta import keys
from flared.names import ChunkId

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flared.meta.kv import KV, Snapshot, Transaction

PAGE_CHUNKS = 512
"""46 KiB a page. A 5 TiB object of 8 MiB chunks has 1,280 pages."""

PageEntry = tuple[ChunkId, int]
"""A chunk and its plain size."""


class PageTotals(NamedTuple):
    """What a page of a parent holds: enough to find the page of a byte, a chunk or a part without reading another."""

    size: int
    chunks: int
    first: int
    """The number of its first part."""


class Children(NamedTuple):
    """What the record of a parent says of the extents that it lists."""

    total: int
    owned: bool
    """It holds their reference: since it was sealed. The pages of one that never was are a draft, and own nothing."""
    upload: str
    """The id of the upload that they came from."""
    pages: tuple[PageTotals, ...]


@dataclass(frozen=True, slots=True)
class Extent:
    id: ExtentId
    chunks: int
    size: int
    chunk_size: int
    """0: a parent."""
    references: int
    expires_ms: int = 0
    """When an upload that no process continues is given up; 0: sealed or given up."""
    due_ms: int = 0
    """When the garbage item of an extent without references is due; 0 while it is open or referenced."""
    released: int = 0
    """How many of its chunks (of a parent: children) the sweep has released. From the first one on it cannot be
    referenced again."""
    children: Children | None = None
    """Of a parent."""

    @property
    def ref(self) -> ExtentRef:
        return ExtentRef(self.id, self.size, self.chunks, self.chunk_size, self.children.total if self.children else 0)

    @property
    def garbage(self) -> Garbage:
        """Its item while it has no reference."""
        return Garbage(self.due_ms, EXTENT if self.children is None else PARENT, self.id)


# Readers


async def read_page(kv: KV, extent: ExtentId, page: int) -> list[PageEntry]:
    """The chunks ``page * PAGE_CHUNKS`` and following. Raises ManifestCorrupt if the page is not there."""
    entry = await kv.get(keys.extent_page(extent, page))
    if entry is None:
        raise ManifestCorrupt(f"the extent {extent} has no page {page}")
    return decode_page(extent, entry.value)


async def list_open_extents(kv: KV, until_ms: int, limit: int) -> list[tuple[int, ExtentId]]:
    """(expires_ms, extent) of the open extents that expire by ``until_ms``, the longest expired first."""
    start, end = keys.timed("open", until_ms)
    return await scan_readable(kv, start, end, limit, lambda key, _: _parse_open(key))


def _parse_open(key: bytes) -> tuple[int, ExtentId]:
    _, expires, extent = key.decode().split("/")
    return int(expires), ExtentId(extent)


# Changes by an upload


def open_extent(tx: Transaction, extent: ExtentId, chunk_size: int, expires_ms: int) -> None:
    """Begin a list of chunks. Unless sealed it is given up by the sweep after ``expires_ms``."""
    open_record(tx, Extent(extent, 0, 0, chunk_size, 0, expires_ms))


def open_record(tx: Transaction, extent: Extent) -> None:
    """The same with the whole record, for a parent."""
    assert extent.expires_ms > 0, "0 means sealed"
    write(tx, extent)
    tx.put(keys.open_extent(extent.expires_ms, extent.id), b"1{}")


def create_extent(tx: Transaction, extent: ExtentId, chunk_size: int, entries: Sequence[PageEntry]) -> ExtentRef:
    """A sealed list of one chunk, whose reference was counted in this transaction, or of none.

    It has one reference: of what names it in this transaction.
    """
    assert len(entries) <= 1, "what has more is written open"
    for chunk, size in entries:
        tx.put(keys.extent_page(extent, 0), b'1[["%s",%d]]' % (chunk.encode(), size))
    now = Extent(extent, len(entries), sum(size for _, size in entries), chunk_size, 1)
    write(tx, now)
    return now.ref


def append_chunk(tx: Transaction, extent: ExtentId, chunk: ChunkId, size: int) -> None:
    """Append a chunk whose reference was counted in this transaction. Raises Conflict if the extent is not open.

    The caller appends in order; chunks of other sizes than the extent's chunk size end it.
    """
    now = read_open(tx, extent)
    page, place = divmod(now.chunks, PAGE_CHUNKS)
    key = keys.extent_page(extent, page)
    entry = b'["%s",%d]' % (chunk.encode(), size)
    old = tx.get(key) if place else b"1[]"
    if old is None:
        raise ManifestCorrupt(f"the extent {extent} has no page {page}")
    assert now.size == now.chunks * now.chunk_size, "only the last chunk may be shorter than the others"
    tx.put(key, old[:-1] + (b"," if place else b"") + entry + b"]")
    write(tx, replace(now, chunks=now.chunks + 1, size=now.size + size))


def seal(tx: Transaction, extent: ExtentId) -> ExtentRef:
    """End the list, with one reference: of the manifest or the part that names it in this transaction.

    From now on a parent owns its children: the caller takes the reference from what held it, in this transaction.
    Raises Conflict if the extent is not open.
    """
    now = read_open(tx, extent)
    tx.delete(keys.open_extent(now.expires_ms, extent))
    children = now.children and now.children._replace(owned=True)
    write(tx, replace(now, references=1, expires_ms=0, children=children))
    return now.ref


def give_up(tx: Transaction, extent: ExtentId, due_ms: int) -> bool:
    """End an upload that failed or expired: the sweep will release its chunks. False if the extent is not open."""
    now = read_extent(tx, extent)
    if now is None or not now.expires_ms:
        return False
    tx.reclaim()
    tx.delete(keys.open_extent(now.expires_ms, extent))
    _condemn(tx, replace(now, expires_ms=0), due_ms)
    return True


# Changes by manifests


def add_reference(tx: Transaction, extent: ExtentId) -> bool:
    """Reference an extent that a manifest names. False if it is gone, or being released."""
    now = read_extent(tx, extent)
    if now is None or now.expires_ms or now.released:
        return False
    if not now.references:
        garbage.remove(tx, now.garbage)
    write(tx, replace(now, references=now.references + 1, due_ms=0))
    return True


def release_reference(tx: Transaction, extent: ExtentId, due_ms: int) -> None:
    """Give a reference back. With the last one the extent becomes garbage; its chunks stay until the sweep."""
    now = read_extent(tx, extent)
    if now is None:
        return
    if now.references < 1:
        raise ManifestCorrupt(f"the extent {extent} is referenced but counts no reference")
    if now.references > 1:
        write(tx, replace(now, references=now.references - 1))
    else:
        _condemn(tx, replace(now, references=0), due_ms)


# Changes by the sweep


def release_extent_page(tx: Transaction, item: Garbage, due_ms: int, limit: int) -> bool:
    """Release up to ``limit`` chunks of an extent that had no reference since ``item``; True if there are more.

    ``due_ms`` is for the chunks that become garbage by it. The extent's record says how many are released, so
    that it goes on there after a crash, and no chunk is released twice. With the last one the extent's record goes.
    """
    if not garbage.exists(tx, item):
        return False
    tx.reclaim()
    # An item whose record says otherwise is left over: it goes, and releases nothing.
    extent = ExtentId(item.id)
    now = read_extent(tx, extent)
    if now is None or now.references or now.garbage != item:
        garbage.remove(tx, item)
        return False
    # Chunks give their references back in the transaction that counts them as released.
    page, place = divmod(now.released, PAGE_CHUNKS)
    key = keys.extent_page(extent, page)
    entries = decode_page(extent, tx.get(key) or b"1[]")
    batch = entries[place : place + limit]
    for chunk, _ in batch:
        chunks.release_reference(tx, chunk, due_ms)
    released = now.released + len(batch)
    if place + len(batch) >= len(entries):
        tx.delete(key)
        released = max(released, min(now.chunks, (page + 1) * PAGE_CHUNKS))
    # The record goes last: while chunks are left it says where to go on.
    if released < now.chunks:
        write(tx, replace(now, released=released))
        return True
    tx.delete(keys.extent(extent))
    garbage.remove(tx, item)
    return False


def read_extent(snapshot: Snapshot, extent: ExtentId) -> Extent | None:
    value = snapshot.get(keys.extent(extent))
    return None if value is None else decode(extent, value)


def read_open(tx: Transaction, extent: ExtentId) -> Extent:
    """Raises Conflict if the extent is not open."""
    now = read_extent(tx, extent)
    if now is None or not now.expires_ms:
        raise Conflict("the upload was given up because nothing came for too long")
    return now


def _condemn(tx: Transaction, extent: Extent, due_ms: int) -> None:
    condemned = replace(extent, due_ms=due_ms)
    write(tx, condemned)
    garbage.add(tx, condemned.garbage)


def write(tx: Transaction, extent: Extent) -> None:
    tx.put(keys.extent(extent.id), encode(extent))


# Encoding


def encode(extent: Extent) -> bytes:
    text = f'1{{"n":{extent.chunks},"s":{extent.size},"k":{extent.chunk_size},"r":{extent.references}'
    for name, number in (("o", extent.expires_ms), ("d", extent.due_ms), ("g", extent.released)):
        if number:
            text += f',"{name}":{number}'
    if extent.children is not None:
        total, owned, upload, pages = extent.children
        text += f',"p":{json.dumps([total, int(owned), upload, pages], separators=(",", ":"))}'
    return (text + "}").encode()


def decode(extent: ExtentId, value: bytes) -> Extent:
    """Raises ManifestCorrupt."""
    try:
        fields = parse(text_of(value), 1)[0]
        get = fields.get
        children = _decode_children(fields["p"]) if "p" in fields else None
        return Extent(
            extent,
            fields["n"],
            fields["s"],
            fields["k"],
            fields["r"],
            get("o", 0),
            get("d", 0),
            get("g", 0),
            children,
        )
    except UNDECODABLE as error:
        raise corrupt(f"the extent {extent}", error) from error


def _decode_children(fields: tuple[int, int, str, Sequence[tuple[int, int, int]]]) -> Children:
    total, owned, upload, pages = fields
    return Children(total, bool(owned), upload, tuple(PageTotals(*page) for page in pages))


def decode_page(extent: ExtentId, value: bytes) -> list[PageEntry]:
    """Raises ManifestCorrupt."""
    try:
        entries: Sequence[tuple[str, int]] = parse(text_of(value), 1)[0]
        return [(ChunkId(chunk), size) for chunk, size in entries]
    except UNDECODABLE as error:
        raise corrupt(f"a page of the extent {extent}", error) from error
