"""Patience: how long a served connection may wait for its peer. Pure; the sweeper observes, this decides.

A peer that moves a KiB a second is slow, not dead. Uploads count as they are received; downloads count as the peer's
host acknowledges them. The bytes that the kernel accepts from us would be misleading: it takes megabytes into its send
buffer at once, and more only when a third of that is free, for which a slow reader needs minutes.

Acknowledgements do not come evenly either. The peer's kernel takes what fits into *its* buffer, then nothing until a
good part of that is free again: at least a segment (64 KiB on loopback), and a sixteenth of the buffer. So each
acknowledged KiB buys a second, up to a limit, in which nothing more need come. A reader that dies is noticed that much
later.
"""

from __future__ import annotations

from dataclasses import dataclass

PACE_BYTES = 1024
"""A peer that moves so many bytes a second is never cut."""
CREDIT_SECONDS_MAX = 300.0
"""The most seconds that acknowledged bytes can buy: 300 KiB are a sixteenth of Linux's largest default buffer."""


@dataclass(slots=True)
class Watch:
    """The last observed state of one connection, and when it will have waited too long.

    Times on one monotonic clock.
    """

    deadline: float
    stage: object = None
    moved: int = 0
    acknowledged: int = 0

    def observe(
        self, now: float, *, stage: object, patience_seconds: float, busy: bool, received: int, acknowledged: int
    ) -> bool:
        """Return whether it has moved since: another ``stage``, ``busy`` (not waiting for the peer), or bytes.

        ``received`` and ``acknowledged`` are totals of the connection, 0 where bytes do not count.
        """
        another, self.stage = stage != self.stage, stage
        moved = received + acknowledged
        credit = max(acknowledged - self.acknowledged, 0) / PACE_BYTES
        self.acknowledged = acknowledged
        if another or busy or moved - self.moved >= PACE_BYTES:
            self.moved = moved
            fresh = now + patience_seconds
            # A new stage gets credit only for the last second: the start of a reply is often acknowledged at once.
            kept = now if another else self.deadline
            self.deadline = max(fresh, min(kept + credit, now + CREDIT_SECONDS_MAX))
            return True
        self.deadline = max(self.deadline, min(self.deadline + credit, now + CREDIT_SECONDS_MAX))
        return False
