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
    """Keep the name of the group in front of its one command."""


@app.command(cls=LeanCommand)
def accept(ctx: typer.Context, yes: bool = YES, json: bool = options.JSON, endpoint: str = options.ENDPOINT) -> None:
    """Go on with metadata that is older than data nodes have seen; says first what is lost, and asks.

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
        render.remark("the metadata is accepted: writes are taken again; flarectl status shows how the cluster is")


def _confirm(age: MetadataAge, *, yes: bool) -> None:
    """Say what would be lost; raises Refusal unless somebody wants that."""
    from flarectl import render
    from flarectl.errors import Refusal

    if not age.older:
        raise Refusal("no data node has seen newer metadata, so there is nothing to accept")
    days = round(age.orphans_kept_seconds / 86400)
    render.remark(f"this metadata knows {render.count_text(age.objects, 'object')}; newer metadata was seen by")
    for node, seen in age.seen:
        render.remark(f"  node {node}, on {render.time_text(seen)}")
    render.remark(
        "what was written since has no name any more, what was deleted since is listed again and may be unreadable, "
        "and what was overwritten since is the old version. The pieces of what was written since are kept for "
        f"{days} days; until then the right file, put back with flared restore on the api host, still finds them"
    )
    if yes:
        return
    if not sys.stdin.isatty():
        raise Refusal("nothing was accepted: without a terminal to ask on, this needs --yes")
    if not typer.confirm("Accept this metadata and lose what was written since?", err=True):
        raise Refusal("nothing was accepted")
