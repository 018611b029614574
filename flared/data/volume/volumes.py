"""Volumes: all disks of one data node as one store of pieces, for the service.

A put goes to the volume with the most free space; all other calls query all volumes. A failed volume does not stop the
others, but a piece that they do not have may be on it: the answer is then Busy. It stays failed until the node is
restarted; in the meantime its pieces are rebuilt elsewhere (``upkeep.repair.lost_volumes``).
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, cast

import trio

from flared.background import WorkerRun
from flared.data.disk.buffers import BufferPool, PieceBuffer
from flared.data.index.quarantine import page_hidden
from flared.data.pieces import Piece
from flared.data.volume.answers import Route, combine
from flared.data.volume.compact import Compactor
from flared.data.volume.duplicates import Duplicates
from flared.data.volume.marks import Marks
from flared.data.volume.quarantine import Quarantine
from flared.data.volume.reader import Found, OpenPiece
from flared.data.volume.scrub import Scrubber
from flared.data.volume.search import missing, search
from flared.data.volume.values import DataSettings, DataStatus, VolumeStatus
from flared.data.volume.volume import Volume
from flared.errors import (
    Busy,
    FlareError,
    NoSuchPiece,
    PieceCorrupt,
    VolumeFailed,
    VolumeFull,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flared.data.disk.disk import Buffer, Lock
    from flared.data.index.index import Location
    from flared.data.volume.changes import Answer, Answers

log = logging.getLogger(__name__)


class Volumes:
    """The PieceStore of a data node. Everything but ``status`` works only while ``run`` is running."""

    def __init__(
        self, settings: DataSettings, volumes: Sequence[Volume], failed: Sequence[VolumeStatus], locks: Sequence[Lock]
    ) -> None:
        self.buffers = BufferPool(settings.buffer_bytes)
        self._volumes = list(volumes)
        self._failed = list(failed)
        self._opened = trio.current_time()
        self._locks = list(locks)
        self.marks = Marks(volumes)
        self.duplicates = Duplicates(self._volumes) if len(volumes) > 1 else None
        self._clock = settings.clock
        self._quarantines: list[Quarantine] = []
        for volume in volumes:
            compactor = Compactor(volume)
            quarantine = Quarantine(volume, settings.quarantine_seconds, settings.clock)
            self._quarantines.append(quarantine)
            volume.make_room, volume.compact_now = quarantine.make_room, compactor.wake
            volume.workers = [compactor, Scrubber(volume, settings.scrub_period_seconds), quarantine]

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled: group commits, index, scrub, compaction. Started at once; see ``wait_ready``."""
        try:
            async with trio.open_nursery() as nursery:
                for volume in self._volumes:
                    nursery.start_soon(volume.run)
                nursery.start_soon(self.buffers.run_trimmer)
                nursery.start_soon(self.marks.run)
                if self.duplicates is not None:
                    nursery.start_soon(WorkerRun(self.duplicates).run)
                task_status.started()
        finally:
            for lock in self._locks:
                lock.close()

    async def wait_ready(self) -> None:
        """Return when every volume serves, or has failed."""
        for volume in self._volumes:
            await volume.ready.wait()

    # Pieces

    def put_nowait(self, items: Sequence[tuple[Piece, Buffer]], done: Callable[[Answers | None], None]) -> bool:
        """Begin to store small pieces; ``done`` gets what ``put_many`` returns, once: now, or in a turn. It gets None
        if some may be in quarantine: put them with ``put_many`` then. The buffers are read until ``done``.

        False if something has to be waited for first; then nothing has happened.
        """
        route = self._route(items)
        hid = self._hides_pieces()

        def stored(some: Answers) -> None:
            answers = route.merge(some)
            done(None if False in answers and (hid or self._hides_pieces()) else answers)

        if route.volume is not None:
            return route.volume.writer.put_nowait(route.items, stored)
        stored([])
        return True

    async def put_many(self, items: Sequence[tuple[Piece, Buffer]]) -> Answers:
        """Store small pieces: True stored now, False already there; both durable. Else what refused that one.

        The buffers are read until this returns, also when cancelled.
        """
        route = self._route(items)
        stored = await route.volume.writer.put_many(route.items) if route.volume is not None else []
        answers = route.merge(stored)
        if False not in answers:
            return answers
        answers = await self._show_existing([piece.name for piece, _ in items], answers)
        existing = [number for number, answer in enumerate(answers) if answer is False]
        there = self._find_many([items[number][0].name for number in existing])
        for number in existing:
            # It was in quarantine, and its time was over before it could be shown.
            if items[number][0].name not in there:
                (answers[number],) = await self.put_many([items[number]])
        return answers

    def _route(self, items: Sequence[tuple[Piece, Buffer]]) -> Route:
        """Decide which volume is to store which of these pieces."""
        if len(self._volumes) == 1 and not self._failed:
            return Route(self._volumes[0], items, (), [])
        elsewhere = self._find_many([piece.name for piece, _ in items])
        numbers = [number for number, (piece, _) in enumerate(items) if piece.name not in elsewhere]
        answers: Answers = [False] * len(items)
        volume = None
        if numbers:
            try:
                volume = self._roomiest()
            except FlareError as error:
                for number in numbers:
                    answers[number] = error
        return Route(volume, [items[number] for number in numbers], numbers, answers)

    def _hides_pieces(self) -> bool:
        return any(volume.hidden_pieces for volume in self._working())

    async def put_large(self, piece: Piece, buffer: PieceBuffer) -> bool:
        """Store the piece in ``buffer.payload[:piece.size]``. Return True if it was stored now, False if it existed.

        Raise BadDigest, VolumeFull, VolumeFailed, Busy. The buffer is used until this returns, also when cancelled.
        """
        if len(self._volumes) > 1 and self._find_many([piece.name]):
            stored = False
        else:
            stored = await self._roomiest().writer.put_large(piece, buffer)
        if not stored:
            await self.show([piece.name])
            if not self._find_many([piece.name]):  # as in ``put_many``
                return await self.put_large(piece, buffer)
        return stored

    async def quarantine_many(self, names: Sequence[str]) -> list[Answer]:
        """Hide pieces that reconcile found to be orphans. Return for each True (hidden now), False (missing or hidden
        before), both durable, or its error. A failed volume is left out, as in ``delete_many``."""
        answers: list[Answer] = [False] * len(names)
        working = self._working()
        if not working:
            return [_unasked(self.left_out[0])] * len(names)
        for volume in working:
            try:
                hidden = await volume.writer.hide_many(names, int(self._clock() * 1000))
            except FlareError as error:
                hidden = [error] * len(names)
            answers = [combine(one, other) for one, other in zip(answers, hidden, strict=True)]
        return answers

    async def show(self, names: Sequence[str]) -> None:
        """Take these pieces out of quarantine, if they are in it, because they are needed. Durable on return."""
        for volume in self._working():
            await volume.writer.show(names)

    async def list_quarantined(self, after: str, limit: int) -> list[tuple[str, int, int]]:
        """Return (name, size, hidden since, ms) of the next hidden pieces in name order."""
        pages = [
            await volume.piece_map.change(lambda index: page_hidden(index, after, limit)) for volume in self._working()
        ]
        return list(islice(heapq.merge(*pages), limit))

    def keep_quarantined(self, seconds: float) -> None:
        """Set how long hidden pieces are kept."""
        for quarantine in self._quarantines:
            quarantine.keep_seconds = seconds

    async def _show_existing(self, names: Sequence[str], answers: list[Answer]) -> list[Answer]:
        """Take existing pieces that were put again out of quarantine, because they are needed."""
        existing = [name for name, answer in zip(names, answers, strict=True) if answer is False]
        try:
            if existing:
                await self.show(existing)
        except FlareError as error:
            return [error if answer is False else answer for answer in answers]
        return answers

    async def delete_many(self, names: Sequence[str]) -> list[Answer]:
        """Delete pieces. Return for each True (deleted now), False (missing), both durable, or Busy if a volume could
        not be queried.

        A failed volume does not hinder that: it will still have its pieces when it comes back (see ``left_out``), and
        ``upkeep.deletion.reconcile`` compares its inventory then.
        """
        answers: list[Answer] = [False] * len(names)
        working = self._working()
        if not working:
            return [_unasked(self.left_out[0])] * len(names)
        for volume in working:
            try:
                deleted = await volume.writer.delete_many(names)
            except FlareError as error:
                deleted = [error] * len(names)
            answers = [combine(one, other) for one, other in zip(answers, deleted, strict=True)]
        return answers

    def delete_nowait(self, names: Sequence[str], done: Callable[[Answers], None]) -> bool:
        """Begin to delete pieces; ``done`` gets what ``delete_many`` returns, once: now, or in a turn.

        False if something has to be waited for first; then nothing has happened.
        """
        working = self._working()
        if not working or any(volume.writer.must_wait_to_delete(names) for volume in working):
            return False
        left, combined = len(working), cast("Answers", [False] * len(names))

        def deleted(some: Answers) -> None:
            nonlocal left, combined
            combined = [combine(one, other) for one, other in zip(combined, some, strict=True)]
            left -= 1
            if not left:
                done(combined)

        for volume in working:
            try:
                volume.writer.begin_delete(names, deleted)
            except FlareError as error:
                deleted([error] * len(names))
        return True

    def read_nowait(self, names: Sequence[str], bytes_max: int) -> list[Found | FlareError] | None:
        """As ``read_many``, if memory has all pieces, in at most so many bytes; return None if that takes a task."""
        steps = search(self._working(), names, self._left_out())
        try:
            volume, wanted = next(steps)
            while True:
                bytes_max -= sum([location.size for _, location in wanted])
                read = volume.reader.read_nowait(wanted) if bytes_max >= 0 else None
                if read is None or (volume.hidden_pieces and volume.piece_map.hidden([name for name, _ in wanted])):
                    return None
                volume, wanted = steps.send(read)
        except StopIteration as end:
            return cast("list[Found | FlareError]", end.value)
        except Busy:
            return None  # the index was lost just now

    async def read_many(self, names: Sequence[str]) -> list[Found | FlareError]:
        """Small pieces, whole and verified. In the place of the others NoSuchPiece, PieceCorrupt, TooLarge or Busy."""
        await self._show_wanted(names)
        steps = search(self._working(), names, self._left_out())
        try:
            volume, wanted = next(steps)
            while True:
                try:
                    read = await volume.reader.read_many(wanted)
                except VolumeFailed as error:
                    volume, wanted = steps.throw(error)
                else:
                    volume, wanted = steps.send(read)
        except StopIteration as end:
            return cast("list[Found | FlareError]", end.value)

    async def _show_wanted(self, names: Sequence[str]) -> None:
        """Take pieces that are asked for by name out of quarantine, before they are looked for: one that is deleted
        meanwhile is not found then. A disk that refuses that can still be read."""
        for volume in self._working():
            try:
                await volume.writer.show(names)
            except FlareError as error:
                log.warning("event=quarantine_not_lifted pieces=%d error=%r", len(names), str(error))

    async def open(self, name: str) -> OpenPiece:
        """Open a piece for reading; the caller closes it. Raise NoSuchPiece, PieceCorrupt, Busy."""
        unsure: FlareError | None = self._left_out()
        damaged: PieceCorrupt | None = None
        await self._show_wanted([name])
        for volume in sorted(self._working(), key=lambda volume: name in volume.damaged):
            try:
                return await volume.reader.open(name)
            except NoSuchPiece:
                continue
            except PieceCorrupt as error:
                damaged = error
            except (Busy, VolumeFailed) as error:
                unsure = error
        raise damaged or missing(name, unsure)

    async def head(self, name: str) -> Piece:
        """Return the Piece from its record's header. Raise NoSuchPiece, PieceCorrupt, Busy."""
        with await self.open(name) as opened:
            return opened.piece

    async def list_working(self, after: str, limit: int) -> tuple[list[tuple[str, int]], tuple[str, ...]]:
        """Return (name, size) of the next ``limit`` pieces after ``after``, in name order, on all volumes that have not
        failed; and the paths of the failed ones.

        A name within the range of the page that is not on it is on none of the working volumes. Raise Busy if one of
        them cannot be queried now.
        """
        working = self._working()
        pages = [await volume.piece_map.page(after, limit) for volume in working]
        # After the pages: a volume that failed in the meantime has answered or raised, and is reported either way.
        left_out = self.left_out
        merged = dict(heapq.merge(*pages))  # a piece on two volumes is one piece
        return list(islice(merged.items(), limit)), left_out

    # The node

    def status(self) -> DataStatus:
        lasted = round(trio.current_time() - self._opened, 1)
        failed = (replace(volume, state_seconds=lasted) for volume in self._failed)
        volumes = (*(volume.status() for volume in self._volumes), *failed)
        pieces = sum(volume.pieces for volume in volumes)
        return DataStatus(volumes, pieces, self.cluster, self.buffers.leased_bytes)

    def take_damage(self) -> list[str]:
        """Return the names of pieces found corrupt since the last call."""
        damage: list[str] = []
        for volume in self._volumes:
            damage += volume.new_damage
            volume.new_damage = []
        return damage

    @property
    def cluster(self) -> str:
        """The cluster of these volumes; "" until the first heartbeat."""
        return next((volume.identity.cluster for volume in self._volumes if volume.identity.cluster), "")

    def set_cluster(self, cluster: str) -> None:
        """Store the cluster in every volume. Raise ConfigError if one serves another. Blocks for a sync or two."""
        for volume in self._working():
            volume.join(cluster)

    def _find_many(self, names: Sequence[str]) -> dict[str, Location]:
        """Return pieces that some volume has. One that cannot be queried is skipped: a second copy does no harm. A
        failed one is skipped too, even if it still knows its pieces: they are not copies to rely on."""
        found: dict[str, Location] = {}
        for volume in self._working():
            try:
                locations = volume.piece_map.find_many(names)
            except Busy:
                continue
            found.update((name, location) for name, location in locations.items() if name not in volume.damaged)
        return found

    def _roomiest(self) -> Volume:
        writable = [volume for volume in self._volumes if volume.state in ("ok", "full")]
        if not writable:
            states = ", ".join(f"{volume.path}: {volume.state}" for volume in self.status().volumes)
            if any(volume.state == "replaying" for volume in self._volumes):
                raise Busy(f"no volume accepts writes yet ({states})")
            raise VolumeFull(f"no volume accepts writes ({states})")
        return max(writable, key=lambda volume: volume.free)

    @property
    def left_out(self) -> tuple[str, ...]:
        """Return the paths of the failed volumes, whose content is unknown until the node is restarted."""
        running = (volume.path for volume in self._volumes if volume.state == "failed")
        return (*running, *(volume.path for volume in self._failed))

    def _working(self) -> list[Volume]:
        return [volume for volume in self._volumes if volume.state != "failed"]

    def _left_out(self) -> Busy | None:
        left_out = self.left_out
        return _unasked(left_out[0]) if left_out else None

    async def list(self, after: str, limit: int) -> list[tuple[str, int]]:
        """As ``list_working``, for all volumes, or raise Busy. Last in the class: it hides the type ``list``."""
        page, left_out = await self.list_working(after, limit)
        if left_out:
            raise _unasked(left_out[0])
        return page


def _unasked(path: str) -> Busy:
    return Busy(f"volume {path} could not be queried")
