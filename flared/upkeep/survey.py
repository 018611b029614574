"""Survey: one look at every chunk record, for as long as somebody may wait for the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from flared.catalog.chunks import ChunkRecord, list_chunks

if TYPE_CHECKING:
    from collections.abc import Callable

    from flared.names import ChunkId
    from flared.objects.store import Store

PAGE = 500
REST = 1.0
"""The scan rests as long as it works: clients go first."""
SCAN_SECONDS = 15.0
"""After this the numbers so far are the answer, and say so."""


async def visit_chunks(store: Store, visit: Callable[[ChunkRecord], None]) -> bool:
    """Show every chunk record to ``visit``; False if the time for it was over before."""
    after: ChunkId | None = None
    deadline = trio.current_time() + SCAN_SECONDS
    while True:
        started = trio.current_time()
        page = await list_chunks(store.kv, after, PAGE)
        for record in page:
            visit(record)
        if len(page) < PAGE:
            return True
        now = trio.current_time()
        if now >= deadline:
            return False
        after = page[-1].id
        await trio.sleep(REST * (now - started))
