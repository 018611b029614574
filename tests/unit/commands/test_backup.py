from __future__ import annotations

import sqlite3
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from flared.__main__ import main
from flared.catalog.chunks import ChunkRecord, create_chunk, release_reference
from flared.catalog.cluster import open_cluster
from flared.catalog.extents import append_chunk, give_up, list_open_extents, open_extent
from flared.catalog.garbage import CHUNK, CONDEMNED, EXTENT, PARENT, Garbage, add, list_due
from flared.catalog.garbage import UPLOAD as RETIRED
from flared.catalog.manifest import ExtentId
from flared.catalog.restored import ORPHANS_KEPT_MS, orphans_kept_until, read_backup
from flared.commands.backup import NotDone, back_up, restore
from flared.config.load import load_config
from flared.config.settings import ApiConfig
from flared.errors import Busy, ConfigError, LogCorrupt
from flared.meta import keys
from flared.meta.backup import STEP_SECONDS, Copy
from flared.meta.open import open_kv
from flared.meta.row import checksum
from flared.meta.sqlite_file import LAYOUT
from flared.names import ChunkId, NodeName
from tests.support.checkers import recount
from tests.unit.catalog.support import LittleStore, object_name

if TYPE_CHECKING:
    from pathlib import Path

    from flared.meta.kv import Transaction

RECORDS = {
    b"object/b/a": b"1{}",
    b"object/b/b": b"1{}",
    b"shared/x/y": b"z",
    b"invite/x": b"1{}",
    b"shared0": b"no such key",
}


@pytest.fixture
async def config(tmp_path: Path) -> ApiConfig:
    """Of an api node that has run."""
    file = tmp_path / "api.toml"
    file.write_text('role = "api"\nname = "api"\n[metadata]\npath = "meta.db"\n')
    loaded = load_config(file)
    assert isinstance(loaded, ApiConfig)
    async with open_kv(str(loaded.metadata)) as kv:
        await open_cluster(kv, "one", 5)
        await kv.commit({}, RECORDS)
    return loaded


DONE, UPLOAD = ExtentId("e" * 32), ExtentId("f" * 32)


def chunk(number: int) -> ChunkId:
    return ChunkId(f"{number:064x}.{number:016x}")


def silent(_line: str) -> None: ...


def found(directory: Path, pattern: str = "*") -> list[Path]:
    return sorted(directory.glob(pattern))


