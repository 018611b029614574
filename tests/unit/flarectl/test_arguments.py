"""Command lines that must be refused: an empty name, and a last argument that could be a source or a target."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import typer

from flarectl.app import app
from flared.__main__ import make_parser

if TYPE_CHECKING:
    import argparse

    from tests.support.fake_api import FakeApi
    from tests.unit.flarectl.conftest import Run


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def text_options() -> list[tuple[str, str]]:
    """Each command of flarectl with each option that takes a text."""
    found, waiting = [], [((), typer.main.get_command(app))]
    while waiting:
        path, command = waiting.pop()
        waiting += [((*path, name), inner) for name, inner in getattr(command, "commands", {}).items()]
        if not hasattr(command, "commands"):
            options = [param.opts[0] for param in command.params if param.metavar and param.opts[0].startswith("--")]
            found += [(" ".join(path), option) for option in options if option not in ("--parallel", "--interval")]
    return found


@pytest.mark.parametrize(("command", "option"), text_options())
def test_no_option_of_flarectl_may_be_empty(api: FakeApi, run: Run, command: str, option: str) -> None:
    for value in ("", " \t"):
        done = run(*command.split(), "x", "y", option, value)
        assert done.code == 2
        assert done.out == ""
    assert api.requests == []


@pytest.mark.parametrize(
    "command",
    [
        "put", "get", "cat", "ls", "rm -r", "rm -rf --yes", "stat", "cp x", "mv -r x", "cp", "bucket create",
        "bucket rm", "node show", "node rm --force --yes", "node add", "config set endpoint", "config set",
        "config get", "put x", "get x",
    ],
)  # fmt: skip
@pytest.mark.parametrize("empty", ["", "  "])
def test_no_argument_of_flarectl_may_be_empty(api: FakeApi, run: Run, command: str, empty: str) -> None:
    api.store("x", b"x")
    rest = ["y"] if command in ("cp", "config set") else []
    done = run(*command.split(), empty, *rest)
    assert (done.code, done.out) == (2, "")
    assert "is empty; was a variable not set?" in done.err
    assert api.requests == []
    assert api.keys() == ["x"]


@pytest.mark.parametrize("name", ["FLARE_ENDPOINT", "FLARE_SECRET_FILE"])
def test_no_variable_of_the_environment_may_be_empty(
    api: FakeApi, run: Run, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "")
    done = run("ls")
    assert (done.code, api.requests) == (2, [])
    assert f"unset {name}" in done.err


def parsers(parser: argparse.ArgumentParser, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], str]]:
    """Each command of flared with each option that takes a text."""
    found = []
    for action in parser._actions:
        if isinstance(action.choices, dict):
            for name, inner in action.choices.items():
                found += parsers(inner, (*path, name))
        elif action.option_strings and action.nargs is None and action.type is not int:
            found.append((path, action.option_strings[-1]))
    return found


@pytest.mark.parametrize(("path", "option"), parsers(make_parser()))
def test_no_option_of_flared_may_be_empty(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    path: tuple[str, ...],
    option: str,
) -> None:
    from flared.__main__ import main

    monkeypatch.chdir(tmp_path)
    for value in ("", " "):
        with pytest.raises(SystemExit) as end:
            main([*path, option, value])
        assert end.value.code == 2
    assert f"argument {option}: it is empty" in capsys.readouterr().err
    assert os.listdir() == []


def test_a_token_that_did_not_come_is_no_new_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from flared.__main__ import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert main(["init", "data", "--volume", "v", "--join", "-"]) == 1
    assert "standard input is empty" in capsys.readouterr().err
    assert os.listdir() == []


@pytest.mark.parametrize("whole", ["default:", ":", "*", "**", "/*", "default:*"])
@pytest.mark.parametrize("force", [(), ("-f",)])
def test_off_a_terminal_a_whole_bucket_needs_yes(api: FakeApi, run: Run, whole: str, force: tuple[str, ...]) -> None:
    api.store("a", b"")
    done = run("rm", "-r", *force, whole)
    assert (done.code, api.keys()) == (2, ["a"])
    assert "--yes" in done.err
    assert run("rm", "-rn", whole).code in (0, 4)
    assert api.keys() == ["a"]
    if whole != "/*":
        assert run("rm", "-r", "--yes", whole) == (0, "", "")
        assert api.keys() == []


def test_on_a_terminal_a_whole_bucket_is_asked_for_even_by_force(
    api: FakeApi, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.store("a", b"12")
    api.store("p/b", b"")
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    done = run("rm", "-rf", ":")
    assert (done.code, len(api.keys())) == (6, 2)
    assert "Remove everything in the bucket default (2 objects, 2 B)?" in done.err
    monkeypatch.setattr("sys.stdin", Terminal(""))
    assert run("rm", "-rf", "p").code == 0
    assert run("rm", "-ry", ":").code == 0
    assert api.keys() == []


@pytest.mark.parametrize(
    ("words", "ways"),
    [
        (["a.txt", "b.txt"], ["flarectl put a.txt b.txt :", "flarectl put a.txt default:b.txt"]),
        (["a.txt", "a.txt"], ["flarectl put a.txt a.txt :", "flarectl put a.txt default:a.txt"]),
        (["a.txt", "b.txt", "c d"], ["flarectl put a.txt b.txt 'c d' :", "flarectl put a.txt b.txt 'c d/'"]),
        (["a.txt", "dir"], ["flarectl put a.txt default:dir", "flarectl put a.txt dir/"]),
        (["-r", "dir", "dir2"], ["flarectl put -r dir dir2 :", "flarectl put -r dir dir2/"]),
        (["a.txt", "*.txt"], ["flarectl put a.txt '*.txt' :"]),
    ],
)
def test_a_last_argument_of_put_that_is_a_file_here_is_refused(
    api: FakeApi, run: Run, words: list[str], ways: list[str]
) -> None:
    for name in ("a.txt", "b.txt", "c d"):
        Path(name).write_text(name)
    Path("dir").mkdir()
    Path("dir2").mkdir()
    done = run("put", *words)
    assert (done.code, done.out, api.requests) == (2, "", [])
    assert all(way in done.err for way in ways)


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (["a.txt", "b.txt", ":"], ["a.txt", "b.txt"]),
        (["a.txt", "default:b.txt"], ["b.txt"]),
        (["a.txt", ":b.txt"], ["b.txt"]),
        (["a.txt", "b.txt", "dir/"], ["dir/a.txt", "dir/b.txt"]),
        (["a.txt", "default:dir"], ["dir"]),
        (["*.txt"], ["a.txt", "b.txt"]),
        (["*.txt", "photos/"], ["photos/a.txt", "photos/b.txt"]),
    ],
)
def test_each_way_to_say_it_to_put_means_one_thing(api: FakeApi, run: Run, words: list[str], keys: list[str]) -> None:
    for name in ("a.txt", "b.txt"):
        Path(name).write_text(name)
    Path("dir").mkdir()
    assert run("put", *words) == (0, "", "")
    assert api.keys() == keys


@pytest.mark.parametrize(
    ("words", "ways"),
    [
        (["a.txt", "b.txt"], ["flarectl get a.txt b.txt .", "flarectl get a.txt ./b.txt"]),
        (["a.txt", "p/c", "b.txt"], ["flarectl get a.txt p/c b.txt .", "flarectl get a.txt p/c ./b.txt/"]),
        (["-r", "p", "q"], ["flarectl get -r p q .", "flarectl get -r p ./q"]),
        (["a.txt", "*.txt"], ["flarectl get a.txt '*.txt' ."]),
        (["a.txt", "default:none"], ["flarectl get a.txt ./default:none"]),
    ],
)
def test_a_last_argument_of_get_that_is_a_key_is_refused(
    api: FakeApi, run: Run, words: list[str], ways: list[str]
) -> None:
    for key in ("a.txt", "b.txt", "p/c", "q/d"):
        api.store(key, key.encode())
    Path("b.txt").write_text("mine")
    done = run("get", *words)
    assert (done.code, done.out) == (2, "")
    assert all(way in done.err for way in ways)
    assert [os.listdir(), Path("b.txt").read_text()] == [["b.txt"], "mine"]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["a.txt", "b.txt", "."], ["a.txt", "b.txt"]),
        (["a.txt", "./b.txt"], ["b.txt"]),
        (["a.txt", "b.txt", "new/"], ["new/a.txt", "new/b.txt"]),
        (["a.txt", "free"], ["free"]),
        (["a.txt", "x:y:z"], ["x:y:z"]),
        (["-r", "p", "p/"], ["p/p/c"]),
    ],
)
def test_each_way_to_say_it_to_get_means_one_thing(api: FakeApi, run: Run, words: list[str], names: list[str]) -> None:
    for key in ("a.txt", "b.txt", "p/c"):
        api.store(key, key.encode())
    assert run("get", *words) == (0, "", "")
    assert sorted(str(path) for path in Path().rglob("*") if path.is_file()) == names
