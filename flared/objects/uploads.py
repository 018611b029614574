"""Uploads in parts: begin one, abort it, list them and their parts. ``upload_part`` and ``complete_upload`` have a file
each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flared.catalog import uploads as catalog
from flared.catalog.uploads import Part, Upload, UploadId, UploadPage, read_upload, retire
from flared.objects.store import Store, due_ms, now_ms

if TYPE_CHECKING:
    from flared.meta.kv import Transaction
    from flared.names import BucketName, ObjectName
    from flared.objects.commit import ObjectHeaders

PARTS_LISTED_MAX = 1000
UPLOADS_LISTED_MAX = 1000


async def create_upload(
    store: Store,
    name: ObjectName,
    *,
    headers: ObjectHeaders,
    owner: str = "",
    algorithm: str = "",
    full_object: bool = False,
) -> Upload:
    """Begin an upload of an object with these headers; nothing of it is seen before it is completed.

    ``algorithm`` (of ``digests.CHECKSUMS``) is computed for each part, and for the object when it is completed: of its
    bytes if ``full_object`` (a CRC), else of the parts' checksums. Raises NoSuchBucket, and Busy while the bucket is
    being removed.
    """
    now = now_ms(store)
    upload = Upload(
        name,
        UploadId(f"{now:012x}{store.random_bits(80):020x}"),
        now,
        0,
        headers.content_type,
        headers.user,
        headers.details,
        owner,
        algorithm,
        full_object,
    )

    def decide(tx: Transaction) -> Upload:
        store.chunks.nodes.refuse_while_halted()
        return catalog.create_upload(tx, upload, now)

    return await store.kv.transact(decide)


async def abort_upload(store: Store, name: ObjectName, upload: UploadId) -> None:
    """End an upload; its parts become garbage. A part that is on its way finds no upload and is refused.

    Durable when it returns, also on a full disk. Raises NoSuchBucket and NoSuchUpload.
    """
    due = due_ms(store)

    def decide(tx: Transaction) -> None:
        store.chunks.nodes.refuse_while_halted()
        retire(tx, read_upload(tx, name, upload), (), due)

    await store.kv.transact(decide)


async def list_parts(
    store: Store, name: ObjectName, upload: UploadId, *, after: int = 0, limit: int = PARTS_LISTED_MAX
) -> tuple[Upload, list[Part], bool]:
    """The upload, its first ``limit`` parts with numbers beyond ``after``, and whether there are more.

    Raises NoSuchBucket and NoSuchUpload.
    """
    begun = await catalog.find_upload(store.kv, name, upload)
    limit = min(limit, PARTS_LISTED_MAX)
    found = await catalog.list_parts(store.kv, upload, after, limit + 1)
    return begun, found[:limit], len(found) > limit


async def list_uploads(
    store: Store,
    bucket: BucketName,
    *,
    prefix: str = "",
    delimiter: str = "",
    after: tuple[str, str] = ("", ""),
    limit: int = UPLOADS_LISTED_MAX,
) -> UploadPage:
    """One page of the uploads of a bucket, as ``catalog.uploads.list_uploads`` has it. Raises NoSuchBucket."""
    limit = min(limit, UPLOADS_LISTED_MAX)
    return await catalog.list_uploads(store.kv, bucket, prefix=prefix, delimiter=delimiter, after=after, limit=limit)
