"""Parents: extents that list extents instead of chunks, so that an upload in parts becomes one object as it is.

    extent/{parent}          the record of an extent (``extents``), with chunk size 0 and "p": [children,
                             1 if it owns them, upload, [[size, chunks, first part number] of each page]]
    extent/{parent}/{page}   "1" [[extent, size, chunks, chunk size, part number, checksum], ...]   up to PAGE_CHILDREN

A manifest names one parent and counts it alone. While a parent is open its pages are a draft that counts nothing. The
transaction that seals it takes the reference of each child from the part that held it, without touching the child:
so 10,000 parts are 20 pages and no count. The sweep releases the children page by page, as chunks of an extent.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from flared.catalog import extents, garbage
from flared.catalog.extents import Children, Extent, PageTotals, open_record, read_extent, read_open, write
from flared.catalog.manifest import ExtentId, ExtentRef
from flared.catalog.records import UNDECODABLE, corrupt, parse, text_of
from flared.errors import ManifestCorrupt
from flared.meta import keys

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flared.catalog.garbage import Garbage
    from flared.meta.kv import KV, Transaction

PAGE_CHILDREN = 512
"""About 40 KiB a page. 10,000 parts have 20 pages."""


class Child(NamedTuple):
    """One of the extents of a parent: a part of the upload."""

    extent: ExtentRef
    number: int
    """Of the part, as its client counted: ascending, with gaps."""
    checksum: str = ""
    """Of the part, in base64, if it has one; the object's details say of which algorithm."""


class Place(NamedTuple):
    """A page, and what all pages before it hold."""

    page: int
    size: int
    chunks: int


# Readers


async def read_children(kv: KV, parent: ExtentId) -> Children:
    """What the record of a sealed parent says. Raises ManifestCorrupt if it is gone."""
    now = await kv.view(lambda snapshot: read_extent(snapshot, parent))
    if now is None or now.children is None:
        raise ManifestCorrupt(f"the record of the parent {parent} is lost")
    return now.children


async def read_page(kv: KV, parent: ExtentId, page: int) -> list[Child]:
    """The children ``page * PAGE_CHILDREN`` and following. Raises ManifestCorrupt if the page is not there."""
    entry = await kv.get(keys.extent_page(parent, page))
    if entry is None:
        raise ManifestCorrupt(f"the parent {parent} has no page {page}")
    return decode_page(parent, entry.value)


def find_byte(children: Children, position: int) -> Place:
    """The page of the byte at ``position``, which is less than the size of the parent."""
    size = chunks = 0
    for page, held in enumerate(children.pages):
        if position < size + held.size:
            return Place(page, size, chunks)
        size, chunks = size + held.size, chunks + held.chunks
    raise ManifestCorrupt(f"a parent of {size} bytes has no byte {position}")


def find_chunk(children: Children, number: int) -> Place:
    """The page of the chunk with this number, which is less than the number of chunks."""
    size = chunks = 0
    for page, held in enumerate(children.pages):
        if number < chunks + held.chunks:
            return Place(page, size, chunks)
        size, chunks = size + held.size, chunks + held.chunks
    raise ManifestCorrupt(f"a parent of {chunks} chunks has no chunk {number}")


def find_part(children: Children, number: int) -> Place:
    """The page that holds the part with this number, if any does."""
    found = Place(0, 0, 0)
    size = chunks = 0
    for page, held in enumerate(children.pages):
        if held.first <= number:
            found = Place(page, size, chunks)
        size, chunks = size + held.size, chunks + held.chunks
    return found


# Changes by a completion


def open_parent(tx: Transaction, parent: ExtentId, upload: str, expires_ms: int) -> None:
    """Begin a list of parts. Unless sealed it is given up by the sweep after ``expires_ms``, and its parts stay."""
    open_record(tx, Extent(parent, 0, 0, 0, 0, expires_ms, children=Children(0, False, upload, ())))


def append_page(tx: Transaction, parent: ExtentId, page: Sequence[Child]) -> None:
    """Append a page of children, which something else counts until the parent is sealed. Raises Conflict if it is not
    open. All pages but the last are full."""
    now = read_open(tx, parent)
    assert now.children is not None, "an extent of chunks has no children"
    assert 0 < len(page) <= PAGE_CHILDREN
    assert now.children.total == len(now.children.pages) * PAGE_CHILDREN, "only the last page may be shorter"
    size = sum(child.extent.size for child in page)
    chunks = sum(child.extent.chunks for child in page)
    children = now.children._replace(
        total=now.children.total + len(page),
        pages=(*now.children.pages, PageTotals(size, chunks, page[0].number)),
    )
    tx.put(keys.extent_page(parent, len(now.children.pages)), encode_page(page))
    write(tx, replace(now, chunks=now.chunks + chunks, size=now.size + size, children=children))


# Changes by the sweep


def release_parent_page(tx: Transaction, item: Garbage, due_ms: int, limit: int) -> bool:
    """Release up to ``limit`` children of a parent that had no reference since ``item``; True if there are more.

    ``due_ms`` is for the children that become garbage by it. As with the chunks of an extent the record says how many
    are released, so that no child is released twice. A draft owns none: only its pages go.
    """
    if not garbage.exists(tx, item):
        return False
    tx.reclaim()
    # An item whose record says otherwise is left over: it goes, and releases nothing.
    parent = ExtentId(item.id)
    now = read_extent(tx, parent)
    if now is None or now.children is None or now.references or now.garbage != item:
        garbage.remove(tx, item)
        return False
    # Children give their references back in the transaction that counts them as released.
    page, place = divmod(now.released, PAGE_CHILDREN)
    key = keys.extent_page(parent, page)
    entries = decode_page(parent, tx.get(key) or b"1[]")
    batch = entries[place : place + limit] if now.children.owned else entries[place:]
    if now.children.owned:
        for child in batch:
            extents.release_reference(tx, child.extent.id, due_ms)
    released = now.released + len(batch)
    if place + len(batch) >= len(entries):
        tx.delete(key)
        released = max(released, min(now.children.total, (page + 1) * PAGE_CHILDREN))
    # The record goes last: while children are left it says where to go on.
    if released < now.children.total:
        write(tx, replace(now, released=released))
        return True
    tx.delete(keys.extent(parent))
    garbage.remove(tx, item)
    return False


# Encoding


def encode_page(page: Sequence[Child]) -> bytes:
    rows = [[*child.extent[:4], child.number, child.checksum] for child in page]
    return b"1" + json.dumps(rows, separators=(",", ":")).encode()


def decode_page(parent: ExtentId, value: bytes) -> list[Child]:
    """Raises ManifestCorrupt."""
    try:
        rows: Sequence[tuple[ExtentId, int, int, int, int, str]] = parse(text_of(value), 1)[0]
        return [Child(ExtentRef(*row[:4]), row[4], row[5]) for row in rows]
    except UNDECODABLE as error:
        raise corrupt(f"a page of the parent {parent}", error) from error
