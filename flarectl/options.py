"""The options that several commands share, and the values they yield."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from flarectl import completing
from flarectl.errors import Usage
from flarectl.profile import DEFAULT_ENDPOINT, VARIABLE
from flarectl.settings import PROFILE_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from flarectl.retry import Retries

ENDPOINT = typer.Option(
    "",
    "--endpoint",
    metavar="URL",
    show_default=False,
    help=f"The api node; else {VARIABLE}, else the configuration file, else {DEFAULT_ENDPOINT}.",
)
PROFILE = typer.Option(
    "",
    "--profile",
    metavar="NAME",
    show_default=False,
    help=f"The settings to go by; else {PROFILE_VARIABLE}, else those at the top of the file.",
    autocompletion=completing.profiles,
)
JSON = typer.Option(False, "--json", help="JSON, one line for each thing.")
QUIET = typer.Option(False, "--quiet", "-q", help="Only errors.")
RECURSIVE = typer.Option(False, "--recursive", "-r", help="Whole directories and prefixes.")
VERSION = typer.Option(
    0, "--version", metavar="NUMBER", show_default=False, min=0, help="One version of one object (ls --versions)."
)
EXCLUDE = typer.Option(
    [], "--exclude", metavar="PATTERN", show_default=False, help="Leave out names, or with a slash paths, that match."
)
DRY_RUN = typer.Option(False, "--dry-run", "-n", help="Only show what would be done.")
IF_NOT_EXISTS = typer.Option(False, "--if-not-exists", help="Skip what exists already.")
RETRY_FOR = typer.Option(
    "",
    "--retry-for",
    metavar="TIME",
    show_default=False,
    help="How long to repeat what fails temporarily: 30s, 10min; on a terminal 2min, else 30s.",
)
PARALLEL = typer.Option(4, "--parallel", min=1, max=64, metavar="N", help="Chunks or files to transfer at once.")


@dataclass(frozen=True, slots=True)
class Globals:
    """The options before the command's name."""

    endpoint: str = ""


def retries_of(text: str, notice: Callable[[str], None]) -> Retries:
    """Return the retries that ``--retry-for`` asks for, for a command that changes many things. Raise Usage."""
    from flarectl.render import is_terminal
    from flarectl.retry import TERMINAL_SECONDS, UNWATCHED_SECONDS, Retries
    from flarectl.target import parse_duration

    seconds = TERMINAL_SECONDS if is_terminal(sys.stderr) else UNWATCHED_SECONDS
    if text:
        try:
            seconds = parse_duration(text)
        except Usage as error:
            raise Usage(f"--retry-for: {error}") from None
    return Retries(seconds, patient=True, stubborn=bool(text), notice=notice)


def endpoint_of(ctx: typer.Context, flag: str) -> str:
    """Return the endpoint to use; raise Usage if it is not a valid URL."""
    from flarectl.profile import find_endpoint

    said = ctx.obj.endpoint if isinstance(ctx.obj, Globals) else ""
    return find_endpoint(flag or said)[0]
