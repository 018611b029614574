"""Quorum arithmetic, and the Tally that counts answers against it."""

from __future__ import annotations

WAITING, QUORUM, COMPLETE = range(3)
"""An answer leaves others to wait for, or just reached the quorum, or was the last one."""


def write_quorum(pieces: int, needed: int) -> int:
    """Return how many of ``pieces`` must be durable before a put is answered, if ``needed`` suffice to read.

    Half of the redundancy, rounded down, may be written late: 1 of replica:1, 2 of replica:2, 2 of replica:3.
    """
    return pieces - (pieces - needed) // 2


class Tally:
    """Counts the answers of one fan-out: ``won`` at the quorum, ``lost`` when it is out of reach."""

    __slots__ = ("failed", "failures", "quorum", "stored", "wanted")

    def __init__(self, wanted: int, quorum: int) -> None:
        self.wanted = wanted
        self.quorum = quorum
        self.stored: list[int] = []
        """Numbers of the pieces that are durable."""
        self.failed: list[int] = []
        self.failures: list[str] = []

    def store(self, number: int) -> int:
        """Count a piece that is durable; return what that means: WAITING, QUORUM or COMPLETE."""
        stored = self.stored
        stored.append(number)
        if len(stored) + len(self.failed) >= self.wanted:
            return COMPLETE
        return QUORUM if len(stored) == self.quorum else WAITING

    def fail(self, number: int, reason: str) -> int:
        """Count a piece that no node took; return WAITING or COMPLETE."""
        self.failed.append(number)
        self.failures.append(reason)
        return COMPLETE if len(self.stored) + len(self.failed) >= self.wanted else WAITING

    @property
    def won(self) -> bool:
        return len(self.stored) >= self.quorum

    @property
    def missing(self) -> list[int]:
        """Numbers of the pieces not known to be durable."""
        return [number for number in range(self.wanted) if number not in self.stored]
