"""flarectl metadata accept"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from flarectl import options
from flarectl.lean import LeanCommand, LeanGroup

if TYPE_CHECKING:
    from flarectl.answers import MetadataAge

app = typer.Typer(cls=LeanGroup, no_args_is_help=True, help="Decide about metadata that is older than it should be.")
YES = typer.Option(False, "--yes", "-y", help="Do not ask.")


@app.callback()
def metadata() -> None:
    """Exist so that typer keeps the group's name in front of its only command."""


@app.command(cls=LeanCommand)
def accept(ctx: typer.Context, yes: bool = YES, json: bool = options.JSON, endpoint: str = options.ENDPOINT) -> None:
    """Go on with metadata that is older than data nodes have seen. First shows what is lost, and asks.

    The other way is to put the right file back: flared restore FILE, on the api host.
    """
    from flarectl import render
    from flarectl.client import Client

    with Client(options.endpoint_of(ctx, endpoint)) as client:
        _confirm(client.metadata_age(), yes=yes)
        answer = client.accept_metadata()
    if json:
        render.say_json(answer)
    else:
        render.remark("the metadata is accepted: the cluster accepts writes again; flarectl status shows its state")


def _confirm(age: MetadataAge, *, yes: bool) -> None:
    """Show what would be lost, and ask. Raise Refusal unless the answer is yes."""
    from flarectl import render
    from flarectl.errors import Refusal

    if not age.older:
        raise Refusal("no data node has seen newer metadata, so there is nothing to accept")
    days = round(age.orphans_kept_seconds / 86400)
    render.remark(f"this metadata knows {render.count_text(age.objects, 'object')}; newer metadata was seen by")
    for node, seen in age.seen:
        render.remark(f"  node {node}, on {render.time_text(seen)}")
    render.remark(
        "objects written since then have lost their names, objects deleted since then are listed again and may be "
        "unreadable, and overwritten ones return as the old version. The pieces written since then are kept for "
        f"{days} days; until then the right file, put back with flared restore on the api host, still finds them"
    )
    if yes:
        return
    if not sys.stdin.isatty():
        raise Refusal("nothing was accepted: without a terminal to ask on, this needs --yes")
    if not typer.confirm("Accept this metadata and lose what was written since?", err=True):
        raise Refusal("nothing was accepted")
