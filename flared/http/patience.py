"""Patience: how long a served connection may wait for its peer. Pure; the sweeper looks, this decides.

A peer that moves a KiB a second is slow, not dead. Uploads are counted as they are received; of downloads, what the
peer's host has acknowledged. To count what the kernel took from us would be wrong: it takes megabytes into its send
buffer at once, and more only when a third of that is free, for which a slow reader needs minutes.

Not even acknowledgements come evenly. The peer's kernel takes what fits into *its* buffer, then nothing until a good
part of that is free again: at least a segment (64 KiB on loopback), and a sixteenth of the buffer. So each KiB that was
acknowledged is worth a second, up to a limit, in which nothing more need come. A reader that dies is noticed so much
later.
"""

from __future__ import annotations

from dataclasses import dataclass

PACE_BYTES = 1024
"""In a second: who keeps it up is never cut."""
CREDIT_SECONDS_MAX = 300.0
"""What acknowledged bytes are worth at most: 300 KiB, about a sixteenth of the largest buffer Linux gives by itself."""


@dataclass(slots=True)
class Watch:
    """What one connection looked like, and when it will have waited for too long. Times are of one monotonic clock."""

    deadline: float
    stage: object = None
    moved: int = 0
    acknowledged: int = 0

    def look(
        self, now: float, *, stage: object, patience_seconds: float, busy: bool, received: int, acknowledged: int
    ) -> bool:
        """Whether it moved since the last look: another ``stage``, ``busy`` (it does not wait for the peer), or bytes.

        ``received`` and ``acknowledged`` are totals of the connection, 0 where bytes do not count.
        """
        another, self.stage = stage != self.stage, stage
        moved = received + acknowledged
        credit = max(acknowledged - self.acknowledged, 0) / PACE_BYTES
        self.acknowledged = acknowledged
        if another or busy or moved - self.moved >= PACE_BYTES:
            self.moved = moved
            fresh = now + patience_seconds
            # Another stage has no credit but of the last second: the start of a reply is often acknowledged at once.
            kept = now if another else self.deadline
            self.deadline = max(fresh, min(kept + credit, now + CREDIT_SECONDS_MAX))
            return True
        self.deadline = max(self.deadline, min(self.deadline + credit, now + CREDIT_SECONDS_MAX))
        return False
