"""Survey: every chunk record is visited once, within the time that a caller waits for the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from flared.upkeep.walk import Walk

if TYPE_CHECKING:
    from collections.abc import Callable

    from flared.catalog.chunks import ChunkRecord
    from flared.objects.store import Store

REST = 1.0
"""The scan rests as long as it works: clients go first."""
SCAN_SECONDS = 15.0
"""After this the numbers so far are the answer, and say so."""


async def visit_chunks(store: Store, visit: Callable[[ChunkRecord], None]) -> bool:
    """Call ``visit`` for every chunk record. Return False if the time was over before the last one."""
    walk = Walk()
    deadline = trio.current_time() + SCAN_SECONDS
    while True:
        started = trio.current_time()
        page = await walk.read_page(store)
        for record in page:
            visit(record)
        walk.move_on(page)
        if walk.ended:
            return True
        now = trio.current_time()
        if now >= deadline:
            return False
        await trio.sleep(REST * (now - started))
