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
from flared.data.index.piece_map import UNKNOWN, PieceMap
from flared.data.index.quarantine import count_hidden
from flared.data.pieces import Piece
from flared.data.record import LARGE, SMALL, record_length, small_lengths
from flared.data.volume.appender import Appender
from flared.data.volume.changes import Answer, Answered, Answers, Batch, Change, Delete, Hide, Put
from flared.data.volume.check import check_piece, check_pieces
from flared.data.volume.identity import FORMAT, VolumeIdentity, join_cluster, load_identity, raise_format
from flared.data.volume.punch import Puncher
from flared.data.volume.reader import PieceReader
from flared.data.volume.replay import Replay, facts, remove_index
from flared.data.volume.segment import Segment, Segments
from flared.data.volume.values import VolumeSettings, VolumeStatus, VolumeThreads
from flared.data.volume.watch import DiskWatch
from flared.errors import Busy, FlareError, VolumeFailed, VolumeFull

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Container, Iterator, Sequence

    from flared.data.disk.buffers import PieceBuffer
    from flared.data.disk.disk import Buffer, Disk
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
        self._pending: dict[str, Batch] = {}
        self._sequence = 0
        self._small = self._appender(SMALL)
        self._large = self._appender(LARGE)
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
        self._small = self._appender(SMALL)
        self._large = self._appender(LARGE)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.piece_map.run)
            nursery.start_soon(self.watch.run)
            nursery.start_soon(self.puncher.run)
            for worker in self.workers:
                nursery.start_soon(WorkerRun(worker).run)
            nursery.start_soon(self._small.run)
            nursery.start_soon(self._large.run)
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

    # Changing

    def put_nowait(self, items: Sequence[tuple[Piece, Buffer]], done: Callable[[Answers], None]) -> bool:
        """Begin to store small pieces; ``done`` gets what ``put_many`` returns, once: now, or in a turn. The buffers
        are read until then. False if this has to wait for something first; then nothing has happened."""
        if not self._refusal() and self._must_wait(items):
            return False
        self._begin_put(items, done)
        return True

    async def put_many(self, items: Sequence[tuple[Piece, Buffer]]) -> Answers:
        """Store small pieces. Return for each True (stored now), False (existed), both durable, or its error."""
        if not self._refusal():
            await self._wait_for_room()
            if self.hidden_pieces:
                await self._prefer_puts(_small_bytes(items))
        # Pieces that another change touches, that are damaged, or that come twice have to wait; the others go now.
        later: list[int] = []
        taken: set[str] = set()
        for number, (piece, _) in enumerate(items):
            if piece.name in self._pending or piece.name in self.damaged or piece.name in taken:
                later.append(number)
            taken.add(piece.name)
        answered = Answered()
        if not later:
            self._begin_put(items, answered)
            return await answered.wait_uncancellable()
        self._begin_put([item for number, item in enumerate(items) if number not in later], answered)
        found = iter(await answered.wait_uncancellable())
        answers: Answers = [False if number in later else next(found) for number in range(len(items))]
        for number in later:
            try:
                await self._clear_previous(items[number][0].name)
                (answers[number],) = await self.put_many([items[number]])
            except FlareError as error:
                answers[number] = error
        return answers

    def _must_wait(self, items: Sequence[tuple[Piece, Buffer]]) -> bool:
        """Return whether the index lags behind, other pieces have to go first, or another change of one of these."""
        names = {piece.name for piece, _ in items}
        return (
            self.piece_map.backlog_soft
            or len(names) < len(items)
            or not self._pending.keys().isdisjoint(names)
            or not self.damaged.keys().isdisjoint(names)
            or (self.hidden_pieces > 0 and self.free < _small_bytes(items))
        )

    def _begin_put(self, items: Sequence[tuple[Piece, Buffer]], done: Callable[[Answers], None]) -> None:
        """Decide about pieces none of which is being changed or known to be damaged; append those that are new."""
        refusal = self._refusal()
        if refusal:
            return done([refusal] * len(items))
        # Nothing below waits, so no other change can come between these checks and the claim of the names.
        batch = Batch(len(items), self._pending, done)
        piece_map, answers, make = self.piece_map, batch.answers, tuple.__new__
        free = -1 if piece_map.backlog_hard else self.free
        names = [piece.name for piece, _ in items]
        refused, recent, last_name = check_pieces(items), piece_map.recent_many(names), piece_map.last_name
        puts: list[Change] = []
        lengths = small_lengths([piece for piece, _ in items])
        for number, ((piece, payload), name, length) in enumerate(zip(items, names, lengths, strict=True)):
            location = recent.get(name, UNKNOWN) if recent else UNKNOWN
            if number in refused:
                answers[number] = refused[number]
            elif isinstance(location, Location):
                answers[number] = False
            elif free < length:
                answers[number] = VolumeFull(f"{self.path} is full")
            else:
                free -= length
                absent = location is None or name > last_name
                puts.append(make(Put, (batch, number, name, piece, payload, length, absent)))
        if puts:
            self.free = free
            batch.claim(names if len(puts) == len(names) else [put.name for put in puts])
            self._small.extend(puts, batch)
        self._begin(batch, self._small)
        return None

    def _begin(self, batch: Batch, appender: Appender) -> None:
        """Its changes are queued: have them written. A batch without any is finished."""
        if batch.left:
            appender.wake()
        else:
            batch.finish()

    async def put_large(self, piece: Piece, buffer: PieceBuffer) -> bool:
        """Store the piece in ``buffer.payload``. Return True (stored now) or False (existed); both are durable."""
        # Waiting for another change of the piece may take long: check again afterwards whether the volume serves.
        bad = await self.threads.check.run(check_piece, piece, buffer.payload[: piece.size])
        while True:
            refusal = bad or self._refusal()
            if refusal:
                raise refusal
            if piece.name not in self._pending and piece.name not in self.damaged:
                break
            await self._clear_previous(piece.name)
        if self.hidden_pieces:
            await self._prefer_puts(record_length(LARGE, 0, piece.size))
        if self.piece_map.find(piece.name):
            return False
        # From here to the claim nothing waits, so the room and the name are this put's.
        length = record_length(LARGE, 0, piece.size)
        if self.free < length or self.piece_map.backlog_hard:
            raise VolumeFull(f"{self.path} is full")
        self.free -= length
        answered = Answered()
        batch = Batch(1, self._pending, answered)
        batch.claim([piece.name])
        self._large.append(Put(batch, 0, piece.name, piece, buffer, length, True))
        self._begin(batch, self._large)
        (answer,) = await answered.wait_uncancellable()
        if isinstance(answer, FlareError):
            raise answer
        return answer

    async def delete_many(self, names: Sequence[str], *, hidden_only: bool = False) -> Answers:
        """Delete pieces. Return for each True (deleted now), False (missing), both durable, or its error.

        A volume that is read-only refuses only what it holds. ``hidden_only``: what is not in quarantine any more when
        its turn comes stays, and counts as not there.
        """
        refusal = self._refusal()
        if refusal and self.state == "readonly" and self.piece_map.complete:
            held = self.piece_map.find_many(names)
            return [refusal if name in held else False for name in names]
        if refusal:
            return [refusal] * len(names)
        await self._wait_for_room()
        locations = self.piece_map.find_many(names)
        answers = await self._append_each(
            names,
            self.piece_map.hidden(names) & locations.keys() if hidden_only else locations,
            lambda batch, number, name: Delete(batch, number, name, locations[name]),
        )
        for number, answer in enumerate(answers):
            if answer is None:
                await self._wait_for(names[number])
                (answers[number],) = await self.delete_many([names[number]], hidden_only=hidden_only)
        return _all_answered(answers)

    def must_wait_to_delete(self, names: Sequence[str]) -> bool:
        """Return whether ``delete_many`` is needed: the volume refuses, its index lags behind, another change of one of
        these is under way, or one comes twice."""
        return (
            self._refusal() is not None
            or self.piece_map.backlog_soft
            or not self._pending.keys().isdisjoint(names)
            or len(set(names)) < len(names)
        )

    def begin_delete(self, names: Sequence[str], done: Callable[[Answers], None]) -> None:
        """Begin to delete pieces, unless it ``must_wait_to_delete``; ``done`` gets what ``delete_many`` returns, once:
        now, or in a turn. Raise Busy if the index was lost just now."""
        locations = self.piece_map.find_many(names)
        batch = Batch(len(names), self._pending, done)
        deletes: list[Change] = []
        for number, name in enumerate(names):
            location = locations.get(name)
            if location is None:
                batch.answers[number] = False
            else:
                deletes.append(Delete(batch, number, name, location))
        batch.claim(list(locations))
        self._small.extend(deletes, batch)
        self._begin(batch, self._small)

    async def hide_many(self, names: Sequence[str], since_ms: int) -> Answers:
        """Put pieces in quarantine, or with 0 take them out of it: True done and durable, False not there or so
        already; else what went wrong with that one. Order: the volume's format is raised before the first record.
        """
        refusal = self._refusal()
        if refusal:
            return [refusal] * len(names)
        await self._wait_for_room()
        try:
            self._raise_format()
            hidden = self.piece_map.hidden(names)
        except FlareError as error:
            return [error] * len(names)
        locations = self.piece_map.find_many(names)
        answers = await self._append_each(
            names,
            {name for name in locations if (name in hidden) != bool(since_ms)},
            lambda batch, number, name: Hide(batch, number, name, locations[name], since_ms),
        )
        for number, answer in enumerate(answers):
            if answer is None:
                await self._wait_for(names[number])
                (answers[number],) = await self.hide_many([names[number]], since_ms)
        return _all_answered(answers)

    async def _append_each(
        self, names: Sequence[str], meant: Container[str], change: Callable[[Batch, int, str], Change]
    ) -> list[Answer | None]:
        """Append the change of each name that is meant, else answer False; None for what is being changed already."""
        answered = Answered()
        batch = Batch(len(names), self._pending, answered)
        later: list[int] = []
        for number, name in enumerate(names):
            if name in self._pending:
                later.append(number)
            elif name not in meant:
                batch.answers[number] = False
            else:
                batch.claim([name])
                self._small.append(change(batch, number, name))
        self._begin(batch, self._small)
        answers: list[Answer | None] = [*await answered.wait_uncancellable()]
        for number in later:
            answers[number] = None
        return answers

    async def show(self, names: Sequence[str]) -> None:
        """Take those of the names that are in quarantine out of it, durably: somebody wants them."""
        if not self.hidden_pieces:
            return
        hidden = self.piece_map.hidden(names)
        if hidden:
            answers = await self.hide_many(sorted(hidden), 0)
            log.info("event=quarantine_lifted path=%s pieces=%d", self.path, answers.count(True))
            for answer in answers:
                if isinstance(answer, FlareError):
                    raise answer

    def _raise_format(self) -> None:
        """Blocks for a sync, once in a volume's life."""
        if self.identity.format < FORMAT:
            self.identity = raise_format(self.disk, self.path, self.identity)
            log.info("event=format_raised path=%s format=%d", self.path, FORMAT)

    async def _prefer_puts(self, length: int) -> None:
        """Make room for a put by deleting quarantined pieces."""
        if self.free < length and self.make_room is not None:
            await self.make_room(length)

    async def _wait_for_room(self) -> None:
        """Let the index catch up, if it lags behind."""
        if self.piece_map.backlog_soft:
            await self.piece_map.wait_for_room()

    async def _clear_previous(self, name: str) -> None:
        """Wait for another change of this piece; bury it if it is known to be damaged."""
        await self._wait_for(name)
        if name in self.damaged:
            (answer,) = await self.delete_many([name])
            self.damaged.pop(name, None)
            if isinstance(answer, FlareError):
                raise answer

    async def _wait_for(self, name: str) -> None:
        """Return when no change of this piece is under way."""
        while name in self._pending:
            await self._pending[name].wait()

    def _refusal(self) -> FlareError | None:
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
            for appender in (self._small, self._large):
                appender.close(VolumeFailed(reason))

    def fail(self, reason: str) -> None:
        self.stop_writes(reason)
        self._enter("failed", reason)

    def _collect(self) -> tuple[Sequence[Watermark], dict[str, int]]:
        """Return the marks and facts for the next flush of the index."""
        marks = [*self._small.take_marks(), *self._large.take_marks()]
        return marks, facts(self.segments.next_id, self._sequence)

    async def roll(self, kind: int) -> None:
        """Seal the active segment of this kind as soon as no group is under way."""
        await (self._small if kind == SMALL else self._large).request_roll()

    def active_segments(self) -> list[Segment]:
        return [appender.active for appender in (self._small, self._large) if appender.active]

    # Space and health

    def status(self) -> VolumeStatus:
        free = 0 if self.state == "failed" else max(0, self.free + self.hidden_bytes)
        return VolumeStatus(
            self.identity.volume, self.path, self.capacity, self.used, free, self.state, self.reason, self.pieces,
            round(trio.current_time() - self._state_since, 1), self.file_system,
            self.hidden_pieces, self.hidden_bytes,
            self._small.syncs + self._large.syncs, self._small.records + self._large.records,
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
        unused = self._small.unused_bytes + self._large.unused_bytes
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


def _small_bytes(items: Sequence[tuple[Piece, Buffer]]) -> int:
    """Return what these pieces take in a small segment."""
    return sum(small_lengths([piece for piece, _ in items]))


def _all_answered(answers: Sequence[Answer | None]) -> Answers:
    return [answer for answer in answers if answer is not None]
