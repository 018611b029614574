"""A fake api node, and flarectl run in this process as its main program runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import trio

from flarectl.app import app
from tests.support.fake_api import FakeApi

KIB = 1024


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeApi]:
    """Its chunks are 64 KiB, so that small bodies have several."""
    fake = FakeApi(chunk_size=64 * KIB)
    monkeypatch.setenv("FLARE_ENDPOINT", fake.endpoint)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    with fake.serving():
        yield fake


async def no_rest(_: float) -> None:
    await trio.lowlevel.checkpoint()


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command line in a directory of its own, without waiting between attempts."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setattr("flarectl.bodies.sleep", no_rest)
    monkeypatch.setattr("flarectl.retry.Retries.sleep", lambda *_: None)

    def run(*arguments: str) -> Outcome:
        try:
            app(args=list(arguments), prog_name="flarectl")
        except SystemExit as end:
            code = int(end.code or 0)
        else:
            code = 0
        return Outcome(code, *capfd.readouterr())

    return run


@pytest.fixture
def tree(run: Run) -> Path:
    """A directory with some files, in the working directory."""
    for name, content in {"a.txt": "A", "b.log": "B", "sub/c.txt": "C", "sub/deep/d.txt": "D"}.items():
        path = Path("tree", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return Path("tree")
