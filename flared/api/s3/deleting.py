"""Delete many objects by one request."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

from flared.access.authorize import Action
from flared.api.callers import authorize_also
from flared.api.face import on_bucket
from flared.api.s3.answers import send_xml
from flared.api.s3.checksums import promised_checksums, promised_md5, take_digests
from flared.api.s3.errors import S3Error, code_of, message_of
from flared.api.s3.locking import may_bypass
from flared.api.s3.versions import parse_version, show_version
from flared.api.s3.xml import MalformedXml, document, element, group, parse_xml
from flared.catalog.buckets import find_bucket
from flared.chunks.chunker import OWN_SIZE
from flared.errors import BadDigest, FlareError, SlowDown
from flared.names import ObjectName, parse_key
from flared.objects.conditions import UNCONDITIONAL, Conditions
from flared.objects.delete import delete_object, delete_version
from flared.objects.digests import BodyDigests

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flared.api.face import Handler
    from flared.api.s3.xml import Element
    from flared.catalog.objects import Deletion
    from flared.chunks.budget import MemoryBudget
    from flared.http.messages import Reply, Request
    from flared.names import BucketName
    from flared.objects.store import Store

KEYS_MAX = 1000
BODY_BYTES_MAX = 4 * 1024 * 1024
"""1,000 keys of 1,024 bytes, each of which may be a reference of six characters."""
AT_ONCE = 64
"""Deletes under way of one request; they share the syncs of the metadata."""


def deleting_handlers(store: Store) -> dict[str, Handler]:
    calls = DeletingCalls(store)
    return {"DeleteObjects": on_bucket(calls.delete_many)}


class DeletingCalls:
    """The calls, over one Store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def delete_many(self, request: Request, reply: Reply, bucket: BucketName) -> None:
        size = request.body.length
        with reserved(self._store.chunks.stages, BODY_BYTES_MAX if size is None else size):
            root = parse_xml(await read_checked(request, BODY_BYTES_MAX), "Delete")
            await self._delete_all(request, reply, bucket, root)

    async def _delete_all(self, request: Request, reply: Reply, bucket: BucketName, root: Element) -> None:
        entries = root.find_all("Object")
        if not 1 <= len(entries) <= KEYS_MAX:
            raise MalformedXml("The XML you provided names no key, or more than 1000")
        quiet = root.text_of("Quiet").strip().lower() == "true"
        await find_bucket(self._store.kv, bucket)
        answers = [""] * len(entries)
        limit = trio.CapacityLimiter(AT_ONCE)

        async def delete(number: int, entry: Element) -> None:
            async with limit:
                answers[number] = await self._delete_one(request, bucket, entry, quiet=quiet)

        async with trio.open_nursery() as nursery:
            for number, entry in enumerate(entries):
                nursery.start_soon(delete, number, entry)
        await send_xml(reply, document("DeleteResult", answers))

    async def _delete_one(self, request: Request, bucket: BucketName, entry: Element, *, quiet: bool) -> str:
        """Delete what an entry names. Return what is said of it."""
        key, version_id = entry.text_of("Key"), entry.text_of("VersionId")
        try:
            name = ObjectName(bucket, parse_key(key))
            version = parse_version(version_id)
            authorize_also(request, Action.DELETE, name, version=version)
            when = _conditions(entry)
            if version is None:
                done = await delete_object(self._store, name, when)
            else:
                bypass = may_bypass(request, bucket)
                done = await delete_version(self._store, name, version, when, bypass_governance=bypass)
        except FlareError as error:
            return group(
                "Error",
                (
                    element("Key", key),
                    *([element("VersionId", version_id)] if version_id else []),
                    element("Code", code_of(error)),
                    element("Message", message_of(error)),
                ),
            )
        return "" if quiet else group("Deleted", (element("Key", key), *_describe(done, version_id)))


def _describe(done: Deletion, version_id: str) -> list[str]:
    """Return the elements about the version that a delete names, and about a delete marker that it made or deleted."""
    inside = [element("VersionId", version_id)] if version_id else []
    if done.marker is not None:
        inside += [element("DeleteMarker", True), element("DeleteMarkerVersionId", show_version(done.marker))]
    return inside


def _conditions(entry: Element) -> Conditions:
    etag = entry.text_of("ETag").strip().strip('"')
    return Conditions(if_match=(etag,)) if etag else UNCONDITIONAL


@contextmanager
def reserved(budget: MemoryBudget, size: int) -> Iterator[None]:
    """Hold room for a document of ``size`` bytes and what is parsed of it, beside what every client has. Raise SlowDown
    if there is none: a thousand clients with such documents would take gigabytes."""
    if size <= OWN_SIZE:
        yield
        return
    amount = min(2 * size, budget.total // 4)
    if not budget.reserve_nowait(amount):
        raise SlowDown("the memory for documents is in use")
    try:
        yield
    finally:
        budget.give_back(amount)


async def read_checked(request: Request, limit: int) -> bytes:
    """Return a body that has to come with a digest of itself. Raises S3Error and BadDigest."""
    fields = request.fields
    _, digests = take_digests(fields, request.body)
    if promised_md5(fields) is None and not promised_checksums(fields) and digests.late is None:
        raise S3Error("InvalidRequest", "Missing required header for this request: Content-MD5")
    content = await request.body.read_all(limit)
    passing = BodyDigests(digests)
    passing.update(content)
    try:
        passing.finish()
    except BadDigest as error:
        raise S3Error(
            "BadDigest", f"The {error.algorithm.upper()} you specified did not match what we received."
        ) from error
    return content
