"""Versions by flarectl: kept, listed, fetched and removed by their numbers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.support.daemons import API, Cluster, running
from tests.support.flarectl import flarectl

if TYPE_CHECKING:
    from pathlib import Path


def test_what_was_overwritten_or_deleted_comes_back(directory: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    with running(Cluster(directory / "cluster", 1, "replica:1")) as cluster:
        port = cluster.daemons[API].port

        def run(*arguments: str, code: int = 0) -> str:
            return flarectl(port, *arguments, code=code)

        def versions() -> list[dict[str, object]]:
            return [json.loads(line) for line in run("ls", "--versions", "--json", "backup:k").splitlines()]

        run("bucket", "create", "backup")
        source.write_text("before")
        run("put", str(source), "backup:k")
        run("bucket", "set", "backup", "--versioning", "on")
        for size in (5, 300_000):  # packed, and a chunk of its own
            source.write_text("x" * size)
            run("put", str(source), "backup:k")
        run("rm", "backup:k")
        run("get", "backup:k", str(out), code=4)
        found = versions()
        assert [(each["newest"], each["deleted"], each.get("size")) for each in found] == [
            (True, True, None),
            (False, False, 300_000),
            (False, False, 5),
            (False, False, 6),
        ]
        numbers = [str(each["version"]) for each in found]
        for number, content in zip(numbers[1:], ("x" * 300_000, "x" * 5, "before"), strict=True):
            run("get", "--version", number, "backup:k", str(out))
            assert out.read_text() == content
        run("get", "--version", numbers[0], "backup:k", str(out), code=4)
        run("get", "--version", "17", "backup:k", str(out), code=4)
        run("rm", "--version", "17", "backup:k", code=4)
        run("rm", "--version", numbers[2], "backup:k")
        # Without its delete marker the object is there again.
        run("rm", "--version", numbers[0], "backup:k")
        run("get", "backup:k", str(out))
        assert out.read_text() == "x" * 300_000
        text = run("ls", "--versions", "-l", "backup:k")
        assert "(newest)" in text
        assert [line.split()[0] for line in text.splitlines()] == [numbers[1], numbers[3]]
        run("bucket", "rm", "backup", code=6)
        run("bucket", "set", "backup", "--versioning", "suspended")
        for number in (numbers[1], numbers[3]):
            run("rm", "--version", number, "backup:k")
        run("bucket", "rm", "backup")
        run("rm", "--version", "5", "-r", "backup:", code=2)
