"""Listing of versions: one page of what is in ``object/`` and in ``version/`` (``versions``), merged, of one moment."""

from __future__ import annotations

from dataclasses import dataclass
from heapq import merge
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import trio

from flared.catalog.lister import Lister
from flared.catalog.manifest import Manifest, decode, unreadable
from flared.errors import NoSuchBucket
from flared.meta import keys
from flared.meta.kv import DAMAGED
from flared.names import BucketName, ObjectKey, ObjectName

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flared.meta.kv import KV

VERSIONS_PER_TURN = 64


class Listed(NamedTuple):
    manifest: Manifest
    """A version or a delete marker; a damaged row is ``manifest.unreadable``."""
    newest: bool


@dataclass(frozen=True, slots=True)
class VersionListing:
    versions: tuple[Listed, ...]
    prefixes: tuple[str, ...]
    next: tuple[str, int | None] | None
    """To go on behind: the last key with the number of its version, or the last prefix; None if there is no more."""


class _Item(NamedTuple):
    """A row or a prefix, in the order of the listing: by key, the newest version first."""

    place: bytes
    """Key, NUL, and what tells its versions apart; or a prefix."""
    value: bytes | None
    """None: a prefix."""


async def list_version_page(
    kv: KV, bucket: BucketName, prefix: str, delimiter: str, after: str, after_version: int | None, limit: int
) -> VersionListing:
    """See ``objects.listing.list_versions``."""
    if await kv.get(keys.bucket(bucket)) is None:
        raise NoSuchBucket(f"there is no bucket {bucket}")
    if limit < 1:
        return VersionListing((), (), None)
    objects = Lister(keys.object_(bucket, ""), prefix.encode(), delimiter.encode(), after.encode(), limit)
    begin = after.encode()
    if after and after_version is not None:
        begin = keys.version(bucket, after, after_version).removeprefix(keys.versions(bucket))
    others = Lister(keys.versions(bucket), prefix.encode(), delimiter.encode(), begin, limit)
    await _walk_both(kv, objects, others)
    found = list(islice(_merged(objects, others), limit + 1))
    page = found[:limit]
    more = len(found) > limit or objects.more or others.more
    listed = await _decode_items(bucket, page)
    return VersionListing(
        tuple(item for item in listed if isinstance(item, Listed)),
        tuple(item for item in listed if isinstance(item, str)),
        _position(listed[-1]) if more else None,
    )


async def _walk_both(kv: KV, objects: Lister, others: Lister) -> None:
    """Two walks of one moment: the second range is behind the first one."""
    running = objects

    def visit(rows: list[tuple[bytes, bytes]]) -> bytes | None:
        nonlocal running
        following = running.visit([row for row in rows if row[0] < running.end])
        if following is None and running is objects:
            running = others
            return others.start
        return following

    await kv.walk(objects.start, others.end, objects.page, visit)


def _merged(objects: Lister, others: Lister) -> Iterator[_Item]:
    """What both have, in order, each prefix once."""
    last: _Item | None = None
    for item in merge(_items(objects, b"\0"), _items(others, b""), key=lambda item: item.place):
        if last is None or item.value is not None or item.place != last.place:
            yield item
        last = item


def _items(lister: Lister, end: bytes) -> list[_Item]:
    rows = [_Item(key + end, value) for key, value in lister.rows]
    return sorted(rows + [_Item(prefix, None) for prefix in lister.prefixes])


async def _decode_items(bucket: BucketName, items: list[_Item]) -> list[Listed | str]:
    listed: list[Listed | str] = []
    for number, (place, value) in enumerate(items):
        if number % VERSIONS_PER_TURN == VERSIONS_PER_TURN - 1:
            await trio.lowlevel.checkpoint()
        if value is None:
            listed.append(place.decode(errors="backslashreplace"))
            continue
        key, _, rest = place.partition(b"\0")
        name = ObjectName(bucket, ObjectKey(key.decode(errors="backslashreplace")))
        if value == DAMAGED:
            # Its number, by which it can be deleted, is all that is known of it.
            listed.append(Listed(unreadable(name).with_version(keys.version_number(rest)), not rest))
        else:
            listed.append(Listed(decode(name, value), not rest))
    return listed


def _position(last: Listed | str) -> tuple[str, int | None]:
    return (last, None) if isinstance(last, str) else (last.manifest.name.key, last.manifest.version)
