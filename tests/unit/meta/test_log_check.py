"""A damaged write-ahead log is distinguished from one that a power cut left, by its bytes alone."""

from __future__ import annotations

import os
import random
import sqlite3
import struct
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flared.errors import LogCorrupt
from flared.meta.layout import check_log
from flared.meta.log_check import BATCH_FRAMES, FRAME, HEADER, MAGIC, VERSION, LogDamage, find_damage
from flared.meta.sqlite import SqliteKV
from tests.support.threads import InlineThreads
from tests.unit.meta.support import running

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PAGE = 512
SIZE = FRAME.size + PAGE
COMMIT = 0x01010101
"""Pages of the database after a commit: no flipped bit makes it 0."""


def checksum(seed: tuple[int, int], content: bytes, order: str) -> tuple[int, int]:
    one, two = seed
    words = struct.unpack(f"{order}{len(content) // 4}I", content)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        one = (one + even + two) & 0xFFFFFFFF
        two = (two + odd + one) & 0xFFFFFFFF
    return one, two


def make_log(transactions: Sequence[int], *, salts: tuple[int, int] = (7, 9), big_endian: bool = False) -> bytes:
    """A log of so many frames in each transaction, as the format says; slow and simple."""
    order = ">" if big_endian else "<"
    head = struct.pack(">6I", MAGIC | big_endian, VERSION, PAGE, 0, *salts)
    total = checksum((0, 0), head, order)
    log = [head, struct.pack(">2I", *total)]
    content = random.Random(repr((transactions, salts)))
    for frames in transactions:
        for number in range(frames):
            start = struct.pack(">2I", number + 1, COMMIT if number == frames - 1 else 0)
            page = content.randbytes(PAGE)
            total = checksum(total, start + page, order)
            log += [start, struct.pack(">4I", *salts, *total), page]
    return b"".join(log)


def flip(log: bytes, bit: int) -> bytes:
    changed = bytearray(log)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


transaction_lists = st.lists(st.integers(1, 4), min_size=1, max_size=6)


