"""flarectl node ls | show"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from flarectl import options
from flarectl.lean import LeanCommand, LeanGroup

if TYPE_CHECKING:
    from flarectl.answers import FailureCost, Node
    from flarectl.client import Client

app = typer.Typer(cls=LeanGroup, no_args_is_help=True, help="List the nodes and tell about one.")
NAME = typer.Argument(..., metavar="NODE", show_default=False)


@app.command("ls", cls=LeanCommand)
def list_nodes(ctx: typer.Context, json: bool = options.JSON, endpoint: str = options.ENDPOINT) -> None:
    """List the nodes: state and for how long, zone, space, volumes."""
    from flarectl import render, screens
    from flarectl.client import Client

    with Client(options.endpoint_of(ctx, endpoint)) as client:
        status, answer = client.status()
        if not json:
            return screens.show_nodes(status.nodes)
        for record in _records(answer):
            render.say_json(record)


@app.command(cls=LeanCommand)
def show(ctx: typer.Context, name: str = NAME, json: bool = options.JSON, endpoint: str = options.ENDPOINT) -> None:
    """Tell everything about one node.

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


def _choose(name: str, nodes: tuple[Node, ...], records: list[dict[str, object]]) -> tuple[Node, dict[str, object]]:
    """The node of this name, as a value and as the server wrote it; a data node, if the api node has that name too."""
    from flarectl.errors import NotFound

    found = [pair for pair in zip(nodes, records, strict=True) if pair[0].name == name]
    if not found:
        raise NotFound(f"there is no node {name}; flarectl node ls lists them")
    return found[-1]


def _ask(client: Client, node: Node) -> tuple[FailureCost | None, str]:
    """What its failure would cost, None if that cannot be counted now; and why it must not go down, or nothing."""
    from flarectl.errors import Temporary

    obstacle = client.obstacle_without(node.name)
    try:
        return client.failure_cost(node.name), obstacle
    except Temporary:
        return None, obstacle


def _records(answer: object) -> list[dict[str, object]]:
    nodes = answer.get("nodes") if isinstance(answer, dict) else None
    return nodes if isinstance(nodes, list) else []
