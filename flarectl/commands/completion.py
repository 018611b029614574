"""flarectl completion"""

from __future__ import annotations

from enum import StrEnum

import typer

from flarectl import options


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
    from typer._completion_shared import get_completion_script

    from flarectl import render

    script = get_completion_script(prog_name="flarectl", complete_var=options.COMPLETE_VARIABLE, shell=shell.value)
    render.say(script)
