"""The progress of flarectl on a terminal, and how Ctrl-C ends it: real processes on real terminals."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.fake_api import FakeApi, Handler


@pytest.fixture
def api() -> Iterator[FakeApi]:
    fake = FakeApi(chunk_size=64 * 1024)
    with fake.serving():
        yield fake


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return tmp_path


def on_terminal(
    work: Path,
    arguments: list[str],
    endpoint: str,
    *,
    act: Callable[[subprocess.Popen[bytes]], None] | None = None,
    when: str = "",
    then: Callable[[], None] = lambda: None,
) -> tuple[int, str]:
    """Run flarectl on a terminal of its own; its exit code and everything that it wrote there.

    ``act`` is called with the process, ``then`` once ``when`` is on the screen.
    """
    ours, theirs = pty.openpty()
    environment = {**os.environ, "FLARE_ENDPOINT": endpoint, "TERM": "xterm", "COLUMNS": "80", "NO_COLOR": "1"}
    # Tests that are started in the background may inherit that Ctrl-C is ignored.
    command = ["env", "--default-signal=INT", sys.executable, "-m", "flarectl", *arguments]
    process = subprocess.Popen(
        command, env=environment, stdin=theirs, stdout=theirs, stderr=theirs, cwd=work, start_new_session=True
    )
    os.close(theirs)
    if act is not None:
        act(process)
    shown = ""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the other end was closed by its last process
            break
        shown += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", part.decode(errors="replace"))
        if when and when in shown:
            then()
    os.close(ours)
    return process.wait(60), shown


def test_a_terminal_shows_how_far_many_files_are(api: FakeApi, work: Path) -> None:
    for number in range(60):
        (work / f"f{number:02}").write_bytes(os.urandom(1000))
    gate = threading.Event()

    def wait(handler: Handler) -> bool:
        gate.wait(60)
        return False

    api.fail("PUT", "/object/f30", wait)
    words = ["put", "f*", ":"]
    code, shown = on_terminal(work, words, api.endpoint, when="the api node does not answer for", then=gate.set)
    assert code == 0
    assert re.search(r"5\d of 60 files, \d+ %", shown)
    assert "the api node does not answer for" in shown
    assert "60 put" in shown


def test_one_file_is_one_row(api: FakeApi, work: Path) -> None:
    (work / "big").write_bytes(os.urandom(3_000_000))
    gate = threading.Event()

    def wait(handler: Handler) -> bool:
        gate.wait(60)
        return False

    api.fail("PUT", "/object/big", wait)
    code, shown = on_terminal(work, ["put", "big"], api.endpoint, when="MiB", then=gate.set)
    assert code == 0
    assert "files" not in shown
    rows = [row for row in re.split(r"[\r\n]+", shown) if "MiB" in row and "Transferred" not in row]
    assert rows
    assert all(row.lstrip().startswith("big") for row in rows)


@pytest.mark.parametrize(
    "words", [["rm", "-rf", "p"], ["mv", "-r", "p", "q/"], ["put", "-r", "here", "p/"], ["get", "-r", "p"]]
)
@pytest.mark.parametrize("frozen", [False, True])
def test_ctrl_c_ends_with_130_and_leaves_nothing_half_done(
    api: FakeApi, work: Path, words: list[str], frozen: bool
) -> None:
    (work / "here").mkdir()
    for number in range(50):
        api.store(f"p/{number}", b"x" * 1000)
        (work / f"here/{number}").write_bytes(b"x" * 1000)
    gate, asked = threading.Event(), threading.Semaphore(0)

    def wait(handler: Handler) -> bool:
        asked.release()
        gate.wait(60 if frozen else 1)
        return False

    for method in ("PUT", "DELETE", "GET"):
        api.fail(method, "/object/", wait, times=1000)

    def interrupt(process: subprocess.Popen[bytes]) -> None:
        assert asked.acquire(timeout=60)
        os.kill(process.pid, signal.SIGINT)

    code, shown = on_terminal(work, words, api.endpoint, act=interrupt)
    gate.set()
    assert code == 130
    assert "Traceback" not in shown
    assert "Exception ignored" not in shown
    assert "interrupted" in shown
    assert not [path for path in work.rglob("*") if path.name.endswith(".part")]
    assert {len(stored.data) for stored in api.objects.values()} == {1000}
