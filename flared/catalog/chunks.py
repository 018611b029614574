"""Chunk records: how often a chunk is referenced, and where its pieces are.

    record = "1" object
    object = {"t": stored size, "s": size, "c": codec, "m": scheme, "r": references, "n": [node or null, ...]
              ["x": [piece number known missing, ...]] ["d": when its garbage item is due]}

The record of a small object's only chunk is packed: it stands in the row of its object, and later of its garbage item
(``packed``). It counts one reference, or none, and gets a row of its own when a copy references it.

A chunk with pieces missing has the key ``repair/{chunk}`` too. Chunks that may be shared have the key
``shared/{digest}/{scheme}``, which names the newest of them: the point that racing creators meet at.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from heapq import merge
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from flared.catalog import garbage, packed
from flared.catalog.garbage import CHUNK, CONDEMNED, Garbage
from flared.catalog.packed import Packed
from flared.catalog.records import DECODED_MAX, UNDECODABLE, corrupt, parse, scan_readable, text_of
from flared.catalog.totals import NOTHING, Counted, CountedPacked
from flared.chunks.chunk import ChunkRecord as ChunkRecord
from flared.errors import ManifestCorrupt
from flared.meta import keys
from flared.meta.kv import DAMAGED
from flared.names import ChunkId, NodeName, chunk_digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flared.meta.kv import KV, Snapshot, Transaction

log = logging.getLogger(__name__)


# Readers


async def find_chunk(kv: KV, chunk: ChunkId) -> ChunkRecord | None:
    return (await find_many(kv, [chunk]))[0]


async def find_many(kv: KV, chunks: Sequence[ChunkId]) -> list[ChunkRecord | None]:
    """The records in the order asked: each was there at a moment since the call, or was not there then."""
    entries = await kv.get_many([keys.chunk(chunk) for chunk in chunks])
    records = [
        None if entry is None else decode(chunk, entry.value) for chunk, entry in zip(chunks, entries, strict=True)
    ]
    if None in records:
        # Packed, or gone. A copy may have given it a row of its own meanwhile, so that is looked for again.
        rest = [chunk for chunk, record in zip(chunks, records, strict=True) if record is None]
        found = iter(await kv.view(lambda snapshot: [read_chunk(snapshot, chunk) for chunk in rest]))
        records = [next(found) if record is None else record for record in records]
    return records


async def find_shared(kv: KV, digest: bytes, scheme: str) -> ChunkRecord | None:
    """The chunk to reference instead of storing the same bytes again, if there is one; it may lack pieces."""
    return await kv.view(lambda snapshot: read_shared(snapshot, digest, scheme))


async def list_chunks(kv: KV, after: ChunkId | None, limit: int, before: str = "") -> list[ChunkRecord]:
    """Chunk records between ``after`` and ``before``, a page at a time, in the order of their ids; fewer than ``limit``
    only at the end. Without ``before`` the end is that of the table.

    One that cannot be read is logged and skipped: it must not keep repair from all behind it.
    """
    # In this order, because a chunk that gets a row of its own meanwhile is then met twice, and never missed.
    aliased = await _list_packed(kv, after, limit, before)
    start, end = keys.under(b"chunk/")
    if after is not None:
        start = keys.after(keys.chunk(after))
    if before:
        end = keys.chunk(before)
    rows = await scan_readable(kv, start, end, limit, lambda key, value: decode(chunk_of(key), value))
    found = {record.id: record for record in merge(aliased, rows, key=lambda record: record.id)}
    return list(islice(found.values(), limit))


async def _list_packed(kv: KV, after: ChunkId | None, limit: int, before: str) -> list[ChunkRecord]:
    start = keys.after(packed.first_alias(after)) if after is not None else b""
    end = packed.first_alias(before) if before else packed.CHUNK_ALIASES_END
    records: list[ChunkRecord] = []
    while len(records) < limit:
        wanted = limit - len(records)
        rows = await kv.scan_aliases(start, end, wanted)
        for _, key, value in rows:
            try:
                records += [] if value == DAMAGED else [_decode_packed(key, value)]
            except ManifestCorrupt as error:
                log.error("event=record_unreadable key=%r message=%r", key, str(error))
        if len(rows) < wanted:
            break
        start = keys.after(rows[-1][0])
    return records


async def list_repairs(kv: KV, after: ChunkId | None, limit: int, before: str = "") -> list[ChunkId]:
    """Chunks with pieces missing, between ``after`` and ``before`` as in ``list_chunks``."""
    start, end = keys.under(b"repair/")
    if after is not None:
        start = keys.after(keys.repair(after))
    if before:
        end = keys.repair(before)
    return await scan_readable(kv, start, end, limit, lambda key, _: chunk_of(key))


def read_chunk(snapshot: Snapshot, chunk: ChunkId) -> ChunkRecord | None:
    row = _find_row(snapshot, chunk)
    return None if row is None else row.record


def read_shared(snapshot: Snapshot, digest: bytes, scheme: str) -> ChunkRecord | None:
    value = snapshot.get(keys.shared(digest, scheme))
    return None if value is None else read_chunk(snapshot, ChunkId(value.decode()))


# Changes


def create_chunk(tx: Transaction, record: ChunkRecord) -> None:
    """Record a chunk of a fresh generation, never used before, with one reference: its creator's.

    Nothing is looked up; for chunks too small to be shared.
    """
    assert record.references == 1, "a chunk is created by what references it"
    _write(tx, record)
    tx.note(Counted(keys.chunk(record.id), NOTHING, record.stored))


def create_packed_chunk(tx: Transaction, record: ChunkRecord) -> None:
    """The same for a chunk whose record the caller writes into the row of its object in this transaction."""
    assert record.references == 1, "a chunk is created by what references it"
    if record.missing:
        tx.put(keys.repair(record.id), b"1")
    tx.note(CountedPacked(packed.alias_of_chunk(record.id), NOTHING, record.stored))


def create_shared_chunk(
    tx: Transaction, record: ChunkRecord, due_ms: int, *, unfit: ChunkId | None = None
) -> ChunkRecord:
    """Record a chunk that others may share, or reference the one that another creator recorded first.

    The loser's pieces are condemned. ``unfit`` is the chunk that was looked up before and found to lack too much to
    be shared: ours takes its place. Either way the record that is returned holds one reference more.
    """
    digest = chunk_digest(record.id)
    winner = read_shared(tx, digest, record.scheme)
    if winner is not None and winner.id != unfit and not winner.missing:
        garbage.condemn_pieces(tx, record.id, record.pieces, due_ms)
        return _reference(tx, winner)
    create_chunk(tx, record)
    tx.put(keys.shared(digest, record.scheme), record.id.encode())
    return record


def add_reference(tx: Transaction, chunk: ChunkId) -> bool:
    """Reference a chunk that is there; False if it is gone: condemned generations never come back."""
    row = _find_row(tx, chunk)
    if row is None:
        return False
    if row.packed is None:
        _reference(tx, row.record)
    else:
        _unpack(tx, row, row.packed)
    return True


def release_reference(tx: Transaction, chunk: ChunkId, due_ms: int) -> None:
    """Give a reference back. With the last one the chunk becomes garbage, due at ``due_ms``.

    A chunk without a record has nothing to release: what names it must be deletable still.
    """
    record = read_chunk(tx, chunk)
    if record is None:
        return
    if record.references < 1:
        raise ManifestCorrupt(f"the chunk {chunk} is referenced but counts no reference")
    if record.references > 1:
        _write(tx, record._replace(references=record.references - 1))
        return
    _write(tx, record._replace(references=0, due_ms=due_ms))
    garbage.add(tx, Garbage(due_ms, CHUNK, chunk))


def release_packed(tx: Transaction, record: ChunkRecord, due_ms: int) -> None:
    """The same for a packed chunk, whose object's row is replaced or deleted in this transaction."""
    row = packed.encode(
        record.id,
        record.size,
        record.stored,
        0,
        0.0,
        record.codec,
        "",
        "",
        record.scheme,
        record.nodes,
        {},
        record.missing,
    )
    tx.put(keys.garbage(due_ms, CHUNK, record.id), row)


