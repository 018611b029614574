"""The options that several commands share, and what they make of them."""

from __future__ import annotations

from dataclasses import dataclass

import typer

from flarectl.profile import DEFAULT_ENDPOINT, VARIABLE

COMPLETE_VARIABLE = "_FLARECTL_COMPLETE"
"""With it a shell asks for completions."""

ENDPOINT = typer.Option(
    "",
    "--endpoint",
    metavar="URL",
    show_default=False,
    help=f"The api node; else {VARIABLE}, else the configuration file, else {DEFAULT_ENDPOINT}.",
)
JSON = typer.Option(False, "--json", help="JSON, one line for each thing.")
QUIET = typer.Option(False, "--quiet", "-q", help="Only errors.")
RECURSIVE = typer.Option(False, "--recursive", "-r", help="Whole directories and prefixes.")
EXCLUDE = typer.Option(
    [], "--exclude", metavar="PATTERN", show_default=False, help="Leave out names, or with a slash paths, that match."
)
DRY_RUN = typer.Option(False, "--dry-run", "-n", help="Only say what would be done.")
IF_NOT_EXISTS = typer.Option(False, "--if-not-exists", help="Leave alone what is there already.")
PARALLEL = typer.Option(4, "--parallel", min=1, max=64, metavar="N", help="Chunks or files on their way at once.")


@dataclass(frozen=True, slots=True)
class Globals:
    """What was said before the command's name."""

    endpoint: str = ""


def endpoint_of(ctx: typer.Context, flag: str) -> str:
    """The endpoint to talk to; raises Usage."""
    from flarectl.profile import find_endpoint

    said = ctx.obj.endpoint if isinstance(ctx.obj, Globals) else ""
    return find_endpoint(flag or said)[0]
