"""Send what a read gives out, no faster than the client takes it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flared.http.messages import Reply
    from flared.objects.get import Reading


async def send_reading(reply: Reply, reading: Reading) -> None:
    """Send all of it as the body of a reply that was started."""
    while (view := await reading.next()) is not None:
        if reading.patience_seconds == math.inf:
            await reply.write(view)
        else:
            await _write_patiently(reply, reading, view)


async def _write_patiently(reply: Reply, reading: Reading, view: bytes | memoryview) -> None:
    """Write ``view``, unless the client is too slow for the memory it takes: then the rest of it comes again."""
    taken = await reply.write_some(view, reading.patience_seconds)
    while taken < len(view) and not await reading.put_back(len(view) - taken):
        taken += await reply.write_some(view[taken:], reading.patience_seconds)
