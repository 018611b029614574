"""flarectl completion"""

from __future__ import annotations

from enum import StrEnum

import typer


class Shell(StrEnum):
    """The shells that can complete flarectl's words."""

    bash = "bash"
    zsh = "zsh"
    fish = "fish"


SHELL = typer.Argument(..., metavar="SHELL", show_default=False, help="bash, zsh or fish.")


def completion(shell: Shell = SHELL) -> None:
    """Print the completion script for a shell.

    bash: source <(flarectl completion bash), in ~/.bashrc to keep it.
    """
    from flarectl import render
    from flarectl.completing import SCRIPTS

    render.say(SCRIPTS[shell.value])
