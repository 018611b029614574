"""Quarantine: hides pieces that reconcile found to be orphans for days before they are deleted.

A hidden piece is not in the inventory. A read by name shows it again, because a record must want it; it is shown
before it is looked for, and a piece that was shown is not deleted here. Its payload is kept for ``keep_seconds``, then
deleted by an ordinary tombstone. **Room comes first**: when the disk runs short, the oldest are deleted early, before
any put is refused for lack of room.

Losing a quarantine record with its segment is harmless: the piece is an orphan again.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from flared.data.index.quarantine import count_hidden, oldest_hidden
from flared.errors import FlareError

if TYPE_CHECKING:
    from flared.data.volume.volume import Volume

log = logging.getLogger(__name__)

BATCH = 512
PAUSE_SECONDS = 10.0
PAUSE_TIGHT_SECONDS = 1.0
HEADROOM_SHARE = 16
"""With less than one of so many parts of the disk free, the oldest are deleted early: a disk of 16 TB takes at least
20 minutes to fill that, a small one seconds, and then puts wait for the room."""
HEADROOM_MAX = 64 * 1024**3
COMING_SECONDS = 30.0
"""How long the room of deleted pieces counts as nearly free: punching and compaction need some seconds."""
ROOM_SECONDS = 20.0
"""How long a put waits at most for the room of pieces deleted for it; compaction looks for work every five seconds."""
EVICT_AGAIN_SECONDS = 3.0
"""After so long without room, more is deleted."""
ROOM_BYTES = 64 * 1024**2
ROOM_SHARE = 64
"""At least so much is deleted for a put, or one of so many parts of a small disk: the next puts need not wait then."""


class Quarantine:
    """A Worker of one volume; ``clock`` is the wall clock, in seconds."""

    name = "quarantine"

    def __init__(self, volume: Volume, keep_seconds: float, clock: Callable[[], float] = time.time) -> None:
        self._volume = volume
        self.keep_seconds = keep_seconds
        self._clock = clock
        self._wall, self._started = clock(), trio.current_time()
        self._coming: deque[tuple[float, int]] = deque()
        self._evicting = trio.Lock()

    async def step(self) -> bool:
        """Delete some expired pieces, or some of the oldest if room is short; return True if there may be more."""
        volume = self._volume
        if not volume.hidden_pieces or volume.state not in ("ok", "full"):
            return False
        await self.recount()
        expired = await self._delete(self._steady_ms() - int(self.keep_seconds * 1000), None)
        if expired:
            return True
        wanted = self._headroom() - volume.free - self._coming_bytes()
        return bool(wanted > 0 and await self._delete(None, wanted))

    async def wait(self) -> None:
        tight = self._volume.hidden_pieces and self._volume.free < self._headroom()
        await trio.sleep(PAUSE_TIGHT_SECONDS if tight else PAUSE_SECONDS)

    async def recount(self) -> None:
        """Count the hidden pieces in the index; deletes of hidden pieces are not counted one by one."""
        volume = self._volume
        changes = volume.hidden_changes
        pieces, size = await volume.piece_map.change(count_hidden)
        if changes == volume.hidden_changes:
            volume.hidden_pieces, volume.hidden_bytes = pieces, size

    async def make_room(self, length: int) -> None:
        """Delete the oldest for a put of so many bytes that has no room, and wait a while for the room."""
        volume = self._volume
        evict_at = 0.0
        with trio.move_on_after(ROOM_SECONDS):
            async with self._evicting:
                while volume.free < length and (volume.hidden_pieces or evict_at):
                    if trio.current_time() >= evict_at:
                        await self._delete(None, max(length, min(ROOM_BYTES, volume.capacity // ROOM_SHARE)))
                        evict_at = trio.current_time() + EVICT_AGAIN_SECONDS
                    volume.compact_now()
                    await trio.sleep(0.1)
                    await volume.measure()

    async def _delete(self, until_ms: int | None, wanted: int | None) -> int:
        """Delete the oldest, up to ``wanted`` bytes and one batch; return how many pieces."""
        latest = 1 << 62 if until_ms is None else until_ms
        rows = await self._volume.piece_map.change(lambda index: oldest_hidden(index, latest, BATCH))
        names, size = [], 0
        for name, length, _ in rows:
            names.append(name)
            size += length
            if wanted is not None and size >= wanted:
                break
        if not names:
            return 0
        # A piece that was shown again since it was listed must stay, so only hidden ones are deleted.
        answers = await self._volume.writer.delete_many(names, hidden_only=True)
        gone = sum(answer is True for answer in answers)
        errors = [answer for answer in answers if isinstance(answer, FlareError)]
        if errors:
            log.warning("event=quarantine_stuck path=%s pieces=%d error=%r", self._volume.path, len(errors), errors[0])
        if wanted is not None:
            self._coming.append((trio.current_time(), size))
        await self.recount()
        log.info(
            "event=quarantine_over path=%s pieces=%d bytes=%d early=%s",
            self._volume.path, gone, size, wanted is not None,
        )  # fmt: skip
        return gone

    def _headroom(self) -> int:
        return min(HEADROOM_MAX, self._volume.capacity // HEADROOM_SHARE)

    def _coming_bytes(self) -> int:
        while self._coming and trio.current_time() - self._coming[0][0] > COMING_SECONDS:
            self._coming.popleft()
        return sum(size for _, size in self._coming)

    def _steady_ms(self) -> int:
        """Return the wall clock, but never ahead of the monotonic clock since the start: a jump must not end a
        quarantine."""
        return int(min(self._clock(), self._wall + trio.current_time() - self._started) * 1000)
