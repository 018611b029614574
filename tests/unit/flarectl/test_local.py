from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flarectl.answers import ObjectInfo
from flarectl.bodies import mtime_fields
from flarectl.errors import Refusal
from flarectl.local import Directory, PartialFile, parse_mtime


def info(size: int, **user: str) -> ObjectInfo:
    return ObjectInfo(size, '"e-1"', 0.0, "", "1", user)


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/passwd", "a//b", "a/./b", "..", ".", "a/"])
def test_no_key_leads_out_of_the_directory(name: str) -> None:
    with pytest.raises(Refusal, match="not a path inside"):
        Directory("target").place(name)


def test_a_file_cannot_be_a_directory_with_keys_in_between() -> None:
    directory = Directory("t")
    assert directory.place("a") == "t/a"
    assert directory.place("a!") == "t/a!"
    with pytest.raises(Refusal, match="a is an object too"):
        directory.place("a/b")
    assert directory.place("ab/c") == "t/ab/c"


def test_a_symbolic_link_does_not_lead_out(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "outside")
    directory = Directory(str(tmp_path / "root"))
    with pytest.raises(Refusal, match="leads out"):
        directory.make_parent(directory.place("link/deep/file"))
    assert not list((tmp_path / "outside").iterdir())


def test_a_file_in_the_way_of_a_directory_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("here")
    directory = Directory(str(tmp_path))
    with pytest.raises(Refusal, match="is a file here"):
        directory.make_parent(directory.place("a/b/c"))


async def test_a_file_appears_whole_with_its_time_and_the_permissions_it_had(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o600)
    partial = PartialFile(str(path))
    await partial.open(info(6))
    await partial.write(memoryview(b"new"), 3)
    await partial.write(memoryview(b"new"), 0)
    assert path.read_text() == "old"
    await partial.finish(info(6, mtime="1700000000.000000001"))
    partial.discard()
    assert path.read_text() == "newnew"
    assert path.stat().st_mtime_ns == 1700000000000000001
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["file"]


async def test_a_file_given_up_leaves_nothing(tmp_path: Path) -> None:
    partial = PartialFile(str(tmp_path / "file"))
    await partial.open(info(3))
    await partial.write(memoryview(b"abc"), 0)
    partial.discard()
    assert not os.listdir(tmp_path)


async def test_large_writes_that_are_not_aligned_arrive_whole(tmp_path: Path) -> None:
    size = 3 * 1024 * 1024 + 17
    data = os.urandom(size)
    path = tmp_path / "file"
    partial = PartialFile(str(path))
    await partial.open(info(size))
    for at in range(0, size, 1_000_000):
        await partial.write(memoryview(data)[at : at + 1_000_000], at)
    await partial.finish(info(size))
    partial.discard()
    assert path.read_bytes() == data


async def test_a_device_is_not_replaced() -> None:
    partial = PartialFile("/dev/null")
    with pytest.raises(Refusal, match="not a regular file"):
        await partial.open(info(1))


@given(st.integers(-(10**19), 10**19))
def test_a_modification_time_comes_back_to_the_nanosecond(nanoseconds: int) -> None:
    [text] = mtime_fields(nanoseconds).values()
    assert parse_mtime(text) == nanoseconds


@pytest.mark.parametrize("text", ["", "soon", "1e9", "1.x", "\u0661", "99999999999999999999", "1.\u0661"])
def test_what_is_no_time_is_none(text: str) -> None:
    assert parse_mtime(text) is None


def test_a_time_without_a_fraction_is_one() -> None:
    assert parse_mtime("1700000000") == 1700000000 * 10**9
    assert parse_mtime("1700000000.5") == 1700000000 * 10**9 + 5 * 10**8
