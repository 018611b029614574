"""Calls: what is read from the API, by which path, and how the answer is parsed. Pure; there is one value a call.

Two transports send them. ``Client`` does without trio, whose import would take longer than a listing; ``Bodies`` sends
the few that a transfer needs over the connections that carry its bodies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar
from urllib.parse import quote

from flarectl.answers import (
    parse_buckets,
    parse_chunks,
    parse_failure,
    parse_key,
    parse_keys,
    parse_listing,
    parse_metadata,
    parse_orphans,
    parse_removal,
    parse_versions,
)
from flarectl.errors import NotFound
from flarectl.target import Target, object_path

if TYPE_CHECKING:
    from flarectl.answers import (
        Bucket,
        ChunkPage,
        FailureCost,
        HeldOrphans,
        Key,
        Listing,
        MetadataAge,
        RemovalCost,
        VersionPage,
    )

T = TypeVar("T")

KEYS_PAGE = 1000
"""Keys asked for at once."""
CHUNK_PAGE = 500


class Read(NamedTuple, Generic[T]):
    """A GET. It may be repeated."""

    path: str
    """With the query."""
    parse: Callable[[object], T]
    """Of the answer's JSON. Raises Refusal for anything that an api node does not send."""
    fields: Mapping[str, str] = {}


def with_query(path: str, params: Mapping[str, str]) -> str:
    """Return the path with these parameters, encoded; empty ones have no ``=``."""
    query = "&".join(f"{name}={quote(value, safe='')}" if value else name for name, value in params.items())
    return f"{path}?{query}" if query else path


def keys(target: Target, *, delimiter: str = "", after: str = "", limit: int = KEYS_PAGE) -> Read[Listing]:
    """Keys of the bucket that begin with the target's key; with a delimiter, only up to it."""
    asked = {"prefix": target.key, "delimiter": delimiter, "after": after, "limit": str(limit)}
    params = {name: value for name, value in asked.items() if value}
    return Read(with_query(f"/bucket/{target.bucket}", params), parse_listing)


def versions(
    target: Target, *, delimiter: str = "", after: tuple[str, int] = ("", 0), limit: int = KEYS_PAGE
) -> Read[VersionPage]:
    """The same of all versions, going on behind the version of that key and number."""
    asked = {"prefix": target.key, "delimiter": delimiter, "after": after[0], "limit": str(limit)}
    params = {"versions": ""} | {name: value for name, value in asked.items() if value}
    params |= {"after_version": str(after[1])} if after[1] else {}
    return Read(with_query(f"/bucket/{target.bucket}", params), parse_versions)


def keys_below(target: Target) -> Read[Listing]:
    """The first key of which the target is a prefix up to a slash."""
    return keys(target.at(f"{target.key}/"), limit=1)


def chunks(target: Target, *, after: int = 0, etag: str = "", limit: int = CHUNK_PAGE) -> Read[ChunkPage]:
    """The chunks from number ``after`` on. Exists is raised if the object's ETag is not ``etag`` any more."""
    path = object_path(target.bucket, target.object_key())
    params = {"chunks": "", "limit": str(limit)} | ({"after": str(after)} if after else {})
    params |= {"version": str(target.version)} if target.version else {}
    return Read(with_query(path, params), parse_chunks, {"if-match": etag} if etag else {})


def why_missing(target: Target) -> Read[NotFound]:
    """Return the path of a GET whose error explains a failed HEAD, since that error has no body."""
    vanished = NotFound(f"{target}: it did not exist a moment ago; try again")
    return Read(chunks(target, limit=1).path, lambda _: vanished)


def buckets() -> Read[list[Bucket]]:
    return Read("/bucket", parse_buckets)


def access_keys() -> Read[list[Key]]:
    return Read("/cluster/key", parse_keys)


def access_key(name: str) -> Read[Key]:
    return Read(with_query("/cluster/key", {"name": name}), parse_key)


def failure_cost(node: str) -> Read[FailureCost]:
    """Ask what a failure of this data node would cost. Takes up to a quarter of a minute."""
    return Read(with_query("/cluster/failure", {"node": node}), parse_failure)


def removal_cost(node: str) -> Read[RemovalCost]:
    """Ask what removing this data node, which is away, would cost. Takes up to a quarter of a minute."""
    return Read(with_query("/cluster/node", {"node": node}), parse_removal)


def held_orphans(node: str) -> Read[tuple[HeldOrphans, object]]:
    """The orphans held back on this data node, parsed and as the server wrote them."""
    return Read(with_query("/cluster/orphans", {"node": node}), lambda answer: (parse_orphans(answer), answer))


def metadata_age() -> Read[MetadataAge]:
    """Which data nodes have seen newer metadata than the api node has."""
    return Read("/cluster/metadata", parse_metadata)
