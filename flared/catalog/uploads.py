"""Uploads in parts that are not complete yet, and their parts.

    upload/{bucket}/{key}\\0{upload}  "1" {"t": created ms, "b": the bucket was created ms, "y": content type
                                          ["u": {name: value}] ["d": details] ["o": who began it]
                                          ["a": checksum algorithm] ["f": 1, the checksum is of the whole object]
                                          ["p": parent being assembled]}
    part/{upload}/{number}           "1" {"x": [extent, size, chunks, chunk size], "e": etag, "m": modified ms
                                          ["h": checksum]}

A part holds the one reference of its extent. Completing an upload *assembles* a parent: it notes the parent in the
upload, copies the parts into the parent's pages, and in the last transaction seals the parent, puts the manifest and
*retires* the upload. Every change of a part wipes the note off, so what was assembled is what is there, or the last
transaction fails.

Retiring deletes the upload's record, from which moment on no part of it changes, and leaves an item:

    garbage/{due}/upload/{upload}    "1" {"n": bits of the part numbers whose extents a parent owns now, hex}

The sweep deletes the part records page by page, and releases the extents of those that no parent owns.
"""

from __future__ import annotations

import json
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, NewType

from flared.catalog import details, extents, garbage
from flared.catalog.buckets import find_bucket, read_bucket, writable_bucket
from flared.catalog.garbage import UPLOAD, Garbage
from flared.catalog.lister import Lister
from flared.catalog.manifest import ExtentId, ExtentRef
from flared.catalog.records import UNDECODABLE, corrupt, parse, quote, scan_readable, text_of
from flared.errors import NoSuchBucket, NoSuchUpload, RowCorrupt
from flared.meta import keys
from flared.meta.kv import DAMAGED
from flared.names import BucketName, ObjectKey, ObjectName

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flared.catalog.buckets import Bucket
    from flared.catalog.details import Details
    from flared.meta.kv import KV, Snapshot, Transaction

UploadId = NewType("UploadId", str)
"""32 hex digits: 12 of the time it began at, in ms, and 80 random bits. So the uploads of a key order by their age."""

PART_NUMBER_MAX = 10_000


class Upload(NamedTuple):
    name: ObjectName
    id: UploadId
    created_ms: int
    bucket_ms: int
    """When its bucket was created. One that was removed and created again has none of its uploads."""
    content_type: str
    user: dict[str, str]
    details: Details | None = None
    owner: str = ""
    """The name of the key that began it; empty: the cluster."""
    algorithm: str = ""
    """Of the checksum that each part has (``objects.digests``); empty: none."""
    full_object: bool = False
    """The object's checksum is that of its bytes; if not, one made of those of its parts."""
    parent: ExtentId | None = None
    """Being assembled from the parts as they are."""


class Part(NamedTuple):
    number: int
    """1 to PART_NUMBER_MAX."""
    extent: ExtentRef
    etag: str
    """MD5 of its bytes, in hex."""
    modified_ms: int
    checksum: str = ""
    """In base64, by the upload's algorithm; empty if it has none."""


# Readers


def read_upload(snapshot: Snapshot, name: ObjectName, upload: UploadId) -> Upload:
    """Raises NoSuchBucket and NoSuchUpload."""
    bucket = read_bucket(snapshot, name.bucket)
    if bucket is None:
        raise NoSuchBucket(f"there is no bucket {name.bucket}")
    return _read_of(snapshot, bucket, name, upload)


async def find_upload(kv: KV, name: ObjectName, upload: UploadId) -> Upload:
    """Raises NoSuchBucket and NoSuchUpload."""
    return await kv.view(lambda snapshot: read_upload(snapshot, name, upload))


async def list_parts(kv: KV, upload: UploadId, after: int, limit: int) -> list[Part]:
    """The first ``limit`` parts with numbers beyond ``after``. Raises ManifestCorrupt: none may be passed over."""
    start, end = keys.part(upload, after + 1), keys.part(upload, PART_NUMBER_MAX + 1)
    return [_decode_row(key, value) for key, value in await kv.scan(start, end, limit)]


async def list_all_uploads(kv: KV, after: bytes, limit: int) -> list[tuple[bytes, Upload]]:
    """Uploads of all buckets behind this key, with their keys; one that cannot be read is logged and skipped."""
    start, end = keys.under(b"upload/")
    return await scan_readable(kv, max(start, keys.after(after)), end, limit, lambda key, row: (key, decode(key, row)))