def change(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


async def test_a_backup_holds_what_was_committed_when_it_began(config: ApiConfig, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    said: list[str] = []
    async with open_kv(str(config.metadata)) as kv:
        await kv.commit({}, {b"object/b/c": b"1{}"})
        back_up(config, target, keep=None, overwrite=False, say=said.append)
        await kv.commit({}, {b"object/b/d": b"1{}"})
    assert said == [f"{target} is a backup of cluster one, with 3 objects"]
    with Copy(target) as copy:
        assert copy.get(b"object/b/c") == b"1{}"
        assert copy.get(b"object/b/d") is None
        assert read_backup(copy) is not None
    assert target.stat().st_mode & 0o777 == 0o600
    assert {path.name for path in found(tmp_path)} == {
        "api.toml", "copy.db", "meta.db", "meta.db.lock", "meta.db.reserve"
    }  # fmt: skip


async def test_a_backup_rests_after_each_mebibyte(
    config: ApiConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_kv(str(config.metadata)) as kv:
        await kv.commit({}, {b"object/b/large%d" % number: bytes(100_000) for number in range(50)})
    rests: list[float] = []
    monkeypatch.setattr("flared.meta.backup.time.sleep", rests.append)
    back_up(config, tmp_path / "copy.db", keep=None, overwrite=False, say=silent)
    assert len(rests) >= 5
    assert set(rests) == {STEP_SECONDS}


async def test_a_restore_shares_nothing_keeps_orphans_and_what_was_there(config: ApiConfig, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    back_up(config, target, keep=None, overwrite=False, say=silent)
    async with open_kv(str(config.metadata)) as kv:
        await kv.commit({}, {b"object/b/later": b"1{}"})
        assert await orphans_kept_until(kv) == 0
        with pytest.raises(Busy, match="in use by process"):
            restore(config, target, silent)
    said: list[str] = []
    restore(config, target, said.append)
    (kept,) = found(tmp_path, "meta.db.before-*")
    assert said[0].startswith("restored cluster one with 2 objects as of 0 seconds ago; the old metadata is kept as ")
    async with open_kv(str(config.metadata)) as kv:
        assert await kv.get(b"object/b/later") is None
        assert await kv.get(b"object/b/a") is not None
        assert await kv.get(b"shared/x/y") is None, "the pieces of that chunk may have been deleted since"
        assert await kv.get(b"shared0") is not None
        assert await kv.get(b"invite/x") is None, "it may have been used since"
        assert await kv.get(keys.BACKUP) is None
        assert await orphans_kept_until(kv) > target.stat().st_mtime * 1000 - 60_000 + ORPHANS_KEPT_MS
    with Copy(kept) as copy:
        assert copy.get(b"object/b/later") == b"1{}"


async def test_what_may_have_been_referenced_since_is_not_swept_after_a_restore(
    config: ApiConfig, tmp_path: Path
) -> None:
    """An unreferenced chunk and an unreferenced extent, an upload under way, a condemned chunk."""
    target = tmp_path / "copy.db"
    async with open_kv(str(config.metadata)) as kv:

        def fill(tx: Transaction) -> None:
            for number in range(3):
                create_chunk(tx, ChunkRecord(chunk(number), 5, 5, 0, "replica:1", 1, (NodeName("data1"),)))
            release_reference(tx, chunk(0), 100)
            open_extent(tx, DONE, 100, 50)
            append_chunk(tx, DONE, chunk(1), 5)
            give_up(tx, DONE, 100)
            open_extent(tx, UPLOAD, 100, 50)
            append_chunk(tx, UPLOAD, chunk(2), 5)
            add(tx, Garbage(100, CONDEMNED, chunk(9), ((0, NodeName("data1")),)))

        await kv.commit({}, dict.fromkeys(RECORDS))
        await kv.transact(fill)
        assert await recount(kv) == []
    back_up(config, target, keep=None, overwrite=False, say=silent)
    restore(config, target, silent)
    async with open_kv(str(config.metadata)) as kv:
        until = await orphans_kept_until(kv)
        assert [item.id for item in await list_due(kv, until - 1, 100)] == [chunk(9)]
        held = await list_due(kv, until, 100)
        assert {(item.kind, item.id, item.due_ms) for item in held[1:]} == {
            (CHUNK, chunk(0), until), (EXTENT, DONE, until), (EXTENT, UPLOAD, until)
        }  # fmt: skip
        assert await list_open_extents(kv, 1 << 50, 10) == []
        assert await recount(kv) == []
    (kept,) = found(tmp_path, "meta.db.before-*")
    with Copy(kept) as copy:
        assert copy.count(keys.under(b"open/")) == 1, "what was there is as it was"


async def test_parts_that_no_object_had_when_the_backup_was_made_are_kept_likewise(
    config: ApiConfig, tmp_path: Path
) -> None:
    """A draft of a completion, the parts that a completion left over, the parent of a deleted object."""
    target = tmp_path / "copy.db"
    async with open_kv(str(config.metadata)) as kv:
        await kv.commit({}, dict.fromkeys(RECORDS))
        store = LittleStore(kv)
        await store.open()
        name, other = object_name("a"), object_name("b")
        begun, done = await store.begin_upload(name), await store.begin_upload(other)
        for number in (1, 2):
            await store.put_part(name, begun, number, [b"a%d" % number])
            await store.put_part(other, done, number, [b"b%d" % number])
        draft, parent = await store.assemble(name, begun, [1, 2]), await store.assemble(other, done, [1])
        await store.complete(other, done, parent, [1])
        await store.delete(other)
        assert await recount(kv) == []
    back_up(config, target, keep=None, overwrite=False, say=silent)
    restore(config, target, silent)
    async with open_kv(str(config.metadata)) as kv:
        until = await orphans_kept_until(kv)
        assert await list_due(kv, until - 1, 100) == []
        held = await list_due(kv, until, 100)
        assert {(item.kind, item.id) for item in held} == {(PARENT, draft), (PARENT, parent), (RETIRED, done)}
        assert await recount(kv) == []
        store = LittleStore(kv)
        store.now_ms = until
        await store.abort(name, begun)
        await store.sweep_dry()
        assert await recount(kv) == []
        assert await kv.scan(b"extent/", b"part0", 10) == []


async def test_a_clock_that_is_behind_the_backup_shortens_nothing(
    config: ApiConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flared.commands.backup.time.time", lambda: 2_000_000_000.0)
    back_up(config, tmp_path / "copy.db", keep=None, overwrite=False, say=silent)
    monkeypatch.setattr("flared.commands.backup.time.time", lambda: 1000.0)
    restore(config, tmp_path / "copy.db", silent)
    async with open_kv(str(config.metadata)) as kv:
        assert await orphans_kept_until(kv) == 2_000_000_000_000 + ORPHANS_KEPT_MS


async def test_a_restore_works_where_nothing_was_and_where_all_is_broken(config: ApiConfig, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    back_up(config, target, keep=None, overwrite=False, say=silent)
    config.metadata.write_bytes(b"broken" * 2000)
    config.metadata.with_name("meta.db-wal").write_bytes(b"its log")
    said: list[str] = []
    restore(config, target, said.append)
    assert {path.read_bytes()[:7] for path in found(tmp_path, "meta.db.before-*")} == {b"brokenb", b"its log"}
    assert not config.metadata.with_name("meta.db-wal").exists()
    for path in found(tmp_path, "meta.db*"):
        path.unlink()
    restore(config, target, said.append)
    assert "is kept as" not in said[1]
    async with open_kv(str(config.metadata)) as kv:
        assert await kv.get(b"object/b/a") is not None


async def test_a_backup_of_the_first_layout_is_restored_and_converted_at_the_start(
    config: ApiConfig, tmp_path: Path
) -> None:
    target = tmp_path / "copy.db"
    back_up(config, target, keep=None, overwrite=False, say=silent)
    change(
        target,
        "CREATE TABLE old (key BLOB NOT NULL UNIQUE, value BLOB NOT NULL, version INTEGER NOT NULL)",
        "INSERT INTO old SELECT key, value, version FROM kv",
        "DROP TABLE kv",
        "ALTER TABLE old RENAME TO kv",
        "DROP TABLE openings",
        "CREATE TABLE openings (count INTEGER NOT NULL)",
        "INSERT INTO openings VALUES (3)",
        "PRAGMA user_version = 1",
    )
    restore(config, target, silent)
    async with open_kv(str(config.metadata)) as kv:
        assert await kv.get(b"object/b/a") is not None
        assert await kv.get(keys.RESTORED) is not None
    assert len(found(tmp_path, f"meta.db.before-layout-{LAYOUT}-*")) == 1


def leave_damaged_log(path: Path) -> None:
    """As a process leaves it that was killed, and a disk that flipped a bit after the second of three commits."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    for key in (b"object/b/x", b"object/b/y", b"object/b/z"):
        connection.execute("INSERT INTO kv VALUES (?, x'317b7d', 1, ?)", (key, checksum(key, b"1{}", 1)))
    files = {file: file.read_bytes() for file in (path, path.with_name(path.name + "-wal"))}
    connection.close()
    for file, content in files.items():
        file.write_bytes(content)
    log = bytearray(content)
    log[len(log) // 2] ^= 4
    file.write_bytes(log)


async def test_a_damaged_log_is_refused_by_backup_and_restore_until_it_is_cut(
    config: ApiConfig, tmp_path: Path
) -> None:
    leave_damaged_log(config.metadata)
    before = {path.name: path.read_bytes() for path in found(tmp_path, "meta.db*") if path.name != "meta.db.lock"}
    with pytest.raises(LogCorrupt, match=r"--cut-log"):
        back_up(config, tmp_path / "copy.db", keep=None, overwrite=False, say=silent)
    with pytest.raises(NotDone, match="is the metadata itself"):
        restore(config, config.metadata, silent)
    other = tmp_path / "other.db"
    for suffix in ("", "-wal"):
        other.with_name(other.name + suffix).write_bytes(before[f"meta.db{suffix}"])
    with pytest.raises(LogCorrupt):
        restore(config, other, silent)
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    restore(config, config.metadata, silent, cut_log=True)
    async with open_kv(str(config.metadata)) as kv:
        assert await kv.get(b"object/b/a") is not None
        assert await kv.get(b"object/b/x") is not None
        assert await kv.get(b"object/b/z") is None
        assert await kv.get(keys.RESTORED) is not None
    kept = {path.read_bytes() for path in found(tmp_path, "meta.db.before-*")}
    assert kept == {before["meta.db"], before["meta.db-wal"]}
    assert not found(tmp_path, ".flare-*")


def newer_cluster() -> str:
    key, value = b"cluster", b'1{"i":"x","f":9,"t":1}'
    columns = f"value = x'{value.hex()}', version = 1, checksum = {checksum(key, value, 1)}"
    return f"UPDATE kv SET {columns} WHERE key = x'{key.hex()}'"


@pytest.mark.parametrize(
    ("statements", "message"),
    [
        ([f"PRAGMA user_version = {LAYOUT + 1}"], f"written by a newer Flare \\(layout {LAYOUT + 1}"),
        (["PRAGMA application_id = 7"], "is not metadata of Flare"),
        (["DELETE FROM kv"], "is not the metadata of a cluster"),
        ([newer_cluster()], "written by a newer Flare \\(format 9"),
    ],
)  # fmt: skip
async def test_what_is_no_metadata_that_we_know_is_refused(
    config: ApiConfig, tmp_path: Path, statements: list[str], message: str
) -> None:
    target = tmp_path / "copy.db"
    back_up(config, target, keep=None, overwrite=False, say=silent)
    before = config.metadata.read_bytes()
    change(target, *statements)
    with pytest.raises(ConfigError, match=message):
        restore(config, target, silent)
    assert config.metadata.read_bytes() == before
    change(config.metadata, *statements)
    with pytest.raises(ConfigError, match=message):
        back_up(config, tmp_path / "other.db", keep=None, overwrite=False, say=silent)
    assert not found(tmp_path, ".*"), "nothing half-done stays"


async def test_a_damaged_file_is_refused(config: ApiConfig, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    back_up(config, target, keep=None, overwrite=False, say=silent)
    content = bytearray(target.read_bytes())
    content[4096:] = bytes(len(content) - 4096)
    target.write_bytes(content)
    with pytest.raises(ConfigError, match=r"/copy\.db is damaged"):
        restore(config, target, silent)
    target.write_text("127.0.0.1 localhost")
    with pytest.raises(NotDone, match=r"copy\.db is not a backup, or it is damaged"):
        restore(config, target, silent)
    assert not found(tmp_path, "meta.db.before-*")


async def test_the_last_backups_are_kept(config: ApiConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "daily"
    for day in range(4):
        monkeypatch.setattr("flared.commands.backup.time.time", lambda day=day: 86400.0 * day)
        back_up(config, directory, keep=2, overwrite=False, say=silent)
        (directory / "mine.db").touch()
    assert [path.name for path in found(directory)] == [
        "api-19700103T000000Z.db", "api-19700104T000000Z.db", "mine.db"
    ]  # fmt: skip


async def test_nothing_is_overwritten_without_the_option(config: ApiConfig, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    target.write_text("mine")
    with pytest.raises(NotDone, match="--overwrite replaces it"):
        back_up(config, target, keep=None, overwrite=False, say=silent)
    assert target.read_text() == "mine"
    back_up(config, target, keep=None, overwrite=True, say=silent)
    with pytest.raises(NotDone, match=r"exists already$"):
        back_up(config, config.metadata, keep=None, overwrite=True, say=silent)
    with pytest.raises(NotDone, match="is a directory"):
        back_up(config, tmp_path, keep=None, overwrite=True, say=silent)
    with pytest.raises(NotDone, match="the metadata itself"):
        restore(config, config.metadata, silent)
    with pytest.raises(NotDone, match="not been started"):
        back_up(replace(config, metadata=tmp_path / "no.db"), target, keep=None, overwrite=True, say=silent)


async def test_exit_codes_tell_mistakes_from_failures(
    config: ApiConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(tmp_path / "api.toml")
    assert main(["backup", "--config", file, str(tmp_path / "copy.db")]) == 0
    assert main(["backup", "--config", file, str(tmp_path / "copy.db")]) == 1
    assert main(["backup", "--config", file, "--keep", "0", str(tmp_path)]) == 2
    assert main(["backup", "--config", str(tmp_path / "no.toml"), str(tmp_path / "x.db")]) == 2
    assert main(["restore", "--config", file, str(tmp_path / "api.toml")]) == 1
    assert main(["restore", "--config", file, str(tmp_path / "copy.db")]) == 0
    capsys.readouterr()
    assert main(["backup", "--config", file, str(tmp_path / "no" / "x.db")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
