"""Command lines that once lost or overwrote something, typed at real processes: they are refused and harm nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.daemons import API, Cluster, running
from tests.support.scratch import scratch_directory

pytestmark = pytest.mark.process


class Done(NamedTuple):
    code: int
    out: str
    err: str


class Shell:
    """A user with flarectl and flared in one directory, and a cluster."""

    def __init__(self, cluster: Cluster, directory: Path) -> None:
        self.cluster = cluster
        self.directory = directory
        self.port = cluster.daemons[API].port

    def flarectl(self, *words: str, **environment: str) -> Done:
        return self._run("flarectl", words, {"FLARE_ENDPOINT": f"http://127.0.0.1:{self.port}"} | environment)

    def flared(self, *words: str) -> Done:
        return self._run("flared", words, {})

    def keys(self, bucket: str = "default") -> list[str]:
        return self.flarectl("ls", "-r", f"{bucket}:").out.split()

    def _run(self, program: str, words: tuple[str, ...], environment: dict[str, str]) -> Done:
        done = subprocess.run(
            [sys.executable, "-m", program, *words],
            env={**os.environ, "NO_COLOR": "1", "XDG_CONFIG_HOME": "/nonexistent"} | environment,
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert "Traceback" not in done.stderr
        return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with scratch_directory() as fresh, running(Cluster(fresh)) as started:
        yield started


@pytest.fixture
def shell(cluster: Cluster, tmp_path: Path) -> Iterator[Shell]:
    """Files a.txt and b.txt here, objects of these names and two in a prefix there."""
    shell = Shell(cluster, tmp_path)
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(f"my {name}")
        for key in (name, f"photos/{name}"):
            assert cluster.client().call("PUT", f"/object/{key}", f"the cluster's {key}".encode()).status < 300
    yield shell
    shell.flarectl("rm", "-rf", "--yes", ":")


def test_a_variable_that_is_not_set_empties_no_bucket(shell: Shell) -> None:
    before = shell.keys()
    for words in (
        ["rm", "-r", ""],
        ["rm", "-rf", " "],
        ["rm", "-r", ":"],
        ["rm", "-rf", "default:"],
        ["rm", "-r", "/*"],
    ):
        done = shell.flarectl(*words)
        assert done.code == 2, words
        assert shell.keys() == before
    assert shell.flarectl("rm", "a.txt", FLARE_ENDPOINT="").code == 2
    assert shell.flarectl("rm", "a.txt", "--endpoint", "").code == 2
    assert shell.flarectl("mv", "-r", "photos", "").code == 2
    assert shell.keys() == before
    assert shell.flarectl("rm", "-r", "--yes", ":").code == 0
    assert shell.keys() == []


def test_a_put_of_two_files_does_not_rename_the_first(shell: Shell) -> None:
    done = shell.flarectl("put", "a.txt", "b.txt")
    assert done.code == 2
    assert shell.flarectl("cat", "b.txt").out == "the cluster's b.txt"
    assert "flarectl put a.txt b.txt :" in done.err
    assert "flarectl put a.txt default:b.txt" in done.err
    assert shell.flarectl("put", "a.txt", "b.txt", ":").code == 0
    assert shell.flarectl("cat", "a.txt", "b.txt").out == "my a.txtmy b.txt"


def test_a_get_of_two_objects_does_not_overwrite_a_file(shell: Shell) -> None:
    done = shell.flarectl("get", "a.txt", "b.txt")
    assert done.code == 2
    assert (shell.directory / "b.txt").read_text() == "my b.txt"
    assert "flarectl get a.txt b.txt ." in done.err
    assert "flarectl get a.txt ./b.txt" in done.err
    assert shell.flarectl("get", "a.txt", "b.txt", "new/").code == 0
    assert (shell.directory / "new/b.txt").read_text() == "the cluster's b.txt"


@pytest.mark.parametrize(
    "words",
    [
        ["init", "data", "--volume", "v", "--join", ""],
        ["init", "data", "--volume", "", "--api", "http://127.0.0.1:8000"],
        ["init", "data", "--api", "", "--volume", "v"],
        ["init", "api", "--listen", ""],
        ["init", "api", "--secret-file", ""],
        ["local", "--dir", ""],
    ],
)
def test_a_command_that_failed_makes_no_new_cluster(shell: Shell, words: list[str]) -> None:
    before = sorted(os.listdir(shell.directory))
    done = shell.flared(*words)
    assert (done.code, sorted(os.listdir(shell.directory))) == (2, before)
    assert "it is empty" in done.err


def test_what_cannot_be_taken_is_said_and_the_rest_goes_on(shell: Shell) -> None:
    assert shell.flarectl("get", "photos").err == "flarectl: photos: is a prefix, not an object; use -r\n"
    (shell.directory / "tree").mkdir()
    (shell.directory / "tree/file").write_text("x")
    (shell.directory / "tree/link").symlink_to("nowhere")
    done = shell.flarectl("put", "-r", "tree", "tree/")
    assert (done.code, done.err.count("skipped: tree/link: ")) == (0, 1)
    assert shell.flarectl("cat", "tree/tree/file").out == "x"


def test_a_version_is_the_same_number_wherever_it_is_shown(shell: Shell) -> None:
    words = (["put", "a.txt", "default:a.txt"], ["stat", "a.txt"], ["ls", "a.txt"], ["get", "a.txt", "./got"])
    versions = [json.loads(shell.flarectl(*line, "--json").out.splitlines()[0])["version"] for line in words]
    assert isinstance(versions[0], int)
    assert versions == versions[:1] * 4


def test_many_failures_with_one_cause_are_one_line_and_a_number(shell: Shell) -> None:
    (shell.directory / "many").mkdir()
    for number in range(200):
        (shell.directory / f"many/{number}").write_text("x")
    assert shell.flarectl("put", "-r", "many", ":").code == 0
    done = shell.flarectl("cp", "-r", "many", "nope:")
    lines = done.err.splitlines()
    assert (done.code, len(lines)) == (3, 4)
    assert "flarectl bucket create nope creates this one" in lines[1]
    assert "199 more failed like this" in lines[2]
    away = shell.flarectl("put", "-r", "many", ":", FLARE_ENDPOINT="http://127.0.0.1:1")
    assert (away.code, len(away.err.splitlines())) == (5, 3)
    for part in ("the address from FLARE_ENDPOINT", "--endpoint URL", "flarectl config set endpoint URL"):
        assert part in away.err
