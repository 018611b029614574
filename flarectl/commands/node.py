"""flarectl node ls | show | invite | rm | add | orphans"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from flarectl import completing, options
from flarectl.commands import orphans, removal
from flarectl.lean import LeanCommand, LeanGroup

if TYPE_CHECKING:
    from flarectl.answers import FailureCost, Invite, Node
    from flarectl.client import Client

app = typer.Typer(cls=LeanGroup, no_args_is_help=True, help="List the nodes, show one, let one join, remove one.")
NAME = typer.Argument(..., metavar="NODE", show_default=False, autocompletion=completing.nodes)
ONLY = typer.Option("", "--name", metavar="NODE", show_default=False, help="Only for the node of this name.")
VALID = typer.Option("1h", "--valid", metavar="TIME", help="How long the token is valid: such as 30min, 12h, 7d.")
API = typer.Option([], "--api", metavar="URL", show_default=False, help="Where the new host reaches the api node.")


@app.command("ls", cls=LeanCommand)
def list_nodes(ctx: typer.Context, json: bool = options.JSON, endpoint: str = options.ENDPOINT) -> None:
    """List the nodes: state and for how long, zone, space, volumes."""
    from flarectl import render, screens
    from flarectl.client import Client

    with Client(options.endpoint_of(ctx, endpoint)) as client:
        status, answer = client.status()
        if not json:
            screens.show_nodes(status.nodes)
            for reason in status.refused:
                render.remark(reason)
            return
        for record in _records(answer):
            render.say_json(record)


@app.command(cls=LeanCommand)
def show(ctx: typer.Context, name: str = NAME, json: bool = options.JSON, endpoint: str = options.ENDPOINT) -> None:
    """Show everything about one node.

    Also what its failure would cost, counted in the records of all chunks, and whether it may go down now.
    """
    from flarectl import render, screens
    from flarectl.client import Client

    with Client(options.endpoint_of(ctx, endpoint)) as client:
        status, answer = client.status()
        node, record = _choose(name, status.nodes, _records(answer))
        cost, obstacle = _ask(client, node) if node.role == "data" else (None, "")
        if not json:
            return screens.show_node(node, cost, obstacle)
        if node.role == "data":
            record = record | {"failure": cost and cost._asdict(), "may_go_down": not obstacle, "obstacle": obstacle}
        render.say_json(record)


@app.command(cls=LeanCommand)
def invite(
    ctx: typer.Context,
    name: str = ONLY,
    valid: str = VALID,
    api: list[str] = API,
    json: bool = options.JSON,
    endpoint: str = options.ENDPOINT,
) -> None:
    """Print a join token, with which one host may join the cluster.

    Type it there: flared init data --join TOKEN. It is valid once, and for a limited time.
    """
    from flarectl import invites, render
    from flarectl.client import Client

    seconds, named, place = invites.parse_valid(valid), invites.parse_apis(api), options.endpoint_of(ctx, endpoint)
    secret = invites.find_secret()
    with Client(place) as client:
        made = client.invite(secret, node=name, valid_seconds=seconds)
        token, apis = invites.make_token(made, secret, place, named)
        if not json:
            return _show_invite(made, token, apis)
        record = {"token": token, "api": apis, "node": made.node or None, "cluster": made.cluster}
        render.say_json(record | {"expires": render.json_time(made.expires)})


app.command("rm", cls=LeanCommand)(removal.rm)
app.command("add", cls=LeanCommand)(removal.add)
app.command("orphans", cls=LeanCommand)(orphans.orphans)


def _show_invite(made: Invite, token: str, apis: tuple[str, ...]) -> None:
    """Print the token alone to standard output, so that it can be piped; instructions go to standard error."""
    from flarectl import invites, render

    render.say(token)
    host = f"the host of node {made.node}" if made.node else "one data host"
    render.remark(f"valid once, for {host}, until {render.time_text(made.expires)}; it reaches {' or '.join(apis)}")
    render.remark("there: flared init data --volume DIR --join TOKEN     (--join - reads it from standard input)")
    if any(map(invites.is_local, apis)):
        render.remark("that address means the host itself, on each host: the token works on this one only")


def _choose(name: str, nodes: tuple[Node, ...], records: list[dict[str, object]]) -> tuple[Node, dict[str, object]]:
    """Return the node of this name, parsed and as the server wrote it. A data node wins over an api node."""
    from flarectl.errors import NotFound

    found = [pair for pair in zip(nodes, records, strict=True) if pair[0].name == name]
    if not found:
        raise NotFound(f"there is no node {name}; flarectl node ls lists the nodes")
    return found[-1]


def _ask(client: Client, node: Node) -> tuple[FailureCost | None, str]:
    """Return what its failure would cost, None if that cannot be counted now, and why it must not go down, if so."""
    from flarectl.errors import Temporary

    obstacle = client.reason_node_must_stay(node.name)
    try:
        return client.failure_cost(node.name), obstacle
    except Temporary:
        return None, obstacle


def _records(answer: object) -> list[dict[str, object]]:
    nodes = answer.get("nodes") if isinstance(answer, dict) else None
    return nodes if isinstance(nodes, list) else []
