"""Tab in a shell: the words of the cluster, quickly or not at all, and in a real bash on a terminal."""

from __future__ import annotations

import os
import pty
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fake_api import FakeApi


@pytest.fixture
def api() -> Iterator[FakeApi]:
    fake = FakeApi(chunk_size=64 * 1024)
    fake.buckets["backup"] = 64 * 1024
    for key in ("photos/a", "photos/b", "plain", "with space", "lonely"):
        fake.store(key, b"")
    fake.store("films/x", b"", "backup")
    fake.status = {"health": "ok", "nodes": [{"name": "data1", "role": "data"}, {"name": "api", "role": "api"}]}
    with fake.serving():
        yield fake


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "loc" / "inner").mkdir(parents=True)
    (tmp_path / "local.txt").write_text("x")
    return tmp_path


def offered(work: Path, endpoint: str, line: str, shell: str = "bash") -> list[str]:
    """Return the completions that the shell gets for this line."""
    asked = {"_FLARECTL_COMPLETE": f"complete_{shell}", "COMP_WORDS": line, "FLARE_ENDPOINT": endpoint}
    environment = {**os.environ, "XDG_CONFIG_HOME": "/nonexistent", **asked}
    command = [sys.executable, "-m", "flarectl"]
    done = subprocess.run(command, env=environment, cwd=work, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("cat p", ["plain", "photos/"]),
        ("cat photos/", ["photos/a", "photos/b"]),
        ("cat lo", ["lonely"]),
        ("rm b", ["backup:"]),
        ("stat backup:", ["backup:films/"]),
        ("ls backup:films/", ["backup:films/x"]),
        ("cp plain ba", ["backup:"]),
        ("put lo", ["loc/", "local.txt"]),
        ("put loc/", ["loc/inner/"]),
        ("put local.txt backup:", ["backup:films/"]),
        ("get lo", ["lonely"]),
        ("get plain lo", ["lonely", "loc/"]),
        ("bucket rm b", ["backup"]),
        ("node show ", ["data1", "api"]),
        ("node rm d", ["data1"]),
        ("config set ", ["endpoint", "access_key", "secret_key", "public_endpoint", "secret_file", "ca_file"]),
        ("config set secret_file lo", ["loc/", "local.txt"]),
        ("config set endpoint lo", []),
        ("cat nope:", []),
        ('cat "with', ["with space"]),
        ("cat with", ["with\\ space"]),
        ("bucket create x --compression ", ["lz4", "plain"]),
    ],
)
def test_each_place_offers_what_belongs_there(api: FakeApi, work: Path, line: str, words: list[str]) -> None:
    assert offered(work, api.endpoint, f"flarectl {line}") == words


def test_the_shells_get_words_in_their_own_form(api: FakeApi, work: Path) -> None:
    assert offered(work, api.endpoint, "flarectl cat with", "zsh") == ["with space"]
    assert offered(work, api.endpoint, "flarectl cat with", "fish") == ["with space"]
    assert offered(work, api.endpoint, "flarectl sta", "fish")[0] == "stat\tShow everything about objects."


def test_an_endpoint_that_is_not_there_or_does_not_answer_offers_nothing(work: Path) -> None:
    assert offered(work, "http://127.0.0.1:1", "flarectl cat ") == []
    assert offered(work, "nonsense", "flarectl cat ") == []
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert offered(work, f"http://127.0.0.1:{silent.getsockname()[1]}", "flarectl cat ") == []


def in_bash(work: Path, endpoint: str, typed: str, shown: str) -> str:
    """Return the output of a bash on a terminal after ``typed``, up to ``shown``."""
    (work / "flarectl").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m flarectl "$@"\n')
    (work / "flarectl").chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{work}:{os.environ['PATH']}",
        "FLARE_ENDPOINT": endpoint,
        "XDG_CONFIG_HOME": "/nonexistent",
        "INPUTRC": "/dev/null",
        "TERM": "dumb",
        "PS1": "> ",
    }
    ours, theirs = pty.openpty()
    command = ["bash", "--norc", "--noprofile", "-i"]
    process = subprocess.Popen(
        command, env=environment, cwd=work, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    try:
        os.write(ours, b"source <(flarectl completion bash); echo rea''dy\n")
        seen = read_until(ours, "ready")
        os.write(ours, typed.encode())
        return seen + read_until(ours, shown)
    finally:
        os.close(ours)
        process.kill()
        process.wait()


def read_until(terminal: int, wanted: str) -> str:
    seen = ""
    while wanted not in seen:
        assert select.select([terminal], [], [], 60)[0], f"{wanted!r} is not shown after {seen!r}"
        seen += os.read(terminal, 4096).decode(errors="replace")
    return seen


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("flarectl cat backup:fi\t", "flarectl cat backup:films/"),
        ("flarectl cat bac\t", "flarectl cat backup:"),
        ("flarectl cat wi\t", "flarectl cat with\\ space "),
        ("flarectl node show da\t", "flarectl node show data1 "),
        ("flarectl put loc\t\t", "loc/"),
    ],
)
def test_in_a_real_bash(api: FakeApi, work: Path, typed: str, shown: str) -> None:
    assert shown in in_bash(work, api.endpoint, typed, shown)
