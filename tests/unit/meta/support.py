"""An engine that runs for the length of a block, and its file changed behind its back."""

from __future__ import annotations

import sqlite3
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING

import trio

from flared.meta.sqlite import SqliteKV, SqliteSettings
from flared.meta.sqlite_file import PAGE_BYTES
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


def content_of(path: Path) -> bytes:
    return path.read_bytes()


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def root_page(path: Path, tree: str) -> int:
    """The first page of the rows (``table``), of their ``index``, or of their ``aliases``."""
    name = {"table": "kv", "index": "sqlite_autoindex_kv_1", "aliases": "kv_alias"}[tree]
    with closing(sqlite3.connect(path)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (name,)).fetchone()
    return int(page)


def replace_in(path: Path, tree: str, old: bytes, new: bytes) -> None:
    """Change bytes of a tree that is one page, as a disk does that flips bits."""
    assert len(old) == len(new)
    start = (root_page(path, tree) - 1) * PAGE_BYTES
    content = path.read_bytes()
    page = content[start : start + PAGE_BYTES]
    assert page.count(old) == 1
    path.write_bytes(content[:start] + page.replace(old, new) + content[start + PAGE_BYTES :])
