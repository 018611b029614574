"""Store chunk: reference the chunk that has the same bytes already, or write a new one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import trio

from flared.catalog.chunks import ChunkRecord, add_reference, find_shared, read_chunk
from flared.chunks.scheme import parse_scheme
from flared.chunks.write import write_chunk
from flared.data.pieces import LARGE_SIZE
from flared.names import ChunkId
from flared.objects.commit import Attach, record_chunk
from flared.objects.store import Store, due_ms

if TYPE_CHECKING:
    from flared.catalog.buckets import Bucket
    from flared.chunks.chunk import Chunks
    from flared.meta.kv import Transaction

R = TypeVar("R")


class _Gone(Exception):  # a signal inside this file, never an error
    """The chunk to be shared was condemned meanwhile, or lost pieces."""


async def store_chunk(
    store: Store,
    bucket: Bucket,
    plain: bytes | memoryview,
    digest: bytes,
    record: Callable[[Attach], Awaitable[tuple[R, ChunkId]]],
) -> R:
    """Find the chunk or write it, and ``record`` it in a transaction of the caller's, which says which chunk it used.

    Raises Unavailable when a quorum is not there, and what ``record`` raises; then what was sent is left to the sweep.
    """
    chunks = store.chunks
    shared = len(plain) >= LARGE_SIZE
    scheme = parse_scheme(bucket.scheme).for_size(len(plain))
    known = await find_shared(store.kv, digest, scheme.text) if shared else None
    if known is not None and _is_sound(chunks, known):
        try:
            return (await record(partial(_share, known)))[0]
        except _Gone:
            known = None
    chunk = await write_chunk(chunks, plain, digest, scheme=scheme, compress=bucket.compress)
    try:
        create = partial(record_chunk, chunk, shared, known.id if known else None, due_ms(store))
        result, used = await record(create)
    except BaseException:
        chunks.in_flight.abandon(chunk.id, chunk.pieces, trio.current_time())
        raise
    # A loser's pieces are condemned in the winner's favour by the same transaction.
    chunks.in_flight.release(chunk.id)
    if used == chunk.id and chunk.missing:
        store.degraded()
    return result


def _share(known: ChunkRecord, tx: Transaction) -> ChunkId:
    now = read_chunk(tx, known.id)
    if now is None or (now.nodes, now.missing) != (known.nodes, known.missing) or not add_reference(tx, known.id):
        raise _Gone
    return known.id


def _is_sound(chunks: Chunks, known: ChunkRecord) -> bool:
    """Return whether pieces up to the write quorum lie on nodes that answer, none of them known to be damaged, and none
    may have been on a volume that has failed."""
    sound = [
        number
        for number, node in enumerate(known.nodes)
        if number not in known.missing
        and chunks.nodes.has_all_recorded(node)
        and not chunks.damage.holds(known.id, number)
    ]
    return len(sound) >= parse_scheme(known.scheme).quorum
