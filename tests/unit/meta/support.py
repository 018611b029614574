"""An engine that runs for the length of a block, and its file changed behind its back."""

from __future__ import annotations

import sqlite3
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING

import trio

from flared.meta.sqlite import SqliteKV, SqliteSettings
from tests.support.threads import InlineThreads

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from flared.background import Threads


@asynccontextmanager
async def running(
    path: Path, threads: Threads | None = None, settings: SqliteSettings | None = None
) -> AsyncIterator[SqliteKV]:
    kv = await SqliteKV.open(path, threads=threads or InlineThreads(), settings=settings)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(kv.run)
            yield kv
            nursery.cancel_scope.cancel()
    finally:
        kv.close()


def change(path: Path, *statements: str) -> None:
    """Run SQL on a file that no engine has open."""
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()
