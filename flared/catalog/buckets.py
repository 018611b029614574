"""Buckets: their settings, and a removal that no put can slip into.

    record = "1" {"t": created ms, "m": scheme, "k": chunk size, "z": 1 if chunks are compressed, else 0
                  ["o": owner, the name of an access key, "p": 1 if all objects are public, "a": canned ACL,
                   "b": bits of its public access block]
                  ["r": being removed until ms] ["d": [kinds of its documents]]
                  ["w": 1 if versioning is enabled, 2 if it is suspended]}

Every put reads its bucket's record in its transaction. A removal marks the record, checks that the bucket is
empty, and deletes the record only if its own mark is still there; a marked bucket takes no puts. A removal that died
leaves a mark that runs out: the next put wipes it off, so that a removal that was only slow fails.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import lru_cache
from typing import TYPE_CHECKING

from flared.access.bucket_access import CLOSED, PRIVATE, Acl, Blocks, BucketAccess
from flared.catalog.records import UNDECODABLE, corrupt, parse, quote, text_of
from flared.errors import BucketNotEmpty, Busy, NoSuchBucket
from flared.meta import keys
from flared.names import BucketName

if TYPE_CHECKING:
    from collections.abc import Callable

    from flared.meta.kv import KV, Snapshot, Transaction

REMOVAL_MS = 30_000
"""A removal takes one scan of one key; a slower one is taken for dead."""


class Versioning(IntEnum):
    """Never OFF again once it was enabled."""

    OFF = 0
    ENABLED = 1
    SUSPENDED = 2


@dataclass(frozen=True, slots=True)
class Bucket:
    name: BucketName
    created_ms: int
    scheme: str
    """Written once; never follows the state of the nodes."""
    chunk_size: int
    compress: bool
    access: BucketAccess = CLOSED
    removing_until_ms: int = 0
    documents: tuple[str, ...] = ()
    """The kinds of its documents (``bucket_documents``), in order; readers seek only those."""
    versioning: Versioning = Versioning.OFF

    @property
    def removing(self) -> bool:
        return self.removing_until_ms > 0


async def find_bucket(kv: KV, name: BucketName) -> Bucket:
    """Raises NoSuchBucket."""
    return find_bucket_nowait(kv, name)


def find_bucket_nowait(kv: KV, name: BucketName) -> Bucket:
    """The same in a turn."""
    entry = kv.get_nowait(keys.bucket(name))
    if entry is None:
        raise NoSuchBucket(f"there is no bucket {name}")
    return decode(name, entry.value)


def change_access(tx: Transaction, name: BucketName, change: Callable[[BucketAccess], BucketAccess]) -> Bucket:
    """Have the bucket say something else about access. Raises NoSuchBucket."""
    bucket = read_bucket(tx, name)
    if bucket is None:
        raise NoSuchBucket(f"there is no bucket {name}")
    bucket = replace(bucket, access=change(bucket.access))
    tx.put(keys.bucket(name), encode(bucket))
    return bucket


async def list_buckets(kv: KV, after: str = "", limit: int = 1000, *, prefix: str = "") -> list[Bucket]:
    """In the order of their names, those after ``after`` that begin with ``prefix``."""
    start, end = keys.under(b"bucket/" + prefix.encode())
    rows = await kv.scan(max(start, keys.after(keys.bucket(after))), end, limit)
    return [decode(BucketName(key.decode().partition("/")[2]), value) for key, value in rows]


def create_bucket(tx: Transaction, bucket: Bucket) -> bool:
    """True if it is new. One that is there keeps its settings; a removal under way is called off."""
    old = read_bucket(tx, bucket.name)
    if old is None:
        tx.put(keys.bucket(bucket.name), encode(bucket))
    elif old.removing:
        _unmark(tx, old)
    return old is None


def writable_bucket(tx: Transaction, name: BucketName, now_ms: int) -> Bucket:
    """The bucket, for a transaction that puts something into it. Raises NoSuchBucket; Busy while it is removed."""
    value = tx.get(keys.bucket(name))
    if value is None:
        raise NoSuchBucket(f"there is no bucket {name}")
    bucket = decode(name, value)
    if not bucket.removing_until_ms:
        return bucket
    if bucket.removing_until_ms > now_ms:
        raise Busy(f"the bucket {name} is being removed")
    return _unmark(tx, bucket)


async def remove_bucket(kv: KV, name: BucketName, now_ms: int) -> bool:
    """Remove an empty bucket; False if there is none. Raises BucketNotEmpty, or Busy if a put came in between."""

    def mark(tx: Transaction) -> bytes | None:
        tx.reclaim()
        bucket = read_bucket(tx, name)
        if bucket is None:
            return None
        # Each removal's mark is its own: of two at once, neither takes the other's scan for its own.
        until = max(now_ms + REMOVAL_MS, bucket.removing_until_ms + 1)
        marked = encode(replace(bucket, removing_until_ms=until))
        tx.put(keys.bucket(name), marked)
        return marked

    def finish(tx: Transaction) -> bool:
        tx.reclaim()
        if tx.get(keys.bucket(name)) != marked:
            return False
        if empty:
            for kind in decode(name, marked).documents:
                tx.delete(keys.bucket_document(name, kind))
            tx.delete(keys.bucket(name))
        else:
            _unmark(tx, decode(name, marked))
        return True

    marked = await kv.transact(mark)
    if marked is None:
        return False
    tables = (keys.object_(name, ""), keys.versions(name))
    empty = not any([await kv.scan(*keys.under(table), 1) for table in tables])
    finished = await kv.transact(finish)
    if not empty:
        raise BucketNotEmpty(f"the bucket {name} still holds objects")
    if not finished:
        raise Busy(f"the bucket {name} is in use")
    return True


def set_versioning(tx: Transaction, name: BucketName, versioning: Versioning, now_ms: int) -> Bucket:
    """Raises NoSuchBucket, and Busy while it is removed."""
    bucket = replace(writable_bucket(tx, name, now_ms), versioning=versioning)
    tx.put(keys.bucket(name), encode(bucket))
    return bucket


def read_bucket(snapshot: Snapshot, name: BucketName) -> Bucket | None:
    value = snapshot.get(keys.bucket(name))
    return None if value is None else decode(name, value)


def _unmark(tx: Transaction, bucket: Bucket) -> Bucket:
    bucket = replace(bucket, removing_until_ms=0)
    tx.put(keys.bucket(bucket.name), encode(bucket))
    return bucket


def encode(bucket: Bucket) -> bytes:
    text = f'1{{"t":{bucket.created_ms},"m":{quote(bucket.scheme)},"k":{bucket.chunk_size},"z":{bucket.compress:d}'
    access = bucket.access
    if access.owner:
        text += f',"o":{quote(access.owner)}'
    if access.public:
        text += ',"p":1'
    if access.blocks is not None:
        text += f',"b":{access.blocks.value}'
    if access.acl is not PRIVATE:
        text += f',"a":{quote(access.acl)}'
    if bucket.removing_until_ms:
        text += f',"r":{bucket.removing_until_ms}'
    if bucket.documents:
        text += f',"d":{json.dumps(bucket.documents)}'
    if bucket.versioning:
        text += f',"w":{int(bucket.versioning)}'
    return (text + "}").encode()


@lru_cache(256)  # every put decodes its bucket, and there are few
def decode(name: BucketName, value: bytes) -> Bucket:
    """Raises ManifestCorrupt."""
    try:
        fields = parse(text_of(value), 1)[0]
        blocks = Blocks(fields["b"]) if "b" in fields else None
        access = BucketAccess(fields.get("o", ""), bool(fields.get("p")), Acl(fields.get("a", PRIVATE)), blocks)
        return Bucket(
            name,
            fields["t"],
            fields["m"],
            fields["k"],
            bool(fields["z"]),
            CLOSED if access == CLOSED else access,
            fields.get("r", 0),
            tuple(fields.get("d", ())),
            Versioning(fields.get("w", 0)),
        )
    except UNDECODABLE as error:
        raise corrupt(f"the bucket {name}", error) from error