class UploadPage(NamedTuple):
    uploads: tuple[Upload, ...]
    prefixes: tuple[str, ...]
    next: tuple[str, str] | None
    """To go on behind: a key and an upload's id, or a prefix and nothing; None if there is no more."""


async def list_uploads(
    kv: KV,
    bucket: BucketName,
    *,
    prefix: str = "",
    delimiter: str = "",
    after: tuple[str, str] = ("", ""),
    limit: int = 1000,
) -> UploadPage:
    """One page of the uploads of a bucket, by key and then by age; common prefixes as in ``objects.list_page``.

    ``after`` is a key, and the id of one of its uploads, or nothing: then all uploads of the key are passed over.
    Raises NoSuchBucket.
    """
    now = await find_bucket(kv, bucket)
    key, upload = after
    position = f"{key}\0{upload}".encode() if upload else key.encode()
    lister = Lister(keys.uploads(bucket), prefix.encode(), delimiter.encode(), position, limit)
    if limit > 0:
        await kv.walk(lister.start, lister.end, lister.page, lister.visit)
    found = [decode(keys.uploads(bucket) + key, value) for key, value in lister.rows if value != DAMAGED]
    last, _, identity = lister.last.decode(errors="backslashreplace").partition("\0")
    return UploadPage(
        tuple(upload for upload in found if upload.bucket_ms == now.created_ms),
        tuple(prefix.decode(errors="backslashreplace") for prefix in lister.prefixes),
        (last, identity) if lister.more else None,
    )


# Changes


def create_upload(tx: Transaction, upload: Upload, now_ms: int) -> Upload:
    """Begin an upload; ``bucket_ms`` is set here. Raises NoSuchBucket, and Busy while the bucket is being removed."""
    bucket = writable_bucket(tx, upload.name.bucket, now_ms)
    upload = upload._replace(bucket_ms=bucket.created_ms)
    _write(tx, upload)
    return upload


def put_part(tx: Transaction, name: ObjectName, upload: UploadId, part: Part, now_ms: int, due_ms: int) -> None:
    """Put a part, whose extent was given its one reference in this transaction; one with its number is replaced.

    Raises NoSuchBucket, NoSuchUpload, and Busy while the bucket is being removed.
    """
    now = _read_of(tx, writable_bucket(tx, name.bucket, now_ms), name, upload)
    if now.parent is not None:  # what is being assembled is not what is there any more
        _write(tx, now._replace(parent=None))
    _release_part(tx, upload, part.number, due_ms)
    tx.put(keys.part(upload, part.number), encode_part(part))


def begin_assembly(tx: Transaction, name: ObjectName, upload: UploadId, parent: ExtentId) -> Upload:
    """Note that ``parent`` is assembled from the parts as they are. An earlier assembly will fail at its end."""
    now = read_upload(tx, name, upload)._replace(parent=parent)
    _write(tx, now)
    return now


def retire(tx: Transaction, upload: Upload, owned: Sequence[int], due_ms: int) -> None:
    """End the upload: completed, with these parts owned by its parent now, or aborted. The sweep does the rest.

    The caller has read the upload in this transaction.
    """
    tx.reclaim()
    tx.delete(keys.upload(*upload.name, upload.id))
    tx.put(keys.garbage(due_ms, UPLOAD, upload.id), encode_owned(owned))


# Changes by upkeep


def retire_as_read(tx: Transaction, key: bytes, upload: Upload, due_ms: int) -> bool:
    """Abort an upload whose record is still as it was read; False if it is not. Its bucket may be gone."""
    if tx.get(key) != encode(upload):
        return False
    retire(tx, upload, (), due_ms)
    return True


async def release_parts(kv: KV, item: Garbage, due_ms: int, limit: int, after: bytes = b"") -> bytes | None:
    """Delete up to ``limit`` part records of a retired upload. Return where to go on ``after``; None: the item is gone.

    The extents that no parent owns are released in the same transaction; ``due_ms`` is for those. Nothing is done
    twice: each part goes with its record.
    """
    upload = UploadId(item.id)
    start, end = keys.part(upload, 0), keys.part(upload, PART_NUMBER_MAX + 1)
    found = [key for key, _ in await kv.scan(max(start, keys.after(after)), end, limit)]
    await kv.transact(partial(_release_parts, item=item, found=found, due_ms=due_ms))
    return found[-1] if found else None


