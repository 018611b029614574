"""Published: memory that the owner of the metadata shares with its followers, and that says what was committed.

    u64 magic | u64 commits | u64 changes | 5 x u64 unused | SLOTS x u64 hash of a changed key     (native byte order)

``commits`` is the number of groups on stable storage since the opening; a follower compares it before each look-up,
which costs 50 ns. The change with number N has its key's hash in slot N modulo SLOTS. Order of writes: hashes,
``changes``, ``commits``; read in the opposite order. So one who sees a number of commits sees all they changed. The
lock around each step is a memory barrier, for processors that reorder stores.
"""

from __future__ import annotations

import mmap
import os
import threading
from typing import TYPE_CHECKING

import xxhash

if TYPE_CHECKING:
    from collections.abc import Iterable

SLOTS = 1 << 15
"""A follower that is more changes behind forgets all it has cached."""
_MAGIC = 0x31_44_48_53_52_4C_46  # FLRSHD1
_COMMITS, _CHANGES, _FIRST = 1, 2, 8
MEMORY_BYTES = 8 * (_FIRST + SLOTS)

hash_of = xxhash.xxh3_64_intdigest


def create_memory() -> int:
    """Return the descriptor of fresh shared memory; it is the caller's to close."""
    descriptor = os.memfd_create("flare-published", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, MEMORY_BYTES)
    return descriptor


class _Memory:
    def __init__(self, descriptor: int, *, fresh: bool) -> None:
        self._mapped = mmap.mmap(descriptor, MEMORY_BYTES)
        self._words = memoryview(self._mapped).cast("Q")
        self._barrier = threading.Lock()
        if fresh:
            self._words[0] = _MAGIC
        elif self._words[0] != _MAGIC:
            self.close()
            raise ValueError("this memory was made by another version of Flare")

    def close(self) -> None:
        self._words.release()
        self._mapped.close()


class Publisher(_Memory):
    """The owner's end. The descriptor stays the caller's."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, fresh=True)

    def publish(self, keys: Iterable[bytes], commits: int) -> None:
        """Say that the group with this number changed ``keys`` and is on stable storage; before anyone is answered."""
        words = self._words
        number = words[_CHANGES]
        for key in keys:
            words[_FIRST + number % SLOTS] = hash_of(key)
            number += 1
        with self._barrier:
            words[_CHANGES] = number
        with self._barrier:
            words[_COMMITS] = commits


class Subscriber(_Memory):
    """A follower's end. Raises ValueError if the memory is not what this version makes."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, fresh=False)
        self._changes = self._words[_CHANGES]

    def commits(self) -> int:
        """Return the number of the newest group that is published."""
        return self._words[_COMMITS]

    def take_changes(self) -> list[int] | None:
        """Return the hashes of keys changed since the last call, by all groups published so far and maybe by later
        ones; None if there were more than are remembered."""
        words, barrier = self._words, self._barrier
        with barrier:
            number = words[_CHANGES]
        first = self._changes
        if number - first > SLOTS:
            self._changes = number
            return None
        hashes = [words[_FIRST + index % SLOTS] for index in range(first, number)]
        with barrier:
            now = words[_CHANGES]
        self._changes = number
        # A group that is being published may have overwritten slots beyond what it has announced.
        return hashes if now - first <= SLOTS // 2 else None
