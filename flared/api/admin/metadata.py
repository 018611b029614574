"""The calls about the age of the metadata: whether data nodes have seen newer one, and going on with this one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import trio

from flared.catalog.restored import ORPHANS_KEPT_MS
from flared.errors import Busy, Conflict
from flared.http.error_body import JSON
from flared.http.messages import Reply, Request
from flared.http.percent import parse_query
from flared.objects.store import now_ms

if TYPE_CHECKING:
    from flared.objects.store import Store
    from flared.upkeep.membership.membership import Membership


class MetadataCalls:
    """The calls."""

    def __init__(self, store: Store, membership: Membership) -> None:
        self._store = store
        self._membership = membership
        self._accepting = trio.Lock()

    async def show(self, request: Request, reply: Reply) -> None:
        """Answer whether data nodes have seen newer metadata, and what would be given up by accepting this."""
        parse_query(request.query)
        await self._send(reply)

    async def accept(self, request: Request, reply: Reply) -> None:
        """Go on with this metadata although data nodes have seen newer one: objects written since lose their names.

        409 Conflict if none has."""
        parse_query(request.query)
        try:
            self._accepting.acquire_nowait()
        except trio.WouldBlock:
            raise Busy("the metadata is being accepted") from None
        try:
            if not await self._membership.accept_metadata(now_ms(self._store)):
                raise Conflict("no data node has seen newer metadata: there is nothing to accept")
        finally:
            self._accepting.release()
        await self._send(reply)

    async def _send(self, reply: Reply) -> None:
        age = self._membership.age
        answer = {
            "older": age.is_older,
            "reason": age.reason,
            "objects": self._store.totals.now().objects,
            "seen": [{"node": node, "time": mark.time_ms / 1000} for node, mark in age.newer()],
            "orphans_kept_seconds": ORPHANS_KEPT_MS // 1000,
        }
        await reply.send(200, JSON, json.dumps(answer).encode() + b"\n")
