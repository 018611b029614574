"""Writer: puts, deletes and hides the pieces of one volume; what it answers is durable.

It decides on the event loop, by the piece map and by what is being changed; the appender of the kind writes. No name is
changed twice at a time: the second change waits in a task, and decides when the first one is over.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from flared.data.index.index import Location
from flared.data.index.piece_map import UNKNOWN
from flared.data.record import LARGE, record_length, small_lengths
from flared.data.volume.changes import Answered, Batch, Delete, Hide, Put
from flared.data.volume.check import check_piece, check_pieces
from flared.errors import FlareError, VolumeFull

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Container, Sequence

    from flared.data.disk.buffers import PieceBuffer
    from flared.data.disk.disk import Buffer
    from flared.data.index.piece_map import PieceMap
    from flared.data.pieces import Piece
    from flared.data.volume.appender import Appender
    from flared.data.volume.changes import Answer, Answers, Change
    from flared.data.volume.values import VolumeThreads

log = logging.getLogger(__name__)


class WriterOwner(Protocol):
    """What a Writer has of its volume."""

    path: str
    state: str
    free: int
    hidden_pieces: int
    piece_map: PieceMap
    damaged: dict[str, Location]
    threads: VolumeThreads
    make_room: Callable[[int], Awaitable[None]] | None
    small: Appender
    large: Appender

    def refusal(self) -> FlareError | None:
        """Return why nothing can be changed now; None if it can."""

    def raise_format(self) -> None:
        """Have the volume in the newest format."""


class Writer:
    """The changes of one volume; it serves them only while the volume runs."""

    def __init__(self, volume: WriterOwner) -> None:
        self._volume = volume
        self._pending: dict[str, Batch] = {}
        """The names that are being changed."""

    def put_nowait(self, items: Sequence[tuple[Piece, Buffer]], done: Callable[[Answers], None]) -> bool:
        """Begin to store small pieces; ``done`` gets what ``put_many`` returns, once: now, or in a turn. The buffers
        are read until then. False if this has to wait for something first; then nothing has happened."""
        if not self._volume.refusal() and self._must_wait(items):
            return False
        self._begin_put(items, done)
        return True

    async def put_many(self, items: Sequence[tuple[Piece, Buffer]]) -> Answers:
        """Store small pieces. Return for each True (stored now), False (existed), both durable, or its error."""
        if not self._volume.refusal():
            await self._wait_for_room()
            if self._volume.hidden_pieces:
                await self._prefer_puts(_small_bytes(items))
        # Pieces that another change touches, that are damaged, or that come twice have to wait; the others go now.
        later: list[int] = []
        taken: set[str] = set()
        for number, (piece, _) in enumerate(items):
            if piece.name in self._pending or piece.name in self._volume.damaged or piece.name in taken:
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
            self._volume.piece_map.backlog_soft
            or len(names) < len(items)
            or not self._pending.keys().isdisjoint(names)
            or not self._volume.damaged.keys().isdisjoint(names)
            or (self._volume.hidden_pieces > 0 and self._volume.free < _small_bytes(items))
        )

    def _begin_put(self, items: Sequence[tuple[Piece, Buffer]], done: Callable[[Answers], None]) -> None:
        """Decide about pieces none of which is being changed or known to be damaged; append those that are new."""
        refusal = self._volume.refusal()
        if refusal:
            return done([refusal] * len(items))
        # Nothing below waits, so no other change can come between these checks and the claim of the names.
        batch = Batch(len(items), self._pending, done)
        piece_map, answers, make = self._volume.piece_map, batch.answers, tuple.__new__
        free = -1 if piece_map.backlog_hard else self._volume.free
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
                answers[number] = VolumeFull(f"{self._volume.path} is full")
            else:
                free -= length
                absent = location is None or name > last_name
                puts.append(make(Put, (batch, number, name, piece, payload, length, absent)))
        if puts:
            self._volume.free = free
            batch.claim(names if len(puts) == len(names) else [put.name for put in puts])
            self._volume.small.extend(puts, batch)
        self._begin(batch, self._volume.small)
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
        bad = await self._volume.threads.check.run(check_piece, piece, buffer.payload[: piece.size])
        while True:
            refusal = bad or self._volume.refusal()
            if refusal:
                raise refusal
            if piece.name not in self._pending and piece.name not in self._volume.damaged:
                break
            await self._clear_previous(piece.name)
        if self._volume.hidden_pieces:
            await self._prefer_puts(record_length(LARGE, 0, piece.size))
        if self._volume.piece_map.find(piece.name):
            return False
        # From here to the claim nothing waits, so the room and the name are this put's.
        length = record_length(LARGE, 0, piece.size)
        if self._volume.free < length or self._volume.piece_map.backlog_hard:
            raise VolumeFull(f"{self._volume.path} is full")
        self._volume.free -= length
        answered = Answered()
        batch = Batch(1, self._pending, answered)
        batch.claim([piece.name])
        self._volume.large.append(Put(batch, 0, piece.name, piece, buffer, length, True))
        self._begin(batch, self._volume.large)
        (answer,) = await answered.wait_uncancellable()
        if isinstance(answer, FlareError):
            raise answer
        return answer

    async def delete_many(self, names: Sequence[str], *, hidden_only: bool = False) -> Answers:
        """Delete pieces. Return for each True (deleted now), False (missing), both durable, or its error.

        A volume that is read-only refuses only what it holds. ``hidden_only``: what is not in quarantine any more when
        its turn comes stays, and counts as not there.
        """
        refusal = self._volume.refusal()
        if refusal and self._volume.state == "readonly" and self._volume.piece_map.complete:
            held = self._volume.piece_map.find_many(names)
            return [refusal if name in held else False for name in names]
        if refusal:
            return [refusal] * len(names)
        await self._wait_for_room()
        locations = self._volume.piece_map.find_many(names)
        answers = await self._append_each(
            names,
            self._volume.piece_map.hidden(names) & locations.keys() if hidden_only else locations,
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
            self._volume.refusal() is not None
            or self._volume.piece_map.backlog_soft
            or not self._pending.keys().isdisjoint(names)
            or len(set(names)) < len(names)
        )

    def begin_delete(self, names: Sequence[str], done: Callable[[Answers], None]) -> None:
        """Begin to delete pieces, unless it ``must_wait_to_delete``; ``done`` gets what ``delete_many`` returns, once:
        now, or in a turn. Raise Busy if the index was lost just now."""
        locations = self._volume.piece_map.find_many(names)
        batch = Batch(len(names), self._pending, done)
        deletes: list[Change] = []
        for number, name in enumerate(names):
            location = locations.get(name)
            if location is None:
                batch.answers[number] = False
            else:
                deletes.append(Delete(batch, number, name, location))
        batch.claim(list(locations))
        self._volume.small.extend(deletes, batch)
        self._begin(batch, self._volume.small)

    async def hide_many(self, names: Sequence[str], since_ms: int) -> Answers:
        """Put pieces in quarantine, or with 0 take them out of it: True done and durable, False not there or so
        already; else what went wrong with that one. Order: the volume's format is raised before the first record.
        """
        refusal = self._volume.refusal()
        if refusal:
            return [refusal] * len(names)
        await self._wait_for_room()
        try:
            self._volume.raise_format()
            hidden = self._volume.piece_map.hidden(names)
        except FlareError as error:
            return [error] * len(names)
        locations = self._volume.piece_map.find_many(names)
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
                self._volume.small.append(change(batch, number, name))
        self._begin(batch, self._volume.small)
        answers: list[Answer | None] = [*await answered.wait_uncancellable()]
        for number in later:
            answers[number] = None
        return answers

    async def show(self, names: Sequence[str]) -> None:
        """Take those of the names that are in quarantine out of it, durably: somebody wants them."""
        if not self._volume.hidden_pieces:
            return
        hidden = self._volume.piece_map.hidden(names)
        if hidden:
            answers = await self.hide_many(sorted(hidden), 0)
            log.info("event=quarantine_lifted path=%s pieces=%d", self._volume.path, answers.count(True))
            for answer in answers:
                if isinstance(answer, FlareError):
                    raise answer

    async def _prefer_puts(self, length: int) -> None:
        """Make room for a put by deleting quarantined pieces."""
        if self._volume.free < length and self._volume.make_room is not None:
            await self._volume.make_room(length)

    async def _wait_for_room(self) -> None:
        """Let the index catch up, if it lags behind."""
        if self._volume.piece_map.backlog_soft:
            await self._volume.piece_map.wait_for_room()

    async def _clear_previous(self, name: str) -> None:
        """Wait for another change of this piece; bury it if it is known to be damaged."""
        await self._wait_for(name)
        if name in self._volume.damaged:
            (answer,) = await self.delete_many([name])
            self._volume.damaged.pop(name, None)
            if isinstance(answer, FlareError):
                raise answer

    async def _wait_for(self, name: str) -> None:
        """Return when no change of this piece is under way."""
        while name in self._pending:
            await self._pending[name].wait()


def _small_bytes(items: Sequence[tuple[Piece, Buffer]]) -> int:
    """Return what these pieces take in a small segment."""
    return sum(small_lengths([piece for piece, _ in items]))


def _all_answered(answers: Sequence[Answer | None]) -> Answers:
    return [answer for answer in answers if answer is not None]
