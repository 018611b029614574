"""A volume written by a newer Flare is refused with a sentence, never guessed at."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from flared.data.disk.real_disk import RealDisk
from flared.data.index.index import Index, IndexCorrupt
from flared.data.record import SMALL, Head, pack_head, parse_head
from flared.data.volume.identity import load_identity
from flared.errors import ConfigError, SegmentCorrupt

if TYPE_CHECKING:
    from pathlib import Path


def test_a_volume_of_a_newer_format(tmp_path: Path) -> None:
    load_identity(RealDisk(), str(tmp_path), "a", uuid.UUID(int=1))
    file = tmp_path / "volume.toml"
    file.write_text(file.read_text().replace("format = 1", "format = 3"))
    with pytest.raises(ConfigError, match="format 3 is not known to this version"):
        load_identity(RealDisk(), str(tmp_path), "a", uuid.UUID(int=1))


def test_a_segment_of_a_newer_format() -> None:
    block = bytearray(pack_head(Head(7, SMALL, 1, bytes(16))))
    block[4] = 2
    with pytest.raises(SegmentCorrupt, match="segment 7 has format 2"):
        parse_head(memoryview(block))


def test_an_index_of_a_newer_format_is_made_again_by_its_owner(tmp_path: Path) -> None:
    path = str(tmp_path / "index.db")
    disk = RealDisk()
    Index(disk, path).close()
    connection = disk.connect(path)
    connection.execute("PRAGMA user_version = 2")
    connection.close()
    with pytest.raises(IndexCorrupt, match="format 2 is not known to this version"):
        Index(disk, path)
