"""Chunk ids as Flare made them before format 2 of the metadata: the digest first, then 64 random bits.

The chunk of a small object has a record of its own then, as before format 3.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING
from unittest import mock

from flared.chunks import write
from flared.names import ChunkId, chunk_id
from flared.objects import small_put
from flared.objects.commit import PutResult, Target, put_manifest, put_packed, record_chunk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flared.chunks.chunk import ChunkRecord
    from flared.meta.kv import Transaction


def old_chunk_id(digest: bytes, generation: int) -> ChunkId:
    return ChunkId(f"{digest.hex()}.{generation:016x}")


@contextmanager
def old_ids(is_old: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """Inside of the block chunks get such ids, or only those of which ``is_old`` says so."""

    def draw(digest: bytes, now_ms: int, random_bits: int) -> ChunkId:
        return old_chunk_id(digest, random_bits) if is_old() else chunk_id(digest, now_ms, random_bits)

    def put(tx: Transaction, target: Target, chunk: ChunkRecord, etag: str, now: float) -> PutResult:
        if chunk.id[0] == "t":
            return put_packed(tx, target, chunk, etag, now)
        return put_manifest(tx, target, chunk.size, etag, now, chunk=record_chunk(chunk, False, None, 0, tx))

    with mock.patch.object(write, "chunk_id", draw), mock.patch.object(small_put, "put_packed", put):
        yield
