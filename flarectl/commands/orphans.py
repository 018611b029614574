"""flarectl node orphans"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from flarectl import completing, options

if TYPE_CHECKING:
    from flarectl.answers import HeldOrphans

NAME = typer.Argument(..., metavar="NODE", show_default=False, autocompletion=completing.nodes)
DELETE = typer.Option(False, "--delete", help="Allow the deletion of what is held back; shows it first, and asks.")
YES = typer.Option(False, "--yes", "-y", help="With --delete: do not ask.")


def orphans(
    ctx: typer.Context,
    name: str = NAME,
    delete: bool = DELETE,
    yes: bool = YES,
    json: bool = options.JSON,
    endpoint: str = options.ENDPOINT,
) -> None:
    """Show the pieces of a data node that no record names and that are held back from deletion.

    Many at once usually mean that the metadata is damaged or old: compare first, restore if so, delete last.
    """
    from flarectl import render
    from flarectl.client import Client

    with Client(options.endpoint_of(ctx, endpoint)) as client:
        found, answer = client.held_orphans(name)
        if not json:
            _show(name, found)
        if delete:
            _confirm(name, found, yes=yes)
            # As many as were shown, and no more: others that are found meanwhile are held back.
            answer = client.allow_orphans(name, found.held)
    if json:
        render.say_json(answer)
    elif delete:
        render.remark(f"the next inventory of {name}, which begins now, deletes them; flarectl status shows it")


def _show(name: str, found: HeldOrphans) -> None:
    from flarectl import render

    if not found.held:
        render.say(f"nothing is held back on node {name}")
        return
    if found.allowed:
        render.remark(f"a command has allowed the deletion of {found.allowed:,} of them already")
    # The facts are the result; what may follow from them goes to standard error.
    render.say(f"node     {name}")
    render.say(
        f"held     {render.count_text(found.held, 'piece')} that no record names, {render.size_text(found.bytes)}"
    )
    render.say(f"since    {render.time_text(found.since)}")
    render.say(
        f"until    deleted without a command in {render.span_text(found.seconds_left)}, unless a record names them"
    )
    for number, piece in enumerate(found.sample):
        render.say(f"{'sample' if not number else '':<9}{render.harmless(piece)}")
    for sentence in found.obstacles:
        render.say(f"kept     {render.harmless(sentence)}")
    # Two causes, two ways out. Deletion comes last, because it cannot be undone.
    render.remark("does the metadata lack objects? On the api host: flared restore --config /etc/flare/api.toml FILE")
    render.remark(f"is it right, and these are garbage? flarectl node orphans {name} --delete")


def _confirm(name: str, found: HeldOrphans, *, yes: bool) -> None:
    """Ask whether to delete them. Raise Refusal unless the answer is yes."""
    from flarectl import render
    from flarectl.errors import Refusal

    if not found.held:
        raise Refusal(f"nothing is held back on node {name}, so there is nothing to delete")
    if yes:
        return
    if not sys.stdin.isatty():
        raise Refusal("nothing was deleted: without a terminal to ask on, --delete needs --yes")
    pieces = render.count_text(found.held, "piece")
    if not typer.confirm(f"Delete {pieces} on node {render.harmless(name)} for good?", err=True):
        raise Refusal("nothing was deleted")
