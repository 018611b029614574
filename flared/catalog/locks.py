"""Object lock: what a bucket says of it, and what it makes of a new version.

    document = {} | {"q": 1 if compliance, else 0, "d": days} | {"q": ..., "y": years}     JSON (``bucket_documents``)

A bucket with this document keeps versions, and each of them may be locked (``details``). The retention in the document
is that of every version that is put without one of its own.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from flared.catalog.bucket_documents import Kind
from flared.catalog.records import FORMAT, UNDECODABLE, corrupt
from flared.meta import keys

if TYPE_CHECKING:
    from flared.catalog.buckets import Bucket
    from flared.catalog.details import Details
    from flared.meta.kv import Snapshot

DAY_MS = 86_400_000


class DefaultRetention(NamedTuple):
    compliance: bool
    days: int = 0
    years: int = 0
    """Either days or years."""

    def ends_ms(self, now_ms: int) -> int:
        if not self.years:
            return now_ms + self.days * DAY_MS
        moment = datetime.fromtimestamp(now_ms / 1000, UTC)
        # 29 February has no match in most years; a day more is not less than promised.
        leaps = moment.month == 2 and moment.day == 29
        year = min(moment.year + self.years, 9999)
        ends = moment.replace(year=year, month=3, day=1) if leaps else moment.replace(year=year)
        return int(ends.timestamp() * 1000)


def encode_lock(default: DefaultRetention | None) -> bytes:
    if default is None:
        return b"{}"
    length = {"y": default.years} if default.years else {"d": default.days}
    return json.dumps({"q": int(default.compliance), **length}, separators=(",", ":")).encode()


@lru_cache(256)
def decode_lock(document: bytes) -> DefaultRetention | None:
    """Raises ManifestCorrupt."""
    try:
        fields = json.loads(document)
        return DefaultRetention(bool(fields["q"]), fields.get("d", 0), fields.get("y", 0)) if fields else None
    except UNDECODABLE as error:
        raise corrupt("an object lock", error) from error


def is_locking(bucket: Bucket) -> bool:
    """Return whether versions of the bucket can be locked."""
    return Kind.LOCK in bucket.documents


def with_default(snapshot: Snapshot, bucket: Bucket, details: Details, now_ms: int) -> Details:
    """Return the details of a version that is put now, retained as its bucket wants it. Raises ManifestCorrupt."""
    if details.retained_until_ms or not is_locking(bucket):
        return details
    value = snapshot.get(keys.bucket_document(bucket.name, Kind.LOCK))
    if value is None or value[:1] != bytes((FORMAT,)):
        raise corrupt(f"the lock document of the bucket {bucket.name}", ValueError("it is lost, or of a newer format"))
    default = decode_lock(value[1:])
    if default is None:
        return details
    return details._replace(compliance=default.compliance, retained_until_ms=default.ends_ms(now_ms))