def _release_parts(tx: Transaction, *, item: Garbage, found: Sequence[bytes], due_ms: int) -> None:
    value = tx.get(item.key)
    if value is None:
        return
    tx.reclaim()
    owned = decode_owned(item.key, value)
    for key in found:
        digits = key.rpartition(b"/")[2]
        if not digits.isdigit():  # of a damaged row even the key may be wrong: then it stays
            continue
        if int(digits) not in owned:
            _release_part(tx, UploadId(item.id), int(digits), due_ms)
        tx.delete(key)
    if not found:  # no part can have come since: there is no upload that it could be put into
        garbage.remove(tx, item)


def _release_part(tx: Transaction, upload: UploadId, number: int, due_ms: int) -> None:
    """Give back the extent of a part whose record is replaced or deleted. A damaged one may go; its extent stays."""
    with suppress(RowCorrupt):
        value = tx.get(keys.part(upload, number))
        if value is not None:
            extents.release_reference(tx, decode_part(upload, number, value).extent.id, due_ms)


def _read_of(snapshot: Snapshot, bucket: Bucket, name: ObjectName, upload: UploadId) -> Upload:
    key = keys.upload(*name, upload)
    value = snapshot.get(key)
    found = None if value is None else decode(key, value)
    if found is None or found.bucket_ms != bucket.created_ms:
        raise NoSuchUpload(f"there is no upload {upload} of {name.key!r}: it was completed or aborted, or never begun")
    return found


def _write(tx: Transaction, upload: Upload) -> None:
    tx.put(keys.upload(*upload.name, upload.id), encode(upload))


# Encoding


def encode(upload: Upload) -> bytes:
    text = f'1{{"t":{upload.created_ms},"b":{upload.bucket_ms},"y":{quote(upload.content_type)}'
    if upload.user:
        text += f',"u":{json.dumps(upload.user, separators=(",", ":"))}'
    if upload.details is not None:
        text += f',"d":{details.encode(upload.details)}'
    if upload.owner:
        text += f',"o":{quote(upload.owner)}'
    if upload.algorithm:
        text += f',"a":"{upload.algorithm}"'
    if upload.full_object:
        text += ',"f":1'
    if upload.parent is not None:
        text += f',"p":"{upload.parent}"'
    return (text + "}").encode()


def decode(key: bytes, value: bytes) -> Upload:
    """Raises ManifestCorrupt."""
    try:
        path, _, upload = key.decode().partition("\0")
        _, bucket, name = path.split("/", 2)
        fields = parse(text_of(value), 1)[0]
        get = fields.get
        return Upload(
            ObjectName(BucketName(bucket), ObjectKey(name)),
            UploadId(upload),
            fields["t"],
            fields["b"],
            fields["y"],
            get("u") or {},
            details.decode(fields["d"]) if "d" in fields else None,
            get("o", ""),
            get("a", ""),
            bool(get("f")),
            get("p"),
        )
    except UNDECODABLE as error:
        raise corrupt(f"the upload {key!r}", error) from error


def encode_part(part: Part) -> bytes:
    extent = json.dumps(part.extent[:4], separators=(",", ":"))
    text = f'1{{"x":{extent},"e":{quote(part.etag)},"m":{part.modified_ms}'
    if part.checksum:
        text += f',"h":{quote(part.checksum)}'
    return (text + "}").encode()


def decode_part(upload: UploadId, number: int, value: bytes) -> Part:
    """Raises ManifestCorrupt."""
    try:
        fields = parse(text_of(value), 1)[0]
        return Part(number, ExtentRef(*fields["x"]), fields["e"], fields["m"], fields.get("h", ""))
    except UNDECODABLE as error:
        raise corrupt(f"part {number} of the upload {upload}", error) from error


def _decode_row(key: bytes, value: bytes) -> Part:
    if value == DAMAGED:
        raise RowCorrupt(key)
    _, upload, number = key.decode().split("/")
    return decode_part(UploadId(upload), int(number), value)


def encode_owned(numbers: Sequence[int]) -> bytes:
    bits = 0
    for number in numbers:
        bits |= 1 << number
    return b'1{"n":"%x"}' % bits


def decode_owned(key: bytes, value: bytes) -> frozenset[int]:
    """Raises ManifestCorrupt."""
    try:
        bits = int(parse(text_of(value), 1)[0]["n"], 16)
    except UNDECODABLE as error:
        raise corrupt(f"garbage {key!r}", error) from error
    return frozenset(number for number in range(bits.bit_length()) if bits >> number & 1)
