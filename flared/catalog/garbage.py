"""Garbage: what nothing references any more, and when it may be looked at again.

    key   = "garbage/" due "/" kind "/" id
    value = "1{}" | "1" {"p": [[piece number, node], ...]}      the pieces of a condemned chunk, still to be deleted
          | the packed row of the chunk (``packed``) | which parts of a retired upload a parent owns (``uploads``)

An ``extent``, ``parent`` or ``chunk`` item exists exactly as long as its record has no reference and the same ``due``.
An ``upload`` item exists until the upload's part records are gone; the upload has no record any more.
A ``condemned`` item exists until every node has deleted its pieces; its chunk has no record any more.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

from flared.catalog import packed
from flared.catalog.records import UNDECODABLE, corrupt, parse, scan_readable, text_of
from flared.meta import keys
from flared.names import ChunkId, NodeName

if TYPE_CHECKING:
    from flared.meta.kv import KV, Transaction

Kind = Literal["chunk", "condemned", "extent", "parent", "upload"]
EXTENT: Kind = "extent"
PARENT: Kind = "parent"
UPLOAD: Kind = "upload"
CHUNK: Kind = "chunk"
CONDEMNED: Kind = "condemned"
_KINDS = {kind: kind for kind in get_args(Kind)}

_EVER_MS = 10**15 - 2
"""The last moment that a key can hold."""

Pieces = tuple[tuple[int, NodeName], ...]
"""(piece number, the node that may hold it)"""


@dataclass(frozen=True, slots=True)
class Garbage:
    due_ms: int
    kind: Kind
    id: str
    """Of the extent, the parent, the chunk or the upload."""
    pieces: Pieces = ()

    @property
    def key(self) -> bytes:
        return keys.garbage(self.due_ms, self.kind, self.id)


def add(tx: Transaction, item: Garbage) -> None:
    pieces = json.dumps({"p": item.pieces}, separators=(",", ":")) if item.pieces else "{}"
    tx.put(item.key, b"1" + pieces.encode())


def remove(tx: Transaction, item: Garbage) -> None:
    tx.delete(item.key)


def exists(tx: Transaction, item: Garbage) -> bool:
    """Return whether the item is still there. If not, its chunk or extent was referenced again or already swept."""
    return tx.get(item.key) is not None


def condemn_pieces(tx: Transaction, chunk: ChunkId, pieces: Pieces, due_ms: int) -> bool:
    """Condemn pieces that were sent out for a chunk without a record, by a put that failed or lost a race.

    Return False, and condemn nothing, if the chunk has a record after all.
    """
    if tx.get(keys.chunk(chunk)) is not None or packed.find(tx, chunk) is not None:
        return False
    if pieces:
        _add_condemned(tx, Garbage(due_ms, CONDEMNED, chunk, pieces))
    return True


def mark_deleted(tx: Transaction, item: Garbage, node: NodeName) -> Garbage | None:
    """Take the pieces of ``node``, which it has deleted, out of a condemned item. May be repeated.

    Return what is left of the item; None if nothing is.
    """
    value = tx.get(item.key)
    if value is None:
        return None
    tx.reclaim()
    item = decode(item.key, value)
    item = replace(item, pieces=tuple(piece for piece in item.pieces if piece[1] != node))
    if not item.pieces:
        remove(tx, item)
        return None
    add(tx, item)
    return item


def postpone(tx: Transaction, item: Garbage, due_ms: int) -> Garbage | None:
    """Make a condemned item due later, because one of its nodes does not answer now.

    Return the item with its new due time; None if it is gone.
    """
    assert item.kind == CONDEMNED, "the due time of an unreferenced chunk or extent is in its record too"
    value = tx.get(item.key)
    if value is None:
        return None
    tx.reclaim()
    remove(tx, item)
    return _add_condemned(tx, replace(decode(item.key, value), due_ms=due_ms))


def _add_condemned(tx: Transaction, item: Garbage) -> Garbage:
    """Add the item, merged with one of the same chunk that is due in the same millisecond: they share a key."""
    value = tx.get(item.key)
    if value is not None:
        item = replace(item, pieces=tuple(dict.fromkeys(decode(item.key, value).pieces + item.pieces)))
    add(tx, item)
    return item


async def list_due(kv: KV, now_ms: int, limit: int, after: Garbage | None = None) -> list[Garbage]:
    """Return the items due by ``now_ms`` beyond ``after``, the longest due first. Nothing is removed.

    An item that cannot be read is logged and skipped.
    """
    start, end = keys.timed("garbage", now_ms)
    if after is not None:
        start = keys.after(after.key)
    return await scan_readable(kv, start, end, limit, decode)


async def list_condemned(kv: KV, after: Garbage | None, limit: int) -> tuple[list[Garbage], Garbage | None]:
    """Return the condemned items, due or not, of the page beyond ``after``, and the next ``after`` or None."""
    page = await list_due(kv, _EVER_MS, limit, after)
    return [item for item in page if item.kind == CONDEMNED], page[-1] if len(page) == limit else None


def decode(key: bytes, value: bytes) -> Garbage:
    """Raises ManifestCorrupt."""
    try:
        _, due, kind, identity = key.decode().split("/")
        pieces = () if packed.is_packed(value) else parse(text_of(value), 1)[0].get("p", ())
        return Garbage(int(due), _KINDS[kind], identity, tuple((number, NodeName(node)) for number, node in pieces))
    except UNDECODABLE as error:
        raise corrupt(f"garbage {key!r}", error) from error
