"""A file of an older layout becomes one of the newest, or stays as it is."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from flared.errors import Busy, ConfigError, MetadataFull
from flared.meta import conversion, openings
from flared.meta.alias import ALIASED
from flared.meta.row import checksum
from flared.meta.sqlite import SqliteKV
from flared.meta.sqlite_file import APPLICATION, LAYOUT
from tests.support.threads import InlineThreads
from tests.unit.meta.support import change, running

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OPENINGS = 7
ROWS = {b"k%03d" % number: b"v" + os.urandom(number) for number in range(300)}
ALIAS = b"14 bytes of it"
ROWS[b"z"] = ALIASED + ALIAS
VERSION = OPENINGS << 40


class Cut(BaseException):
    """The power, or the process, ends here."""


@pytest.fixture(params=[1, 2])
def layout(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def path(tmp_path: Path, layout: int) -> Path:
    """A file as an older layout left it, part of it still in its log."""
    path = tmp_path / "meta.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    {1: fill_first, 2: fill_second}[layout](connection)
    connection.execute(f"PRAGMA application_id = {APPLICATION}")
    connection.execute(f"PRAGMA user_version = {layout}")
    logged = path.with_name("meta.db-wal").read_bytes()
    file = path.read_bytes()
    connection.close()
    path.write_bytes(file)
    path.with_name("meta.db-wal").write_bytes(logged)
    return path


def fill_first(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE kv (key BLOB NOT NULL UNIQUE, value BLOB NOT NULL, version INTEGER NOT NULL)")
    connection.execute("CREATE TABLE openings (count INTEGER NOT NULL)")
    connection.execute(f"INSERT INTO openings VALUES ({OPENINGS})")
    connection.executemany("INSERT INTO kv VALUES (?, ?, ?)", [(*row, VERSION) for row in ROWS.items()])


def fill_second(connection: sqlite3.Connection) -> None:
    connection.execute(
        "CREATE TABLE kv (key BLOB NOT NULL UNIQUE, value BLOB NOT NULL, version INTEGER NOT NULL, "
        "checksum INTEGER NOT NULL)"
    )
    connection.execute(openings.TABLE)
    openings.insert_opening(connection, OPENINGS)
    rows = [(*row, VERSION, checksum(*row, VERSION)) for row in ROWS.items()]
    connection.executemany("INSERT INTO kv VALUES (?, ?, ?, ?)", rows)


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


async def test_every_row_is_there_with_its_version_and_a_checksum_and_the_old_file_is_kept(
    path: Path, layout: int
) -> None:
    async with running(path) as kv:
        assert dict(await kv.scan(b"", b"\xff", 1000)) == ROWS
        entry = await kv.get(b"k007")
        assert entry is not None
        assert entry.version == VERSION
        await kv.commit({}, {b"k007": b"new"})
        entry = await kv.get(b"k007")
        assert entry is not None
        assert entry.version > VERSION
        assert await kv.scan_aliases(b"", b"\xff", 9) == [(ALIAS, b"z", ROWS[b"z"])]
        found = await kv.find(ALIAS)
        assert found is not None
        assert found[0] == b"z"
    assert layout_of(path) == LAYOUT
    with closing(sqlite3.connect(path)) as connection:
        for key, value, version, found in connection.execute("SELECT key, value, version, checksum FROM kv"):
            assert found == checksum(key, value, version)
    (kept,) = path.parent.glob(f"meta.db.before-layout-{LAYOUT}-*")
    assert layout_of(kept) == layout
    with closing(sqlite3.connect(kept)) as connection:
        assert dict(connection.execute("SELECT key, value FROM kv")) == ROWS
    assert names(path) == {"meta.db", kept.name}
    assert mode(path) == 0o600


async def test_it_happens_once(path: Path) -> None:
    for _ in range(3):
        async with running(path):
            pass
    assert len(list(path.parent.glob("meta.db.before-*"))) == 1


@pytest.mark.parametrize(
    "step", ["_settle", "_check", "_copy_rows", "_copy_file", "_replace", "os.fsync", "os.link", "os.replace"]
)
@pytest.mark.parametrize("after", [False, True])
async def test_a_conversion_that_was_broken_off_begins_anew(
    path: Path, monkeypatch: pytest.MonkeyPatch, step: str, after: bool, layout: int
) -> None:
    if step == {1: "_copy_file", 2: "_copy_rows"}[layout]:
        return  # that layout takes the other step
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


async def test_a_disk_without_room_is_said_and_nothing_changes(
    path: Path, layout: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flared.meta.conversion._free", lambda _path: 20_000)
    with pytest.raises(MetadataFull, match=r"needs \d+ bytes and has 20000: make room"):
        await SqliteKV.open(path, threads=InlineThreads())
    assert layout_of(path) == layout
    assert names(path) == {"meta.db"}


async def test_a_disk_that_fills_up_meanwhile_is_said_and_nothing_changes(
    path: Path, layout: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object) -> int:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    with monkeypatch.context() as patch:
        step = {1: "create_tables", 2: "add_aliases"}[layout]
        patch.setattr(f"flared.meta.conversion.{step}", full)
        with pytest.raises(MetadataFull, match="make room"):
            await SqliteKV.open(path, threads=InlineThreads())
    assert layout_of(path) == layout
    assert names(path) == {"meta.db"}
    async with running(path):
        pass


async def test_a_damaged_file_gets_no_checksums(path: Path) -> None:
    change(path, "PRAGMA writable_schema = ON", "DELETE FROM sqlite_schema WHERE type = 'index'")
    before = content(path)
    with pytest.raises(ConfigError, match=r"is damaged.*flared restore"):
        await SqliteKV.open(path, threads=InlineThreads())
    assert content(path) == before


async def test_a_file_that_another_program_reads_is_left_alone(path: Path, layout: int) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM kv").fetchone()
        with pytest.raises(Busy, match="another program"):
            await SqliteKV.open(path, threads=InlineThreads())
    assert layout_of(path) == layout