def update_placement(tx: Transaction, chunk: ChunkId, expected: ChunkRecord, new: ChunkRecord) -> bool:
    """Record the nodes and missing pieces of ``new``, if the recorded ones are still those of ``expected``.

    Return False, and change nothing, if they are not, or if the chunk is gone. References stay as they are now.
    """
    row = _find_row(tx, chunk)
    if row is None or (row.record.nodes, row.record.missing) != (expected.nodes, expected.missing):
        return False
    had_missing = bool(row.record.missing)
    if row.packed is None:
        _write(tx, row.record._replace(nodes=new.nodes, missing=new.missing), had_missing=had_missing)
    else:
        tx.put(row.key, packed.placed(row.packed, new.nodes, new.missing))
        _note_missing(tx, chunk, lacking=bool(new.missing), had_missing=had_missing)
    return True


def condemn_chunk(tx: Transaction, item: Garbage, now_ms: int) -> Garbage | None:
    """Delete the record of a chunk without references since ``item`` was written. Return the condemned item left.

    From this transaction on nothing can reference the generation, so its pieces may be deleted at any later time.
    None if the item is gone (the chunk was referenced meanwhile), or if there is no piece to delete.
    """
    if not garbage.exists(tx, item):
        return None
    # The item goes in any case: one whose record says otherwise is left over.
    tx.reclaim()
    chunk = ChunkId(item.id)
    row = _find_row(tx, chunk)  # before the item goes, which may be the row
    garbage.remove(tx, item)
    if row is None or row.record.references or row.record.due_ms != item.due_ms:
        return None
    record = row.record
    # With the record go all keys by which the chunk could be found, and so referenced again.
    tx.delete(row.key)
    if record.missing:
        tx.delete(keys.repair(chunk))
    shared = keys.shared(chunk_digest(chunk), record.scheme)
    if tx.get(shared) == chunk.encode():
        tx.delete(shared)
    tx.note(_gone(row))
    if not record.pieces:
        return None
    condemned = Garbage(now_ms, CONDEMNED, chunk, record.pieces)
    garbage.add(tx, condemned)
    return condemned


