"""The calls on buckets, and the listing of objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from flared.access.access_key import parse_key_name
from flared.access.bucket_access import Acl
from flared.api.callers import identity_of, sees_bucket
from flared.api.native.answers import parse_number, send_json
from flared.api.native.objects import VERSION_MAX
from flared.catalog.buckets import Versioning
from flared.errors import BadRequest
from flared.http.json_body import parse_json_object
from flared.http.percent import parse_query
from flared.log import format_time
from flared.objects.buckets import change_access, create_bucket, list_buckets, remove_bucket, set_versioning
from flared.objects.listing import list_objects, list_versions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flared.catalog.buckets import Bucket
    from flared.http.messages import Reply, Request
    from flared.names import BucketName
    from flared.objects.store import Store

LIST_LIMIT_MAX = 1000
SETTINGS_BYTES_MAX = 64 * 1024


class BucketCalls:
    """The calls, over one Store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def list_objects(self, request: Request, reply: Reply, bucket: BucketName) -> None:
        query = parse_query(request.query, "prefix", "delimiter", "after", "limit", "versions", "after_version")
        if "versions" in query:
            return await self._list_versions(reply, bucket, query)
        if "after_version" in query:
            raise BadRequest("after_version goes with ?versions")
        page = await list_objects(
            self._store,
            bucket,
            prefix=query.get("prefix", ""),
            delimiter=query.get("delimiter", ""),
            after=query.get("after", ""),
            limit=parse_number(query, "limit", LIST_LIMIT_MAX, 1, LIST_LIMIT_MAX),
        )
        objects = [
            {
                "key": found.name.key,
                "size": found.size,
                "etag": found.etag,
                "version": found.version,
                "modified": format_time(found.modified),
                **({} if found.is_readable else {"damaged": True}),
            }
            for found in page.objects
        ]
        return await send_json(reply, 200, {"objects": objects, "prefixes": list(page.prefixes), "next": page.next})

    async def _list_versions(self, reply: Reply, bucket: BucketName, query: Mapping[str, str]) -> None:
        page = await list_versions(
            self._store,
            bucket,
            prefix=query.get("prefix", ""),
            delimiter=query.get("delimiter", ""),
            after=query.get("after", ""),
            after_version=parse_number(query, "after_version", 0, 1, VERSION_MAX) or None,
            limit=parse_number(query, "limit", LIST_LIMIT_MAX, 1, LIST_LIMIT_MAX),
        )
        versions = [
            {
                "key": found.name.key,
                "version": found.version,
                "newest": newest,
                "modified": format_time(found.modified),
                **({"deleted": True} if found.deletes else {"size": found.size, "etag": found.etag}),
                **({} if found.is_readable else {"damaged": True}),
            }
            for found, newest in page.versions
        ]
        following = None if page.next is None else {"after": page.next[0], "after_version": page.next[1]}
        await send_json(reply, 200, {"versions": versions, "prefixes": list(page.prefixes), "next": following})

    async def list_buckets(self, request: Request, reply: Reply) -> None:
        query = parse_query(request.query, "after", "limit")
        limit = parse_number(query, "limit", LIST_LIMIT_MAX, 1, LIST_LIMIT_MAX)
        found = await list_buckets(self._store, query.get("after", ""), limit, sees=sees_bucket(request))
        buckets = [describe(bucket) for bucket in found]
        await send_json(reply, 200, {"buckets": buckets, "next": found[-1].name if len(found) == limit else None})

    async def create_bucket(self, request: Request, reply: Reply, bucket: BucketName) -> None:
        parse_query(request.query)
        asked = parse_settings(await request.body.read_all(SETTINGS_BYTES_MAX))
        created = await create_bucket(
            self._store,
            bucket,
            scheme=asked.scheme,
            chunk_size=asked.chunk_size,
            compress=asked.compress,
            owner=identity_of(request).name,
        )
        await send_json(reply, 201 if created else 200, {"name": bucket})

    async def change_bucket(self, request: Request, reply: Reply, bucket: BucketName) -> None:
        """Change who may do what in the bucket, and whether it keeps versions."""
        parse_query(request.query)
        changes, versioning = parse_changes(await request.body.read_all(SETTINGS_BYTES_MAX))
        if versioning is not None:
            await set_versioning(self._store, bucket, versioning)
        await send_json(reply, 200, describe(await change_access(self._store, bucket, **changes)))

    async def remove_bucket(self, request: Request, reply: Reply, bucket: BucketName) -> None:
        parse_query(request.query)
        await remove_bucket(self._store, bucket)
        await reply.send(204, b"")


def describe(bucket: Bucket) -> dict[str, object]:
    """Return what may be known of a bucket."""
    access = bucket.access
    return {
        "name": bucket.name,
        "created": format_time(bucket.created_ms / 1000),
        "scheme": bucket.scheme,
        "chunk_size": bucket.chunk_size,
        "compression": "lz4" if bucket.compress else "plain",
        "owner": access.owner,
        "public": access.public,
        "acl": access.acl,
        "versioning": bucket.versioning.name.lower(),
    }


STATES = {"enabled": Versioning.ENABLED, "suspended": Versioning.SUSPENDED}
"""What the versioning of a bucket can be set to."""


class Changes(TypedDict, total=False):
    """What is to change about the access to a bucket."""

    public: bool
    acl: Acl
    owner: str


def parse_changes(body: bytes) -> tuple[Changes, Versioning | None]:
    """Return the changes in the body of POST /bucket/{bucket}. Raises BadRequest, and BadName for an owner."""
    versioning: Versioning | None = None
    asked = parse_json_object(body, 'the body with what is to change, such as {"public": true},')
    changes: Changes = {}
    for name, value in asked.items():
        if name == "public" and isinstance(value, bool):
            changes["public"] = value
        elif name == "acl" and value in tuple(Acl):
            changes["acl"] = Acl(str(value))
        elif name == "owner" and isinstance(value, str):
            changes["owner"] = parse_key_name(value) if value else ""
        elif name == "versioning" and value in STATES:
            versioning = STATES[str(value)]
        else:
            raise BadRequest(
                f"{name[:80]!r} cannot be changed to that: there are public (true or false), "
                f"acl ({', '.join(Acl)}), owner (the name of an access key, or empty) and versioning "
                f"({', '.join(STATES)})"
            )
    return changes, versioning


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings to create a bucket with; None is the default of this api node."""

    scheme: str | None = None
    chunk_size: int | None = None
    compress: bool | None = None


def parse_settings(body: bytes) -> Settings:
    """The settings in the body of PUT /bucket/{bucket}, all optional; raises BadRequest."""
    if not body.strip():
        return Settings()
    asked = parse_json_object(body, 'the body with the settings of a bucket, such as {"scheme": "replica:2"},')
    for name in asked:
        if name not in ("scheme", "chunk_size", "compression"):
            raise BadRequest(f"a bucket has no setting {name[:80]!r}; it has scheme, chunk_size and compression")
    scheme, chunk_size, compression = asked.get("scheme"), asked.get("chunk_size"), asked.get("compression")
    if not isinstance(scheme, str | None):
        raise BadRequest("scheme is a text, such as replica:3")
    if not isinstance(chunk_size, int | None) or isinstance(chunk_size, bool):
        raise BadRequest("chunk_size is a number of bytes")
    if compression not in (None, "lz4", "plain"):
        raise BadRequest("compression is lz4 or plain")
    return Settings(scheme, chunk_size, None if compression is None else compression == "lz4")
