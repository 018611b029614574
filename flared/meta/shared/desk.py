"""Desk: the owner's end of one follower: applies what the follower decided, and answers in groups."""

from __future__ import annotations

import json
import logging
from functools import partial
from typing import TYPE_CHECKING

from flared import __version__
from flared.errors import FlareError, RowCorrupt, TransactionConflict
from flared.meta.shared.frames import PROTOCOL, Answer, Commit, Kind, Outcome, pack_answer, pack_list, unpack_commits

if TYPE_CHECKING:
    from collections.abc import Callable

    from flared.http.turns import Turns
    from flared.meta.kv import Transaction
    from flared.meta.openings import Opening
    from flared.meta.shared.channel import Channel
    from flared.meta.sqlite import SqliteKV

log = logging.getLogger(__name__)


def pack_hello(opening: Opening) -> bytes:
    """Return the owner's HELLO."""
    hello = {
        "version": __version__,
        "protocol": PROTOCOL,
        "opening": opening.id,
        "past": opening.past,
    }
    return json.dumps(hello).encode()


class Desk:
    """Takes the commits of one follower."""

    def __init__(
        self,
        kv: SqliteKV,
        turns: Turns,
        channel: Channel,
        admit: Callable[[], None],
        make_note: Callable[[bytes, int, int], object],
    ) -> None:
        """``admit`` raises if nothing may be written now; ``make_note`` makes what listeners know of a note."""
        self._kv = kv
        self._turns = turns
        self._channel = channel
        self._admit = admit
        self._make_note = make_note
        self._answers: list[bytes] = []

    def take_commits(self, payload: bytes) -> None:
        """A COMMITS frame has come. Raises BadFrame, and then none of it is applied."""
        for commit in unpack_commits(payload):
            self._kv.commit_nowait(commit.expected, partial(self._change, commit), partial(self._done, commit.id))

    def _change(self, commit: Commit, tx: Transaction) -> None:
        if commit.writes:
            self._admit()
        for key, value in commit.writes.items():
            if value is None:
                tx.delete(key)
            else:
                tx.put(key, value)
        for note in commit.notes:
            tx.note(self._make_note(*note))
        if commit.reclaims:
            tx.reclaim()

    def _done(self, number: int, _nothing: None, error: Exception | None) -> None:
        if error is None:
            answer = Answer(number, Outcome.DONE)
        elif isinstance(error, TransactionConflict):
            answer = Answer(number, Outcome.CONFLICT, str(error))
        elif isinstance(error, RowCorrupt):
            answer = Answer(number, Outcome.ERROR, f"RowCorrupt\n{error.key.hex()}")
        else:
            if not isinstance(error, FlareError):
                log.error("event=commit_failed error=%r", error)
            answer = Answer(number, Outcome.ERROR, f"{type(error).__name__}\n{error}")
        self._answers.append(pack_answer(answer))
        if len(self._answers) == 1:
            self._turns.at_end(self._send)

    def _send(self) -> None:
        answers, self._answers = self._answers, []
        self._channel.send(Kind.ANSWERS, pack_list(answers))
