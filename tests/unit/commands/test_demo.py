from __future__ import annotations

from pathlib import Path

import pytest

from flared.commands.demo.failed import Failed
from flared.commands.demo.files import check_files, count_text, name_uploads, same_bytes


def test_files_of_one_name_get_keys_of_their_own(tmp_path: Path) -> None:
    files = []
    for folder in ("a", "b", "c"):
        (tmp_path / folder).mkdir()
        files.append(tmp_path / folder / "x")
        files[-1].write_text(folder)
    assert [upload.key for upload in name_uploads(files, "demo/")] == ["demo/x", "demo/2/x", "demo/3/x"]
    assert count_text(name_uploads(files, "demo/")) == "3 files, 0 kB"


def test_every_byte_is_compared(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"x" * 3_000_000)
    assert not same_bytes(one, other)
    for content, same in ((b"x" * 3_000_000, True), (b"x" * 2_999_999 + b"y", False), (b"x" * 2_999_999, False)):
        other.write_bytes(content)
        assert same_bytes(one, other) is same


def test_what_is_no_file_is_refused_before_anything_starts(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(Failed):
            check_files([path])