@given(transaction_lists, st.booleans(), st.data())
def test_a_flipped_bit_is_damage_if_a_later_transaction_stands_behind_it(
    transactions: list[int], big_endian: bool, data: st.DataObject
) -> None:
    log = make_log(transactions, big_endian=big_endian)
    assert find_damage(log) is None
    bit = data.draw(st.integers(0, 8 * len(log) - 1))
    found = find_damage(flip(log, bit))
    if bit < 8 * HEADER.size:
        assert found is not None
        assert found.offset == 0
        return
    frame = (bit // 8 - HEADER.size) // SIZE
    is_last_transaction = frame >= sum(transactions[:-1])
    # Whether a frame ends its transaction is in the frame. A damaged one that says so may stop a start in vain.
    says_that_it_ends = 4 <= (bit // 8 - HEADER.size) % SIZE < 8
    if not is_last_transaction:
        assert found is not None
        assert found.offset == HEADER.size + frame * SIZE
        assert found.transactions >= 1
    elif not says_that_it_ends:
        assert found is None


@given(transaction_lists, st.data())
def test_a_log_that_is_cut_off_anywhere_is_no_damage(transactions: list[int], data: st.DataObject) -> None:
    log = make_log(transactions)
    assert find_damage(log[: data.draw(st.integers(0, len(log)))]) is None


@given(transaction_lists, transaction_lists, st.data())
def test_what_a_power_cut_leaves_is_no_damage(old: list[int], new: list[int], data: st.DataObject) -> None:
    """Any part of the last transaction is not written: there stand frames of an earlier generation, or zeros."""
    before = make_log(old, salts=(6, 1))
    log = bytearray(make_log(new))
    size = max(len(before), len(log))
    base = before + bytes(size - len(before))
    result = log + base[len(log) :]
    first = sum(new[:-1])
    for frame in range(first, sum(new)):
        if data.draw(st.booleans()):
            place = slice(HEADER.size + frame * SIZE, HEADER.size + (frame + 1) * SIZE)
            result[place] = base[place]
    assert find_damage(bytes(result)) is None


@given(transaction_lists, transaction_lists)
def test_frames_of_an_earlier_generation_behind_the_log_are_no_damage(old: list[int], new: list[int]) -> None:
    before, log = make_log(old, salts=(6, 1)), make_log(new)
    assert find_damage(log + before[len(log) :]) is None


def test_the_batches_of_a_long_log_are_one_chain() -> None:
    frames = 2 * BATCH_FRAMES + 3
    log = make_log([1] * frames)
    assert find_damage(log) is None
    for frame in (0, BATCH_FRAMES - 1, BATCH_FRAMES, frames - 2):
        start = HEADER.size + frame * SIZE
        for place in (start, start + FRAME.size - 1, start + SIZE - 1):  # the page number, the checksum, the page
            assert find_damage(flip(log, 8 * place)) == LogDamage(start, frames - frame)
    assert find_damage(flip(log, 8 * (len(log) - 1))) is None


def test_zeros_are_no_log() -> None:
    for size in (0, 1, HEADER.size, HEADER.size + 3 * SIZE):
        assert find_damage(bytes(size)) is None


# With SQLite's own logs


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """Metadata whose process was killed: 50 commits, all of them still in the log."""
    source, path = tmp_path / "source.db", tmp_path / "meta.db"
    async with running(source) as kv:
        for number in range(50):
            await kv.commit({}, {b"k%02d" % number: os.urandom(5000)})
        copy_files(source, path)
    return path


def copy_files(source: Path, target: Path) -> None:
    for suffix in ("", "-wal"):
        target.with_name(target.name + suffix).write_bytes(source.with_name(source.name + suffix).read_bytes())


def log_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def content(path: Path) -> tuple[bytes, bytes]:
    return path.read_bytes(), log_of(path).read_bytes()


def commits(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM kv").fetchone()
        return int(count)


async def test_a_flipped_bit_in_sqlites_log_stops_the_start_and_changes_nothing(path: Path) -> None:
    log = log_of(path).read_bytes()
    log_of(path).write_bytes(flip(log, 8 * (len(log) // 2)))
    before = content(path)
    with pytest.raises(
        LogCorrupt, match=rf"{log_of(path)} is damaged at byte \d+, and at least \d+ ack.*flared restore"
    ):
        await SqliteKV.open(path, threads=InlineThreads())
    assert content(path) == before
    log_of(path).write_bytes(log)
    async with running(path) as kv:
        assert len(await kv.scan(b"", b"\xff", 100)) == 50


async def test_of_sqlites_logs_every_flip_is_found_that_makes_sqlite_drop_more_than_one_commit(
    path: Path, tmp_path: Path
) -> None:
    log, chance = log_of(path).read_bytes(), random.Random(5)
    header = list(range(8 * HEADER.size))
    bits = chance.sample(header, 20) + [chance.randrange(8 * len(log)) for _ in range(60)]
    copy = tmp_path / "copy.db"
    for bit in bits:
        copy_files(path, copy)
        log_of(copy).write_bytes(flip(log, bit))
        damage = find_damage(log_of(copy).read_bytes())
        try:
            lost = 50 - commits(copy)
        except sqlite3.Error:
            lost = 50  # there is no table without the log
        assert (damage is not None) == (lost > 1), bit
        copy.with_name("copy.db-wal").unlink(missing_ok=True)


async def test_sqlites_own_log_that_is_cut_off_is_no_damage(path: Path) -> None:
    log, chance = log_of(path).read_bytes(), random.Random(6)
    for size in [0, 1, 31, 32, 33, *(chance.randrange(len(log)) for _ in range(40))]:
        assert find_damage(log[:size]) is None


def test_a_log_that_sqlite_began_anew_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE t (a)")
        for round_ in range(4):
            for number in range(20 - 4 * round_):
                connection.execute("INSERT INTO t VALUES (?)", (os.urandom(3000 + number),))
            log = log_of(path).read_bytes()
            assert find_damage(log) is None
            assert find_damage(flip(log, 8 * 5000)) is not None, round_
            connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()


def test_a_log_that_is_not_there_is_none(tmp_path: Path) -> None:
    check_log(tmp_path / "meta.db")
