"""URL -> metadata engine, running."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from flared.background import Threads, WorkerThreads
from flared.errors import ConfigError
from flared.http.turns import Turns
from flared.meta.kv import KV
from flared.meta.memory import MemoryKV
from flared.meta.scans import SCANS_MAX
from flared.meta.sqlite import SqliteKV


@asynccontextmanager
async def open_kv(url: str, *, threads: Threads | None = None, turns: Turns | None = None) -> AsyncIterator[KV]:
    """The engine behind ``url``: ``memory:``, ``sqlite:PATH`` or a plain path; it commits while the block lasts.

    With ``turns``, which must run as long as anything is to be committed, the decisions of a turn are looked up and
    committed together. ``threads`` should be the engine's alone: a commit must not queue behind a codec.
    Raises Busy if another process has the file, ConfigError if the URL or the file is not one we know.
    """
    kind, colon, rest = url.partition(":")
    if not colon:
        kind, rest = "sqlite", url
    if kind == "memory":
        yield MemoryKV()
    elif kind == "sqlite" and rest:
        async with _open_sqlite(Path(rest), threads or WorkerThreads(3 + SCANS_MAX), turns) as kv:
            yield kv
    else:
        raise ConfigError([f"{url!r} is not a valid metadata URL: use a path, sqlite:PATH or memory:"])


@asynccontextmanager
async def _open_sqlite(path: Path, threads: Threads, turns: Turns | None) -> AsyncIterator[SqliteKV]:
    kv = await SqliteKV.open(path, threads=threads, turns=turns)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(kv.run)
            yield kv
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):  # a few checkpointed pages; without it the next start replays the log
            await threads.run(kv.close)
