"""flarectl status"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

import typer

from flarectl import options

if TYPE_CHECKING:
    from flarectl.client import Client

WATCH = typer.Option(False, "--watch", "-w", help="Keep it up to date until Ctrl-C.")
INTERVAL = typer.Option(2.0, "--interval", min=0.2, metavar="SECONDS", help="With --watch: how often.")


def status(
    ctx: typer.Context,
    watch: bool = WATCH,
    interval: float = INTERVAL,
    json: bool = options.JSON,
    endpoint: str = options.ENDPOINT,
) -> int:
    """Show the state of the cluster on one screen.

    Ends with exit code 5 if its health is "down".
    """
    from flarectl import render, screens
    from flarectl.client import Client
    from flarectl.errors import ExitCode

    with Client(options.endpoint_of(ctx, endpoint)) as client:
        if watch and not json:
            return _watch(client, interval)
        while True:
            found, answer = client.status()
            if json:
                render.say_json(answer)
            else:
                screens.show_status(found)
            if not watch:
                return ExitCode.TEMPORARY if found.health == "down" else ExitCode.DONE
            render.flush()
            time.sleep(interval)


def _watch(client: Client, interval: float) -> int:
    """Show the status until Ctrl-C, the normal way to end it. Wait for a cluster that cannot be reached for a while."""
    from flarectl.errors import ExitCode, Failure
    from flarectl.screens import StatusWatch

    with suppress(KeyboardInterrupt), StatusWatch() as screen:
        while True:
            try:
                found, trouble = client.status()[0], ""
            except Failure as failure:
                found, trouble = None, failure.sentence()
            screen.show(found, trouble)
            time.sleep(interval)
    return ExitCode.DONE
