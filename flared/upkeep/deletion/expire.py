"""Expire: what the lifecycle rules of buckets let go.

A pass goes over every bucket that has rules, a page of uploads, objects or versions at a time, and begins anew an
hour after it ended. Each deletion is decided in a transaction on what is there then: an object that was written again
or got other tags meanwhile stays, and so does everything once the rules were changed. What goes, goes as by a client's
delete, its chunks after the grace. A crash repeats the pass; a bucket that cannot be read waits for the next one.

The time is the steady one (``steady_clock``): a clock that jumps makes nothing due.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from os.path import commonprefix
from typing import TYPE_CHECKING

import trio

from flared.catalog.bucket_documents import Kind, find_document_nowait
from flared.catalog.buckets import list_buckets
from flared.catalog.objects import delete_object, list_page, read_object
from flared.catalog.uploads import list_uploads, read_upload, retire
from flared.errors import Busy, Damaged, NoSuchBucket, NoSuchUpload, ObjectLocked, RowCorrupt
from flared.objects.delete import delete_version
from flared.objects.lifecycle import decode_rules, find_expiry, find_upload_expiry
from flared.objects.listing import list_versions
from flared.objects.store import due_ms, now_ms
from flared.upkeep.batches import transact_each
from flared.upkeep.deletion.old_versions import VersionWalk
from flared.upkeep.deletion.steady_clock import SteadyClock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flared.catalog.manifest import Manifest
    from flared.catalog.uploads import Upload
    from flared.meta.kv import Transaction
    from flared.names import BucketName
    from flared.objects.lifecycle import Rule
    from flared.objects.store import Store

log = logging.getLogger(__name__)

PAGE = 200
INTERVAL_SECONDS = 3600.0
START_SECONDS = 1.0
"""Until the first grace is over and deletes are possible at all."""


@dataclass(slots=True)
class _Place:
    """Where a pass is in one bucket."""

    bucket: BucketName
    document: bytes
    """The rules, as the bucket had them when the pass began with it."""
    rules: tuple[Rule, ...]
    """Those that are enabled."""
    uploads_done: bool = False
    upload_after: tuple[str, str] = ("", "")
    after: str = ""
    objects_done: bool = False
    walk: VersionWalk | None = None
    """Over the versions of a bucket that keeps them."""
    version_after: tuple[str, int | None] = ("", None)
    done: bool = False
    expired: dict[str, int] = field(default_factory=dict)
    """By rule."""

    @property
    def prefix(self) -> str:
        """What the keys begin with that any rule is about."""
        return commonprefix([rule.prefix for rule in self.rules])  # noqa: RUF071  # keys are not paths


class Expire:
    """A Worker."""

    name = "expire"

    def __init__(self, store: Store) -> None:
        self._store = store
        self._clock = SteadyClock(store)
        self._bucket = ""
        """The last bucket that the pass has dealt with."""
        self._place: _Place | None = None
        self._rests = False
        self.expired = 0
        """Objects and uploads since the start."""

    async def step(self) -> bool:
        steady_ms = self._clock.steady_ms()
        self._rests = bool(steady_ms)
        if not steady_ms:
            return False
        if self._place is None:
            return await self._next_bucket()
        place = self._place
        try:
            if find_document_nowait(self._store.kv, place.bucket, Kind.LIFECYCLE) != place.document:
                place.done = True
            elif not place.uploads_done:
                await self._expire_uploads(place, steady_ms)
            elif not place.objects_done:
                await self._expire_objects(place, steady_ms)
            else:
                await self._expire_versions(place, steady_ms)
        except NoSuchBucket:
            place.done = True
        except Damaged as error:  # what cannot be read must not keep other buckets waiting
            log.error("event=lifecycle_unreadable bucket=%s message=%r", place.bucket, str(error))
            place.done = True
        if place.done:
            for rule, count in place.expired.items():
                log.info("event=lifecycle_expired bucket=%s rule=%r count=%d", place.bucket, rule, count)
            self._place = None
        return True

    async def wait(self) -> None:
        await trio.sleep(INTERVAL_SECONDS if self._rests else START_SECONDS)

    async def _next_bucket(self) -> bool:
        """Go on with the next bucket that has rules; False at the end of the pass."""
        page = await list_buckets(self._store.kv, self._bucket, PAGE)
        for bucket in page:
            self._bucket = bucket.name
            if Kind.LIFECYCLE in bucket.documents:
                try:
                    document = find_document_nowait(self._store.kv, bucket.name, Kind.LIFECYCLE)
                except (Damaged, NoSuchBucket) as error:
                    log.error("event=lifecycle_unreadable bucket=%s message=%r", bucket.name, str(error))
                    continue
                rules = tuple(rule for rule in decode_rules(document or b"[]") if rule.enabled)
                if document is not None and rules:
                    walk = VersionWalk(rules) if bucket.versioning else None
                    self._place = _Place(bucket.name, document, rules, walk=walk)
                    return True
        if len(page) < PAGE:
            self._bucket = ""
            return False
        return True

    async def _expire_uploads(self, place: _Place, steady_ms: int) -> None:
        page = await list_uploads(
            self._store.kv, place.bucket, prefix=place.prefix, after=place.upload_after, limit=PAGE
        )
        due: list[Upload] = []
        for upload in page.uploads:
            expiry = find_upload_expiry(place.rules, upload.name.key, upload.created_ms)
            if expiry is not None and expiry.due_ms <= steady_ms:
                due.append(upload)
                place.expired[expiry.rule] = place.expired.get(expiry.rule, 0) + 1
        garbage_due_ms = due_ms(self._store)

        def abort(tx: Transaction, upload: Upload) -> bool:
            try:
                retire(tx, read_upload(tx, upload.name, upload.id), (), garbage_due_ms)
            except (NoSuchUpload, NoSuchBucket):
                return False
            return True

        self.expired += sum(await transact_each(self._store.kv, due, abort))
        place.uploads_done = page.next is None
        place.upload_after = page.next or ("", "")

    async def _expire_objects(self, place: _Place, steady_ms: int) -> None:
        page = await list_page(self._store.kv, place.bucket, prefix=place.prefix, after=place.after, limit=PAGE)
        due: list[Manifest] = []
        for manifest in page.objects:
            rule = _find_rule(place, manifest, steady_ms)
            if rule is not None:
                due.append(manifest)
                place.expired[rule] = place.expired.get(rule, 0) + 1
        self.expired += await self._delete(place, due, steady_ms)
        place.after = page.next or ""
        place.objects_done = page.next is None
        place.done = place.objects_done and place.walk is None

    async def _expire_versions(self, place: _Place, steady_ms: int) -> None:
        assert place.walk is not None, "without it the pass ends with the objects"
        page = await list_versions(
            self._store,
            place.bucket,
            prefix=place.prefix,
            after=place.version_after[0],
            after_version=place.version_after[1],
            limit=PAGE,
        )
        due = [found for listed in page.versions for found in place.walk.visit(listed, steady_ms)]
        if page.next is None:
            due += place.walk.end(steady_ms)
        for manifest, rule in due:
            try:
                done = await delete_version(self._store, manifest.name, manifest.version)
            except (ObjectLocked, Busy, RowCorrupt):
                continue
            if done.deleted or done.marker:
                self.expired += 1
                place.expired[rule] = place.expired.get(rule, 0) + 1
        place.version_after = page.next or ("", None)
        place.done = page.next is None

    async def _delete(self, place: _Place, due: Sequence[Manifest], steady_ms: int) -> int:
        moment, garbage_due_ms = now_ms(self._store), due_ms(self._store)

        def delete(tx: Transaction, manifest: Manifest) -> bool:
            try:
                now = read_object(tx, manifest.name)
            except RowCorrupt:
                return False
            if now is None or now.version != manifest.version or _find_rule(place, now, steady_ms) is None:
                return False
            return delete_object(tx, manifest.name, lambda _: None, moment, garbage_due_ms).deleted is not None

        return sum(await transact_each(self._store.kv, due, delete))


def _find_rule(place: _Place, manifest: Manifest, steady_ms: int) -> str | None:
    """Return the rule by which the current version is due; None: it stays."""
    if not manifest.is_readable:
        return None  # of a row that is damaged nothing is known, and so not that it is due
    tags = {} if manifest.details is None else manifest.details.tags
    written_ms = int(manifest.modified * 1000)
    expiry = find_expiry(place.rules, manifest.name.key, manifest.size, tags, written_ms)
    return expiry.rule if expiry is not None and expiry.due_ms <= steady_ms else None