def _reference(tx: Transaction, record: ChunkRecord) -> ChunkRecord:
    if not record.references:
        garbage.remove(tx, Garbage(record.due_ms, CHUNK, record.id))
    record = record._replace(references=record.references + 1, due_ms=0)
    _write(tx, record)
    return record


def _write(tx: Transaction, record: ChunkRecord, *, had_missing: bool = False) -> None:
    tx.put(keys.chunk(record.id), encode(record))
    _note_missing(tx, record.id, lacking=bool(record.missing), had_missing=had_missing)


def _note_missing(tx: Transaction, chunk: ChunkId, *, lacking: bool, had_missing: bool) -> None:
    if lacking:
        tx.put(keys.repair(chunk), b"1")
    elif had_missing:
        tx.delete(keys.repair(chunk))


def _unpack(tx: Transaction, row: _Row, value: bytes) -> None:
    """Give a packed chunk a row of its own, with one reference more."""
    if row.record.references:
        tx.put(row.key, packed.alone(value))
    else:
        tx.delete(row.key)
    record = row.record._replace(references=row.record.references + 1, due_ms=0)
    tx.put(keys.chunk(record.id), encode(record))
    tx.note(_gone(row))
    tx.note(Counted(keys.chunk(record.id), NOTHING, record.stored))


class _Row(NamedTuple):
    """Where the record of a chunk stands."""

    key: bytes
    record: ChunkRecord
    packed: bytes | None
    """The value of a packed row."""


def _find_row(snapshot: Snapshot, chunk: ChunkId) -> _Row | None:
    key = keys.chunk(chunk)
    value = snapshot.get(key)
    if value is not None:
        return _Row(key, decode(chunk, value), None)
    found = packed.find(snapshot, chunk)
    return None if found is None else _Row(found[0], _decode_packed(*found), found[1])


def _gone(row: _Row) -> Counted | CountedPacked:
    """The note that the record is not where it was."""
    stored = row.record.stored
    if row.packed is None:
        return Counted(row.key, stored, NOTHING)
    return CountedPacked(packed.alias_of_chunk(row.record.id), stored, NOTHING)


# Encoding


def encode(record: ChunkRecord) -> bytes:
    text = (
        f'1{{"t":{record.stored},"s":{record.size},"c":{record.codec},"m":"{record.scheme}",'
        f'"r":{record.references},"n":{_encode_nodes(record.nodes)}'
    )
    if record.missing:
        text += f',"x":[{",".join(map(str, record.missing))}]'
    if record.due_ms:
        text += f',"d":{record.due_ms}'
    return (text + "}").encode()


@lru_cache(DECODED_MAX)
def decode(chunk: ChunkId, value: bytes) -> ChunkRecord:
    """Raises ManifestCorrupt."""
    try:
        fields = parse(text_of(value), 1)[0]
        return ChunkRecord(
            chunk,
            fields["s"],
            fields["t"],
            fields["c"],
            fields["m"],
            fields["r"],
            tuple(fields["n"]),
            tuple(fields["x"]) if "x" in fields else (),
            fields.get("d", 0),
        )
    except UNDECODABLE as error:
        raise corrupt(f"the chunk {chunk}", error) from error


def _decode_packed(key: bytes, value: bytes) -> ChunkRecord:
    """The record in a packed row. Raises ManifestCorrupt."""
    try:
        row = packed.decode(value)
        item = garbage.decode(key, value) if key.startswith(b"garbage/") else None
    except UNDECODABLE as error:
        raise corrupt(f"the chunk of {key!r}", error) from error
    return record_of(row) if item is None else record_of(row, 0, item.due_ms)


def record_of(row: Packed, references: int = 1, due_ms: int = 0) -> ChunkRecord:
    return ChunkRecord(
        row.chunk, row.size, row.stored, row.codec, row.scheme, references, row.nodes, row.missing, due_ms
    )


def chunk_of(key: bytes) -> ChunkId:
    """The chunk of a ``chunk/`` or ``repair/`` key."""
    return ChunkId(key.partition(b"/")[2].decode())


@lru_cache(4096)  # a cluster has few sets of nodes, and every put encodes one of them
def _encode_nodes(nodes: tuple[NodeName | None, ...]) -> str:
    return "[" + ",".join("null" if node is None else f'"{node}"' for node in nodes) + "]"
