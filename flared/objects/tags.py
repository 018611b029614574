"""Tags: of objects, read and changed without touching their bytes; and the rules that tags of anything follow."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from flared.catalog.details import EMPTY, Details
from flared.catalog.objects import change_details
from flared.errors import BadTag
from flared.objects.conditions import UNCONDITIONAL, Conditions, check_write
from flared.objects.get import find_object

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flared.catalog.manifest import Manifest
    from flared.meta.kv import Transaction
    from flared.names import ObjectName
    from flared.objects.store import Store

OBJECT_TAGS_MAX = 10
BUCKET_TAGS_MAX = 50
KEY_LENGTH_MAX = 128
VALUE_LENGTH_MAX = 256
"""Characters; the limits of S3."""

_TEXT = re.compile(r"[\w .:/=+@-]*")
"""Letters and digits of any language, spaces, and these signs."""


def check_tags(pairs: Iterable[tuple[str, str]], most: int = OBJECT_TAGS_MAX) -> dict[str, str]:
    """Return the tags. Raises BadTag if there are too many, one comes twice, or a key or value is not allowed."""
    tags: dict[str, str] = {}
    for key, value in pairs:
        if not 0 < len(key) <= KEY_LENGTH_MAX or not _TEXT.fullmatch(key):
            raise BadTag(f"the tag key {key[:80]!r} is not 1 to {KEY_LENGTH_MAX} letters, digits, spaces and .:/=+@_-")
        if len(value) > VALUE_LENGTH_MAX or not _TEXT.fullmatch(value):
            raise BadTag(
                f"the value of the tag {key!r} is not up to {VALUE_LENGTH_MAX} letters, digits, spaces and .:/=+@_-"
            )
        if key.startswith("aws:"):
            raise BadTag(f"the tag key {key!r} begins with aws:, which is reserved")
        if key in tags:
            raise BadTag(f"the tag key {key!r} comes twice")
        tags[key] = value
    if len(tags) > most:
        raise BadTag(f"there are {len(tags)} tags; at most {most} are allowed")
    return tags


def tags_of(manifest: Manifest) -> dict[str, str]:
    return {} if manifest.details is None else manifest.details.tags


async def set_tags(
    store: Store,
    name: ObjectName,
    tags: dict[str, str],
    *,
    version: int | None = None,
    when: Conditions = UNCONDITIONAL,
) -> Manifest:
    """Replace all tags of the newest version, or of that of a number; none deletes them. Its number, its time and its
    ETag stay.

    Raises PreconditionFailed, and what ``catalog.objects.find_object`` raises.
    """

    def change(manifest: Manifest) -> Details:
        check_write(when, manifest.etag)
        return (manifest.details or EMPTY)._replace(tags=tags)

    def decide(tx: Transaction) -> Manifest | None:
        store.chunks.nodes.refuse_while_halted()
        return change_details(tx, name, version, change)

    while (changed := await store.kv.transact(decide)) is None:
        await find_object(store, name, version=version)  # which says why not, unless it has come meanwhile
    return changed
