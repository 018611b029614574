"""MetadataAge: whether this metadata is as new as the data nodes have seen it.

What is committed goes out as a mark in the answer to each heartbeat, each node keeps it durably, and says it again with
its heartbeats and when it is greeted. So no put waits for it; what was committed after the last heartbeat is not
protected. Metadata that does not include a mark is older than it was: rolled back, without its log, or a copy that went
on alone. Then nothing is written and nothing is deleted until other metadata is there, or this is accepted.

Neither does a node take puts before its mark was compared, nor is anything deleted before the marks of all nodes were
that are not offline. A mark goes only to nodes whose own was compared, and to none while one does not fit: else the
right metadata, once it is back, would be called old itself.

Stepping back on purpose, by a restore or by accepting what is there, is recorded with its time (``catalog.restored``).
Each mark says after which step back it was made: those from before the last one say nothing against this metadata.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from flared.catalog.restored import accept_metadata, read_accepted
from flared.data.mark import SeenMark
from flared.errors import MetadataOlder
from flared.meta.kv import Mark

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flared.chunks.nodes import Nodes
    from flared.meta.kv import KV
    from flared.names import NodeName

log = logging.getLogger(__name__)

NODES_SHOWN = 3


class MetadataAge:
    """The marks of the nodes against this metadata. At most one mark a node in memory."""

    def __init__(self, kv: KV, nodes: Nodes) -> None:
        self._kv = kv
        self._nodes = nodes
        self._accepted_ms = 0
        self._newer: dict[NodeName, SeenMark] = {}
        """Marks that this metadata does not include."""

    async def load(self) -> None:
        """Read when this metadata was last restored or accepted. Before anything is compared."""
        self._accepted_ms = await read_accepted(self._kv)

    def compare(self, node: NodeName, marks: Iterable[SeenMark]) -> None:
        """Compare the marks that a node keeps; a new node or an older version keeps none.

        If they are not newer than this metadata the node takes puts from then on; else no node does.
        """
        for mark in marks:
            if mark.accepted_ms < self._accepted_ms:
                continue
            if mark.accepted_ms > self._accepted_ms or not self._kv.includes(Mark(mark.opening, mark.number)):
                if node not in self._newer:
                    log.error(
                        "event=metadata_older node=%s opening=%s number=%d seen=%s",
                        node, mark.opening, mark.number, _moment(mark.time_ms),
                    )  # fmt: skip
                self._newer[node] = mark
                self._nodes.halt(self.reason)
        if node not in self._newer:
            self._nodes.set_compared(node)

    def mark_for(self, node: NodeName, now_ms: int) -> SeenMark | None:
        """Return the mark that the node is to keep now; None while it could make the right metadata look old."""
        if self._newer or not self._nodes.is_compared(node):
            return None
        mark = self._kv.mark()
        return SeenMark(mark.opening, mark.number, self._accepted_ms, now_ms)

    @property
    def is_older(self) -> bool:
        return bool(self._newer)

    @property
    def reason(self) -> str:
        """Return why nothing is written; empty if the metadata is as new as the nodes have seen it."""
        if not self._newer:
            return ""
        shown = ", ".join(
            f"node {node} (on {_moment(mark.time_ms)})" for node, mark in sorted(self._newer.items())[:NODES_SHOWN]
        )
        more = f" and {len(self._newer) - NODES_SHOWN} more" if len(self._newer) > NODES_SHOWN else ""
        return (
            f"the metadata is older than what was seen by {shown}{more}: it was rolled back, lost its log, or is "
            "another copy. Nothing is written or deleted; reads go on, without what was written since"
        )

    def newer(self) -> list[tuple[NodeName, SeenMark]]:
        """Return the nodes that have seen newer metadata, and their marks, in order of their names."""
        return sorted(self._newer.items())

    async def accept(self, now_ms: int) -> None:
        """Go on with this metadata, as after a restore: what was written since is given up, its pieces are kept for
        some days. The order is that of ``accept_metadata``; a crash in between leaves it refused as before.
        """
        newest = max((mark.accepted_ms for mark in self._newer.values()), default=0)
        self._accepted_ms = await accept_metadata(self._kv, max(now_ms, newest + 1))
        log.warning("event=metadata_accepted nodes=%s", ",".join(sorted(self._newer)))
        accepted, self._newer = self._newer, {}
        self._nodes.halt("")
        for node in accepted:
            self._nodes.set_compared(node)

    def refuse_older(self) -> None:
        """Raises MetadataOlder while a node has seen newer metadata."""
        if self._newer:
            raise MetadataOlder(self.reason)


def _moment(time_ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(time_ms / 1000))
