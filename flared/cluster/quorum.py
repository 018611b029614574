"""Quorum arithmetic, and the Tally that counts answers against it."""

from __future__ import annotations


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

    def store(self, number: int) -> bool:
        """Count a piece that is durable. Return whether every piece has been answered for now, as ``fail`` does."""
        self.stored.append(number)
        return len(self.stored) + len(self.failed) >= self.wanted

    def fail(self, number: int, reason: str) -> bool:
        self.failed.append(number)
        self.failures.append(reason)
        return len(self.stored) + len(self.failed) >= self.wanted

    @property
    def won(self) -> bool:
        return len(self.stored) >= self.quorum

    @property
    def missing(self) -> list[int]:
        """Numbers of the pieces not known to be durable."""
        return [number for number in range(self.wanted) if number not in self.stored]
