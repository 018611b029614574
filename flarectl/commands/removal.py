"""flarectl node rm | add"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import typer

from flarectl import completing, options

if TYPE_CHECKING:
    from flarectl.answers import Node, RemovalCost
    from flarectl.client import Client

NAME = typer.Argument(..., metavar="NODE", show_default=False, autocompletion=completing.nodes)
FORCE = typer.Option(False, "--force", help="Even if chunks depend on it; shows first which, and asks.")
YES = typer.Option(False, "--yes", "-y", help="With --force: do not ask.")
NO_WAIT = typer.Option(False, "--no-wait", help="Do not wait for the end: the removal goes on by itself.")

LOOK_SECONDS = 1.0


def rm(
    ctx: typer.Context,
    name: str = NAME,
    force: bool = FORCE,
    yes: bool = YES,
    no_wait: bool = NO_WAIT,
    json: bool = options.JSON,
    endpoint: str = options.ENDPOINT,
) -> None:
    """Remove a data node that is gone for good.

    Refused while it is online or suspect, and while any chunk depends on it.
    """
    from flarectl import render
    from flarectl.client import Client

    with Client(options.endpoint_of(ctx, endpoint)) as client:
        # By force chunks may be lost: what it costs is shown before the question.
        if force:
            _confirm(name, client.removal_cost(name), yes=yes)
        state = client.remove_node(name, force=force)
        if state != "removed" and not no_wait:
            _wait(client, name)
            state = "removed"
    if json:
        render.say_json({state: name})
    elif state == "removed":
        render.remark(f"node {name} is removed; if its host returns, it is refused until you empty its volumes")
    else:
        render.remark(f"node {name} is being removed; flarectl status shows the progress")


def add(ctx: typer.Context, name: str = NAME, json: bool = options.JSON, endpoint: str = options.ENDPOINT) -> None:
    """Let a removed node return, or cancel its removal.

    Pieces that the cluster lacks are used again, the others are deleted. A new node does not need this command.
    """
    from flarectl import render
    from flarectl.client import Client

    with Client(options.endpoint_of(ctx, endpoint)) as client:
        client.readmit_node(name)
    if json:
        render.say_json({"welcome": name})
    else:
        render.remark(f"node {name} may return: its next heartbeat is accepted, within three seconds if it runs")


def _find(client: Client, name: str) -> Node | None:
    return next((node for node in client.status()[0].nodes if (node.name, node.role) == (name, "data")), None)


def _confirm(name: str, cost: RemovalCost, *, yes: bool) -> None:
    """Show what would be lost, and ask. Raise Refusal unless the answer is yes."""
    from flarectl import render
    from flarectl.errors import Refusal

    if not cost.waiting and not cost.unreadable and cost.complete:
        return
    least = "" if cost.complete else "at least "
    if cost.unreadable:
        render.remark(f"{least}{cost.unreadable:,} chunks have no other copy that answers: their objects would be lost")
    if cost.waiting:
        render.remark(
            f"{least}{cost.waiting:,} chunks lack the copy that was on it; it is rebuilt when nodes have room"
        )
    if not cost.complete:
        render.remark("not all chunks could be checked in time: there may be more")
    if yes:
        return
    if not sys.stdin.isatty():
        raise Refusal("nothing was removed: without a terminal to ask on, --force needs --yes")
    if not typer.confirm(f"Remove node {render.harmless(name)} for good?", err=True):
        raise Refusal("nothing was removed")


def _wait(client: Client, name: str) -> None:
    """Wait until the cluster no longer knows the node."""
    from flarectl.errors import Interrupted, Refusal
    from flarectl.screens import Waiting

    try:
        with Waiting(f"removing node {name}") as line:
            while (node := _find(client, name)) is not None:
                if node.state != "removing":
                    raise Refusal(f"the removal of node {name} was cancelled")
                line.show(_progress(node))
                time.sleep(LOOK_SECONDS)
    except KeyboardInterrupt:
        raise Interrupted(f"the removal of node {name} goes on; flarectl node add {name} cancels it") from None


def _progress(node: Node) -> str:
    waiting = f"; {node.removal_waiting:,} chunks wait for repair" if node.removal_waiting else ""
    return f"removing node {node.name}: {node.removal_share:.0%} of the chunks checked{waiting}"
