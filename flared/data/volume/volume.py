"""Volume: one directory on one disk. Put, delete and find pieces; what it acknowledges outlives a power cut.

The segments are the truth; their piece map (memtable and index) finds the pieces.
"""

from __future__ import annotations

import logging
import uuid
from typing import TYPE_CHECKING

import trio

from flared.background import Worker, WorkerRun, first_of
from flared.data.disk.space import find_reserve, find_segment_size, is_low
from flared.data.index.index import IndexCorrupt, Location, Watermark
from flared.data.index.piece_map import PieceMap
from flared.data.index.quarantine import count_hidden
from flared.data.record import LARGE, SMALL
from flared.data.volume.appender import Appender
from flared.data.volume.changes import Change, Hide, Put
from flared.data.volume.identity import FORMAT, VolumeIdentity, join_cluster, load_identity, raise_format
from flared.data.volume.punch import Puncher
from flared.data.volume.reader import PieceReader
from flared.data.volume.replay import Replay, facts, remove_index
from flared.data.volume.segment import Segment, Segments
from flared.data.volume.values import VolumeSettings, VolumeStatus, VolumeThreads
from flared.data.volume.watch import DiskWatch
from flared.data.volume.writer import Writer
from flared.errors import Busy, FlareError, VolumeFailed

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from flared.data.disk.disk import Disk
    from flared.http.lane import Lane
    from flared.http.turns import Turns

log = logging.getLogger(__name__)

DAMAGED_MAX = 100_000
"""Damaged pieces remembered, some hundred bytes each. A dying disk may have more: they are reported when they are met
again, after heal has dealt with these."""


