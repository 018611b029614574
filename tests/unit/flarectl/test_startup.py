"""The modules that a command loads decide how long it takes to start; clocks would not be a reliable test."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from flarectl.errors import MEANINGS, ExitCode

if TYPE_CHECKING:
    from tests.support.fake_api import FakeApi

HEAVY = {"trio", "httpx", "rich", "pydantic", "httptools", "anyio", "typer"}


def loaded_by(*arguments: str) -> set[str]:
    script = (
        "import sys, atexit; sys.argv[0] = 'flarectl'\n"
        "atexit.register(lambda: print('LOADED', *sys.modules, file=sys.stderr))\n"
        "from flarectl.__main__ import main; main()"
    )
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return HEAVY & set(done.stderr.rpartition("LOADED")[2].split())


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [
        (["--version"], set()),
        (["--help"], {"typer"}),
        (["ls", "-l", "--endpoint", "http://127.0.0.1:1"], {"typer"}),
        (["rm", "x", "--endpoint", "http://127.0.0.1:1"], {"typer"}),
        (["put", "/nothing", "--endpoint", "http://127.0.0.1:1"], {"typer", "trio", "httptools"}),
    ],
)
def test_a_command_loads_what_it_uses(arguments: list[str], heavy: set[str]) -> None:
    assert loaded_by(*arguments) <= heavy


def test_a_shell_gets_completions() -> None:
    asked = {"_FLARECTL_COMPLETE": "complete_bash", "COMP_WORDS": "flarectl st", "COMP_CWORD": "1"}
    command = [sys.executable, "-m", "flarectl"]
    done = subprocess.run(command, env=os.environ | asked, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["stat", "status"]


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["config", "show"]])
@pytest.mark.parametrize(("output", "code"), [("/dev/full", 6), ("closed", 6), ("broken", 141)])
def test_an_output_that_takes_nothing_is_a_sentence(arguments: list[str], output: str, code: int) -> None:
    command = [sys.executable, "-m", "flarectl", *arguments]
    redirect = {"/dev/full": ">/dev/full", "closed": ">&-", "broken": "| true"}[output]
    shell = ["bash", "-c", f"{shlex.join(command)} {redirect}; exit ${{PIPESTATUS[0]}}"]
    done = subprocess.run(shell, capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    if output != "broken" and arguments != ["--version"]:  # a reader may go before or after, and version loads nothing
        assert done.returncode == code
        assert done.stderr.startswith("flarectl: ")


@pytest.mark.parametrize("arguments", [["status"], ["doctor"], ["ls"]])
def test_a_reader_that_stops_early_gets_no_message(api: FakeApi, arguments: list[str]) -> None:
    api.store("key", b"x")
    command = [sys.executable, "-m", "flarectl", "--endpoint", api.endpoint, *arguments]
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, timeout=60, check=False)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr.decode()) == (141, "")


def test_every_exit_code_has_a_meaning() -> None:
    assert set(MEANINGS) == set(ExitCode)


def test_a_key_is_printed_in_every_locale(api: FakeApi) -> None:
    api.store("日本", b"x")
    command = [sys.executable, "-m", "flarectl", "--endpoint", api.endpoint, "ls"]
    environment = {**os.environ, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    environment["PYTHONIOENCODING"] = "latin-1"
    done = subprocess.run(command, env=environment, capture_output=True, timeout=60, check=False)
    assert (done.stdout.decode(), done.stderr) == ("日本\n", b"")
