"""An owner of a metadata file and a follower of it, connected as two processes would be."""

from __future__ import annotations

import json
import os
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from flared.http.turns import Turns, open_turns
from flared.meta.shared.channel import Channel
from flared.meta.shared.desk import Desk, pack_hello
from flared.meta.shared.follower import FollowerKV
from flared.meta.shared.frames import Kind
from flared.meta.shared.published import Publisher, Subscriber, create_memory
from flared.meta.sqlite import SqliteKV, SqliteSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@asynccontextmanager
async def _open_owner(path: Path, turns: Turns, settings: SqliteSettings | None) -> AsyncIterator[SqliteKV]:
    kv = await SqliteKV.open(path, settings=settings, turns=turns)
    async with trio.open_nursery() as nursery:
        await nursery.start(kv.run)
        yield kv
        nursery.cancel_scope.cancel()
    kv.close()


@asynccontextmanager
async def open_shared(path: Path, settings: SqliteSettings | None = None) -> AsyncIterator[tuple[SqliteKV, FollowerKV]]:
    """Both engines, in one process."""
    memory = create_memory()
    followers: list[FollowerKV] = []

    async def release() -> None:
        for one in followers:
            one.release()

    async with open_turns() as turns, _open_owner(path, turns, settings) as owner:
        publisher = Publisher(memory)
        hello = json.loads(pack_hello(owner.publish_to(publisher, release)))
        subscriber = Subscriber(memory)
        follower = FollowerKV(path, subscriber, turns, hello)
        followers.append(follower)
        ours, theirs = socket.socketpair()

        def heard_there(kind: Kind, payload: bytes) -> None:
            if kind is Kind.COMMITS:
                desk.take_commits(payload)
            else:
                assert kind is Kind.FOUND
                owner.note_damage(bytes.fromhex(json.loads(payload)["row"]))

        def heard_here(kind: Kind, payload: bytes) -> None:
            assert kind is Kind.ANSWERS
            follower.take_answers(payload)

        there = Channel(theirs, turns, heard_there, lambda _reason: None)
        desk = Desk(owner, turns, there, lambda: None, lambda *note: note)
        here = Channel(ours, turns, heard_here, lambda _reason: follower.lose_owner())
        follower.connect(here, lambda: None)
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(follower.run)
                yield owner, follower
                nursery.cancel_scope.cancel()
        finally:
            here.close("the end")
            there.close("the end")
            follower.close()
            subscriber.close()
    publisher.close()
    os.close(memory)