class Volume:
    """``run`` must be running for anything to happen; until the replay is over the state is ``replaying``."""

    def __init__(
        self,
        path: str,
        identity: VolumeIdentity,
        settings: VolumeSettings,
        disk: Disk,
        threads: VolumeThreads,
        random_bits: random.Random,
        turns: Turns,
        make_lane: Callable[[Turns, str], Lane],
    ) -> None:
        self.path = path
        self.identity = identity
        self.settings = settings
        self.disk = disk
        self.threads = threads
        self.state = "replaying"
        self.reason = ""
        self._state_since = trio.current_time()
        self.pieces = 0
        self.free = self.capacity = self.used = self.file_system = 0
        self.segment_size = settings.segment_size
        self.reserve = settings.reserve
        self.segments = self._segments(random_bits)
        self.piece_map = PieceMap(path, threads.background, self._collect)
        self.reader = PieceReader(
            self.segments, threads.read, self.piece_map.find, self.report_damage, direct=settings.direct
        )
        self.damaged: dict[str, Location] = {}
        self.new_damage: list[str] = []
        self.ready = trio.Event()
        self.workers: list[Worker] = []
        """Workers that run while the volume serves; set by its opener."""
        self.deletes = 0
        self.hidden_pieces = self.hidden_bytes = self.hidden_changes = 0
        """In quarantine; a hidden piece that is deleted still counts until the next recount."""
        self.make_room: Callable[[int], Awaitable[None]] | None = None
        """Have the oldest of what is hidden deleted for a put of so many bytes; set, as ``compact_now``, with the
        workers."""
        self.compact_now: Callable[[], None] = lambda: None
        """Have compaction look for work at once."""
        self._turns = turns
        self._make_lane = make_lane
        self._sequence = 0
        self.small = self._appender(SMALL)
        self.large = self._appender(LARGE)
        self.writer = Writer(self)
        self.watch = DiskWatch(self, disk, threads.probe)
        self.puncher = Puncher(self.segments, disk, threads.background)

    @classmethod
    def open(
        cls,
        path: str,
        node: str,
        settings: VolumeSettings,
        disk: Disk,
        threads: VolumeThreads,
        random_bits: random.Random,
        turns: Turns,
        make_lane: Callable[[Turns, str], Lane],
    ) -> Volume:
        """Mark an empty directory as a volume of this node, or find it marked so. The caller holds its lock."""
        fresh = uuid.UUID(int=random_bits.getrandbits(128), version=4)
        identity = load_identity(disk, path, node, fresh)
        return cls(path, identity, settings, disk, threads, random_bits, turns, make_lane)

    # Running

    async def run(self) -> None:
        """Serve until cancelled. A disk that fails, or a bug, makes the volume ``failed`` until the node is started
        again; the node goes on with the rest."""
        try:
            while True:
                await self._replay()
                await self._serve()
        except* Exception as group:
            error = first_of(group)
            bug = None if isinstance(error, FlareError) else error
            log.error("event=volume_failed path=%s error=%r", self.path, str(error) or repr(error), exc_info=bug)
            self._enter("failed", str(error) or repr(error))
            self.ready.set()
        finally:
            with trio.CancelScope(shield=True):
                await self._close()

    async def _replay(self) -> None:
        """Bring the index up to date. A volume whose index turns out to be corrupt meanwhile begins anew."""
        self._enter("replaying", "the index is being brought up to date")
        self.piece_map.clear()
        run = self.threads.background.run
        started = trio.current_time()
        await self.measure()
        await run(self.segments.discover)
        replay = await self._bring_up()
        self._sequence = max(self._sequence, replay.sequence)
        self.pieces = replay.pieces
        await self.piece_map.mark_complete()
        self.hidden_pieces, self.hidden_bytes = await self.piece_map.ask(count_hidden)
        await self.measure()
        log.info(
            "event=volume_open path=%s pieces=%d replayed=%d seconds=%.2f",
            self.path, self.pieces, replay.records, trio.current_time() - started,
        )  # fmt: skip

    async def _bring_up(self) -> Replay:
        run = self.threads.background.run
        while True:
            replay = await run(Replay, self.disk, self._index_path, self.segments)
            steps = replay.steps()
            try:
                self.piece_map.use(replay.index)
                while await run(_advance, steps):
                    self.piece_map.use(replay.index)
                self.piece_map.use(replay.index)
                return replay
            except IndexCorrupt as error:
                log.error("event=index_corrupt path=%s error=%r", self.path, str(error))
                self.piece_map.close()
                await run(remove_index, self.disk, self._index_path)

    async def _serve(self) -> None:
        """Until cancelled, or until the index is lost."""
        self.small = self._appender(SMALL)
        self.large = self._appender(LARGE)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.piece_map.run)
            nursery.start_soon(self.watch.run)
            nursery.start_soon(self.puncher.run)
            for worker in self.workers:
                nursery.start_soon(WorkerRun(worker).run)
            nursery.start_soon(self.small.run)
            nursery.start_soon(self.large.run)
            await trio.lowlevel.checkpoint()
            self._enter("ok")
            self._judge_space()
            self.ready.set()
            await self.piece_map.lost.wait()
            self._enter("replaying", "the index is being rebuilt")
            nursery.cancel_scope.cancel()
        self.piece_map.close()

    async def _close(self) -> None:
        try:
            if not self.piece_map.lost.is_set():
                await self.piece_map.flush()
        except FlareError as error:  # the next start replays instead
            log.warning("event=last_flush_failed path=%s error=%r", self.path, str(error))
        self.piece_map.close()
        self.segments.close()

    def join(self, cluster: str) -> None:
        """Note which cluster this volume serves; ConfigError if it is another one's."""
        self.identity = join_cluster(self.disk, self.path, self.identity, cluster)

    def raise_format(self) -> None:
        """Have the volume in the newest format. Blocks for a sync, once in its life."""
        if self.identity.format < FORMAT:
            self.identity = raise_format(self.disk, self.path, self.identity)
            log.info("event=format_raised path=%s format=%d", self.path, FORMAT)

    def refusal(self) -> FlareError | None:
        """Return why nothing can be changed now; None if it can."""
        if self.state in ("readonly", "failed"):
            return VolumeFailed(f"{self.path}: {self.reason}")
        if self.state == "replaying" or not self.piece_map.complete:
            return Busy(f"{self.path}: {self.reason or 'the index is being rebuilt'}")
        return None

    # What an Appender and a DiskWatch ask

    def draw_sequences(self, count: int) -> int:
        first = self._sequence + 1
        self._sequence += count
        return first

    def present(self, names: Sequence[str]) -> list[str]:
        return self.piece_map.present(names)

    def settled(self, changes: Sequence[Change], locations: Sequence[Location]) -> None:
        piece_map = self.piece_map
        puts: dict[str, Location] = {}
        for change, location in zip(changes, locations, strict=True):
            if isinstance(change, Put):
                puts[change.name] = location
            elif isinstance(change, Hide):
                piece_map.hide(change.name, location, change.since_ms)
                sign = 1 if change.since_ms else -1
                self.hidden_changes += 1
                self.hidden_pieces = max(0, self.hidden_pieces + sign)
                self.hidden_bytes = max(0, self.hidden_bytes + sign * change.location.length)
            else:
                piece_map.delete(change.name, location, change.victim)
                self.pieces -= 1
                self.deletes += 1
                self.puncher.add(change.victim)
                self.damaged.pop(change.name, None)
        self.pieces += len(puts)
        piece_map.put(puts)

    def stop_writes(self, reason: str) -> None:
        if self.state in ("ok", "full"):
            log.error("event=volume_readonly path=%s reason=%r", self.path, reason)
            self._enter("readonly", reason)
            for appender in (self.small, self.large):
                appender.close(VolumeFailed(reason))

    def fail(self, reason: str) -> None:
        self.stop_writes(reason)
        self._enter("failed", reason)

    def _collect(self) -> tuple[Sequence[Watermark], dict[str, int]]:
        """Return the marks and facts for the next flush of the index."""
        marks = [*self.small.take_marks(), *self.large.take_marks()]
        return marks, facts(self.segments.next_id, self._sequence)

    async def roll(self, kind: int) -> None:
        """Seal the active segment of this kind as soon as no group is under way."""
        await (self.small if kind == SMALL else self.large).request_roll()

    def active_segments(self) -> list[Segment]:
        return [appender.active for appender in (self.small, self.large) if appender.active]

    # Space and health

    def status(self) -> VolumeStatus:
        free = 0 if self.state == "failed" else max(0, self.free + self.hidden_bytes)
        return VolumeStatus(
            self.identity.volume, self.path, self.capacity, self.used, free, self.state, self.reason, self.pieces,
            round(trio.current_time() - self._state_since, 1), self.file_system,
            self.hidden_pieces, self.hidden_bytes,
            self.small.syncs + self.large.syncs, self.small.records + self.large.records,
        )  # fmt: skip

    def _enter(self, state: str, reason: str = "") -> None:
        if state != self.state:
            self._state_since = trio.current_time()
        self.state, self.reason = state, reason

    def report_damage(self, name: str, location: Location, reason: str) -> None:
        """Report a piece that fails verification although the index has that location."""
        if self.damaged.get(name) != location:
            log.error(
                "event=damage path=%s piece=%s segment=%016x offset=%d reason=%r",
                self.path, name, location.segment, location.offset, reason,
            )  # fmt: skip
            if len(self.damaged) < DAMAGED_MAX:
                self.damaged[name] = location
                self.new_damage.append(name)

    async def measure(self) -> None:
        """Ask the disk how much room there is."""
        space = await self.threads.probe.run(self.disk.space, self.path)
        if self.file_system and space.file_system != self.file_system:
            raise VolumeFailed("another file system lies there: the disk is not mounted any more")
        self.capacity, self.file_system = space.capacity, space.file_system
        self.segment_size = find_segment_size(self.settings.segment_size, space.capacity)
        self.reserve = find_reserve(self.settings.reserve, space.capacity)
        unused = self.small.unused_bytes + self.large.unused_bytes
        self.free = space.free + unused - self.reserve
        self.used = sum(segment.allocated for segment in self.segments.known.values()) - unused
        self._judge_space()

    def _judge_space(self) -> None:
        low = is_low(self.free + self.hidden_bytes, self.capacity)  # what is hidden gives way to puts
        if self.state == "ok" and low:
            self._enter("full", "no room left for pieces")
        elif self.state == "full" and not low:
            self._enter("ok")

    def _appender(self, kind: int) -> Appender:
        return Appender(self, self.segments, self._turns, self._make_lane, self.threads.background, kind)

    def _segments(self, random_bits: random.Random) -> Segments:
        volume = uuid.UUID(self.identity.volume).bytes
        path = f"{self.path}/segments"
        return Segments(self.disk, path, volume, direct=self.settings.direct, random_bits=random_bits)

    @property
    def _index_path(self) -> str:
        return f"{self.path}/index.db"


def _advance(steps: Iterator[None]) -> bool:
    """One step; False if there was none left."""
    return next(steps, "over") is None
