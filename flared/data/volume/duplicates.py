"""Duplicates: deletes the superfluous copy of a piece that is on two volumes of a node.

Duplicates arise when a volume comes back after its pieces were rebuilt on another one, or when a piece is put while a
volume cannot be queried. **A copy is deleted only right after another one was read from its disk and verified whole**,
and only if that one still exists at the moment of the delete.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from flared.errors import FlareError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flared.data.index.index import Location
    from flared.data.volume.volume import Volume

log = logging.getLogger(__name__)

_PAGE = 500
_REST = 4.0
"""It rests four times as long as it works."""
_FIRST_SECONDS = 60.0
"""Delay after the start, which has more important work."""
_PERIOD_SECONDS = 24 * 3600.0


class Duplicates:
    """A Worker of a node with several volumes."""

    name = "duplicates"

    def __init__(self, volumes: Sequence[Volume]) -> None:
        self._volumes = volumes
        self._cursor = ""
        self._begun = False
        self._pause = _FIRST_SECONDS
        self.removed = 0

    async def wait(self) -> None:
        await trio.sleep(self._pause)

    async def step(self) -> bool:
        """Check the next names; return False, so that ``wait`` sets the pace."""
        if not self._begun:
            self._begun = True
            return False
        started = trio.current_time()
        working = [volume for volume in self._volumes if volume.state in ("ok", "full") and volume.piece_map.complete]
        pages = [await volume.piece_map.page(self._cursor, _PAGE) for volume in working]
        # A full page says nothing about the names after its last one.
        end = min((page[-1][0] for page in pages if len(page) == _PAGE), default="")
        owners: dict[str, list[Volume]] = {}
        for volume, page in zip(working, pages, strict=True):
            for name, _ in page:
                if not end or name <= end:
                    owners.setdefault(name, []).append(volume)
        for name, several in owners.items():
            if len(several) > 1:
                await self._keep_one(name, several)
        self._cursor = end
        self._pause = _REST * (trio.current_time() - started) if end else _PERIOD_SECONDS
        return False

    async def _keep_one(self, name: str, owners: Sequence[Volume]) -> None:
        """Keep the copy on the volume with the most room, if it is good, else another good one."""
        for keeper in sorted(owners, key=lambda volume: -volume.free):
            location = await self._verify(keeper, name)
            if location is not None:
                break
        else:
            return
        for volume in owners:
            if volume is not keeper:
                await self._drop(volume, name, keeper, location)

    async def _verify(self, volume: Volume, name: str) -> Location | None:
        """Return the copy's location if its disk has it whole; reading it reports damage."""
        with suppress(FlareError):
            location = volume.piece_map.find(name)
            await volume.reader.verify(name)
            return location
        return None

    async def _drop(self, volume: Volume, name: str, keeper: Volume, location: Location) -> None:
        """Delete the copy. A volume that refuses keeps it, which does no harm: the next pass tries again."""
        # Nothing may come between this check and the append: with a backlog of the index the delete would wait.
        if keeper.state not in ("ok", "full") or volume.piece_map.backlog_soft:
            return
        with suppress(FlareError):
            if keeper.piece_map.find(name) == location:
                (answer,) = await volume.writer.delete_many([name])
                if answer is True:
                    self.removed += 1
                    log.info("event=duplicate_removed piece=%s from=%s kept=%s", name, volume.path, keeper.path)
