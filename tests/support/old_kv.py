"""Metadata in memory of which copies can be made and put back, as of a file: for tests of metadata that is too old."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flared.meta.memory import MemoryKV

if TYPE_CHECKING:
    from flared.meta.kv import Mark


class CopiedKV(MemoryKV):
    """As an engine with a file: each opening has an id of its own, and the file knows how far those before it came."""

    def __init__(self) -> None:
        super().__init__()
        self._past: dict[str, int] = {}

    def snapshot(self) -> CopiedKV:
        """The same content, as the file is now: opened for itself, it goes on by itself."""
        other = CopiedKV()
        other._entries, other._keys = dict(self._entries), list(self._keys)
        other._aliases = dict(self._aliases)
        other._version = self._version
        other._past = {**self._past, self._opening: self._version}
        return other

    def includes(self, mark: Mark) -> bool:
        return super().includes(mark) or self._past.get(mark.opening, -1) >= mark.number
