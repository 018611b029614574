"""The man page and --help tell of the same things."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from flarectl.app import app
from flarectl.errors import MEANINGS

PAGE = re.sub(r"\\f[BRIP]", "", Path(__file__).parents[3].joinpath("man/flarectl.1").read_text()).replace("\\", "")


def command_options() -> set[str]:
    found: set[str] = set()
    waiting = [typer.main.get_command(app)]
    while waiting:
        command = waiting.pop()
        found |= {option for param in command.params for option in param.opts if option.startswith("-")}
        waiting += getattr(command, "commands", {}).values()
    return found


def command_names() -> list[str]:
    names = []
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        below = getattr(command, "commands", None)
        names += [f"{name} {inner}" for inner in below] if below else [name]
    return names


@pytest.mark.parametrize("name", command_names())
def test_every_command_is_in_the_manual(name: str) -> None:
    assert re.search(rf'^\.(B|BI) "?{name}\b', PAGE, re.MULTILINE)


def test_every_option_is_in_the_manual() -> None:
    assert not {option for option in command_options() if not re.search(rf"^\.\w+ .*{option}\b", PAGE, re.MULTILINE)}


def test_every_exit_code_is_in_the_manual_and_in_help() -> None:
    command = [sys.executable, "-m", "flarectl", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    for code, meaning in MEANINGS.items():
        assert f".TP\n.B {int(code)}\n{meaning[0].upper()}{meaning[1:20]}" in PAGE
        assert re.search(rf"^ +{int(code)}  {re.escape(meaning)}$", shown, re.MULTILINE)
