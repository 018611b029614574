"""Parts of an object that was uploaded in parts: which bytes each brought, and its checksum.

Any other object counts as one part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from flared.catalog import parents
from flared.errors import BadPart

if TYPE_CHECKING:
    from flared.catalog.manifest import ExtentRef, Manifest
    from flared.catalog.parents import Child
    from flared.meta.kv import KV


def part_count(manifest: Manifest) -> int:
    """Return how many parts the object has; 0 if it was not uploaded in parts."""
    parent = _parent_of(manifest)
    return 0 if parent is None else parent.children


async def locate_part(kv: KV, manifest: Manifest, number: int) -> tuple[int, int]:
    """Return where a part begins in the object, and its length in bytes. Raise BadPart if there is none of this number.

    It reads one page of the parent, wherever the part is.
    """
    parent = _parent_of(manifest)
    if parent is None:
        if number == 1:
            return 0, manifest.size
    else:
        place = parents.find_part(await parents.read_children(kv, parent.id), number)
        start = place.size
        for child in await parents.read_page(kv, parent.id, place.page):
            if child.number == number:
                return start, child.extent.size
            start += child.extent.size
    raise BadPart(f"the object has no part {number}")


class ObjectParts(NamedTuple):
    """A page of the parts of an object."""

    total: int
    parts: tuple[Child, ...]
    more: bool


async def list_object_parts(kv: KV, manifest: Manifest, after: int, limit: int) -> ObjectParts:
    """Return the first ``limit`` parts with numbers beyond ``after``; none for an object not uploaded in parts."""
    parent = _parent_of(manifest)
    if parent is None:
        return ObjectParts(0, (), False)
    children = await parents.read_children(kv, parent.id)
    found: list[Child] = []
    page = parents.find_part(children, after + 1).page
    while len(found) <= limit and page < len(children.pages):
        found += [child for child in await parents.read_page(kv, parent.id, page) if child.number > after]
        page += 1
    return ObjectParts(children.total, tuple(found[:limit]), len(found) > limit)


def _parent_of(manifest: Manifest) -> ExtentRef | None:
    return next((extent for extent in manifest.extents if extent.is_parent), None)
