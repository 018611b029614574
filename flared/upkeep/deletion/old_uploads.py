"""Old uploads: abort uploads in parts that are not continued, and those whose bucket is gone.

An upload is old when ``multipart_ttl`` has passed since it began and since its last part was put. Aborting is one
transaction; what it leaves is for the sweep. For some days after a restore none is aborted: it may have become an
object since the backup was made (``catalog.restored``).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import trio

from flared.catalog.buckets import read_bucket
from flared.catalog.restored import orphans_kept_until
from flared.catalog.uploads import Upload, list_all_uploads, list_parts, retire_as_read
from flared.errors import Damaged
from flared.objects.store import Store, due_ms
from flared.upkeep.deletion.steady_clock import SteadyClock

if TYPE_CHECKING:
    from flared.meta.kv import Snapshot

log = logging.getLogger(__name__)

PAGE = 100
INTERVAL_SECONDS = 600.0
"""Between two passes over all uploads; less where uploads get old sooner."""


@dataclass(frozen=True, slots=True)
class OldUploadsStatistics:
    open: int
    """Uploads that were neither completed nor aborted, at the last whole pass."""
    aborted: int
    """Here, since the start."""


class OldUploads:
    """A Worker. Times are the sweep's: a clock that jumps makes no upload old."""

    name = "uploads"

    def __init__(self, store: Store) -> None:
        self._store = store
        self._clock = SteadyClock(store)
        self._after = b""
        self._passing = self._open = self._aborted = 0

    async def step(self) -> bool:
        now_ms = self._clock.steady_ms()
        if not now_ms or now_ms < await orphans_kept_until(self._store.kv):
            return False
        page = await list_all_uploads(self._store.kv, self._after, PAGE)
        for key, upload in page:
            try:
                if await self._is_over(upload, now_ms):
                    await self._abort(key, upload)
            except Damaged as error:  # one that cannot be read must not stop the others from going
                log.error("event=upload_stuck upload=%s message=%r", upload.id, str(error))
        self._passing += len(page)
        self._after = page[-1][0] if len(page) == PAGE else b""
        if not self._after:
            self._open, self._passing = self._passing, 0
        return bool(self._after)

    async def wait(self) -> None:
        await trio.sleep(min(INTERVAL_SECONDS, max(1.0, self._store.multipart_ttl_seconds / 10)))

    def statistics(self) -> OldUploadsStatistics:
        return OldUploadsStatistics(self._open, self._aborted)

    async def _is_over(self, upload: Upload, now_ms: int) -> bool:
        if not await self._store.kv.view(partial(_has_bucket, upload)):
            return True
        before_ms = now_ms - int(self._store.multipart_ttl_seconds * 1000)
        if upload.created_ms > before_ms:
            return False
        after = 0
        while parts := await list_parts(self._store.kv, upload.id, after, PAGE):
            if any(part.modified_ms > before_ms for part in parts):
                return False
            after = parts[-1].number
        return True

    async def _abort(self, key: bytes, upload: Upload) -> None:
        due = due_ms(self._store)
        if await self._store.kv.transact(lambda tx: retire_as_read(tx, key, upload, due)):
            self._aborted += 1
            log.info("event=upload_aborted bucket=%s key=%r upload=%s", upload.name.bucket, upload.name.key, upload.id)


def _has_bucket(upload: Upload, snapshot: Snapshot) -> bool:
    bucket = read_bucket(snapshot, upload.name.bucket)
    return bucket is not None and bucket.created_ms == upload.bucket_ms
