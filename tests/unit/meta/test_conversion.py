"""A file of layout 1 becomes one of layout 2, or stays as it is."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from flared.errors import Busy, ConfigError, MetadataFull
from flared.meta import conversion
from flared.meta.row import checksum
from flared.meta.sqlite import SqliteKV
from flared.meta.sqlite_file import APPLICATION
from tests.support.threads import InlineThreads
from tests.unit.meta.support import change, running

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OPENINGS = 7
ROWS = {b"k%03d" % number: os.urandom(number) for number in range(300)}
VERSION = OPENINGS << 40


class Cut(BaseException):
    """The power, or the process, ends here."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file as the first layout left it, part of it still in its log."""
    path = tmp_path / "meta.db"
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in (
        "PRAGMA journal_mode = WAL",
        "CREATE TABLE kv (key BLOB NOT NULL UNIQUE, value BLOB NOT NULL, version INTEGER NOT NULL)",
        "CREATE TABLE openings (count INTEGER NOT NULL)",
        f"INSERT INTO openings VALUES ({OPENINGS})",
        f"PRAGMA application_id = {APPLICATION}",
        "PRAGMA user_version = 1",
    ):
        connection.execute(statement)
    connection.executemany("INSERT INTO kv VALUES (?, ?, ?)", [(*row, VERSION) for row in ROWS.items()])
    logged = path.with_name("meta.db-wal").read_bytes()
    file = path.read_bytes()
    connection.close()
    path.write_bytes(file)
    path.with_name("meta.db-wal").write_bytes(logged)
    return path


def names(path: Path) -> set[str]:
    return {file.name for file in path.parent.iterdir()} - {"meta.db.lock", "meta.db.reserve", "meta.db-shm"}


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def content(path: Path) -> bytes:
    return path.read_bytes()


def layout_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        (layout,) = connection.execute("PRAGMA user_version").fetchone()
        return int(layout)


async def test_every_row_is_there_with_its_version_and_a_checksum_and_the_old_file_is_kept(path: Path) -> None:
    async with running(path) as kv:
        assert dict(await kv.scan(b"", b"\xff", 1000)) == ROWS
        entry = await kv.get(b"k007")
        assert entry is not None
        assert entry.version == VERSION
        await kv.commit({}, {b"k007": b"new"})
        entry = await kv.get(b"k007")
        assert entry is not None
        assert entry.version > VERSION
    with closing(sqlite3.connect(path)) as connection:
        for key, value, version, found in connection.execute("SELECT key, value, version, checksum FROM kv"):
            assert found == checksum(key, value, version)
    (kept,) = path.parent.glob("meta.db.before-layout-2-*")
    assert layout_of(kept) == 1
    with closing(sqlite3.connect(kept)) as connection:
        assert dict(connection.execute("SELECT key, value FROM kv")) == ROWS
    assert names(path) == {"meta.db", kept.name}
    assert mode(path) == 0o600


async def test_it_happens_once(path: Path) -> None:
    for _ in range(3):
        async with running(path):
            pass
    assert len(list(path.parent.glob("meta.db.before-*"))) == 1


@pytest.mark.parametrize("step", ["_settle", "_check", "_copy", "_replace", "os.fsync", "os.link", "os.replace"])
@pytest.mark.parametrize("after", [False, True])
async def test_a_conversion_that_was_broken_off_begins_anew(
    path: Path, monkeypatch: pytest.MonkeyPatch, step: str, after: bool
) -> None:
    target = f"flared.meta.conversion.{step}"
    function: Callable[..., object] = getattr(os, step[3:]) if step.startswith("os.") else getattr(conversion, step)

    def cut(*arguments: object) -> object:
        if after:
            function(*arguments)
        raise Cut

    with monkeypatch.context() as patch:
        patch.setattr(target, cut)
        with pytest.raises(Cut):
            await SqliteKV.open(path, threads=InlineThreads())
    async with running(path) as kv:
        assert dict(await kv.scan(b"", b"\xff", 1000)) == ROWS
    (kept,) = {file.stat().st_ino for file in path.parent.glob("meta.db.before-*")}
    assert kept
    assert not list(path.parent.glob(".*.part"))


async def test_what_a_killed_conversion_left_is_no_obstacle(path: Path) -> None:
    path.with_name(".meta.db.part").write_bytes(b"half of it")
    async with running(path) as kv:
        assert dict(await kv.scan(b"", b"\xff", 1000)) == ROWS


async def test_a_disk_without_room_is_said_and_nothing_changes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flared.meta.conversion._free", lambda _path: 20_000)
    with pytest.raises(MetadataFull, match=r"needs \d+ bytes and has 20000: make room"):
        await SqliteKV.open(path, threads=InlineThreads())
    assert layout_of(path) == 1
    assert names(path) == {"meta.db"}


async def test_a_disk_that_fills_up_meanwhile_is_said_and_nothing_changes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object) -> int:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("flared.meta.conversion.create_tables", full)
        with pytest.raises(MetadataFull, match="make room"):
            await SqliteKV.open(path, threads=InlineThreads())
    assert layout_of(path) == 1
    assert names(path) == {"meta.db"}
    async with running(path):
        pass


async def test_a_damaged_file_gets_no_checksums(path: Path) -> None:
    change(path, "PRAGMA writable_schema = ON", "DELETE FROM sqlite_schema WHERE type = 'index'")
    before = content(path)
    with pytest.raises(ConfigError, match=r"is damaged.*flared restore"):
        await SqliteKV.open(path, threads=InlineThreads())
    assert content(path) == before


async def test_a_file_that_another_program_reads_is_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM kv").fetchone()
        with pytest.raises(Busy, match="another program"):
            await SqliteKV.open(path, threads=InlineThreads())
    assert layout_of(path) == 1
