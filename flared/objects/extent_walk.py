"""Extent walk: which extent of chunks holds a byte, or a chunk, of an object, and where that extent begins.

Of a parent, only the pages that are reached are read: one record and one page for a range anywhere in 10,000 parts.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from flared.catalog.extents import Children
from flared.catalog.manifest import ExtentRef
from flared.catalog.parents import Place, find_byte, find_chunk, read_children, read_page
from flared.errors import ManifestCorrupt

if TYPE_CHECKING:
    from flared.catalog.manifest import ExtentId
    from flared.meta.kv import KV


class Measure(NamedTuple):
    """What positions count."""

    of_extent: Callable[[ExtentRef], int]
    find_page: Callable[[Children, int], Place]
    before_page: Callable[[Place], int]


BYTES = Measure(lambda extent: extent.size, find_byte, lambda place: place.size)
CHUNKS = Measure(lambda extent: extent.chunks, find_chunk, lambda place: place.chunks)


class ExtentWalk:
    """Finds extents by position; the page that was read last is kept, so that a walk in order reads each page once."""

    def __init__(self, kv: KV, extents: Sequence[ExtentRef], measure: Measure) -> None:
        self._kv = kv
        self._measure = measure
        self._top = _Run(0, extents, measure)
        self._page = _Run(0, (), measure)
        self._parent: tuple[ExtentId, Children] | None = None

    async def find(self, position: int) -> tuple[ExtentRef, int]:
        """The extent of chunks that holds ``position``, and the position where it begins. Raises ManifestCorrupt."""
        found = self._page.find(position)
        if found is None:
            found = self._top.find(position)
            if found is not None and found[0].is_parent:
                self._page = await self._read_page(*found, position)
                found = self._page.find(position)
        if found is None:
            raise ManifestCorrupt(f"the extents of an object end before {position}")
        return found

    async def _read_page(self, parent: ExtentRef, start: int, position: int) -> _Run:
        if self._parent is None or self._parent[0] != parent.id:
            self._parent = parent.id, await read_children(self._kv, parent.id)
        place = self._measure.find_page(self._parent[1], position - start)
        page = await read_page(self._kv, parent.id, place.page)
        return _Run(start + self._measure.before_page(place), [child.extent for child in page], self._measure)


class _Run:
    """Extents one behind the other, from a position on."""

    def __init__(self, start: int, extents: Sequence[ExtentRef], measure: Measure) -> None:
        self._extents = extents
        *self._starts, self._end = accumulate(map(measure.of_extent, extents), initial=start)

    def find(self, position: int) -> tuple[ExtentRef, int] | None:
        index = bisect_right(self._starts, position) - 1  # behind empty ones, which begin at the same place
        if index < 0 or position >= self._end:
            return None
        return self._extents[index], self._starts[index]
