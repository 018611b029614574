"""flarectl key create | ls | show | rm | rotate"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from flarectl import completing, options
from flarectl.lean import LeanCommand, LeanGroup

if TYPE_CHECKING:
    from collections.abc import Callable

    from flarectl.answers import Key
    from flarectl.client import Client

app = typer.Typer(cls=LeanGroup, no_args_is_help=True, help="Create access keys, list, show, replace and remove them.")
NAME = typer.Argument(..., metavar="NAME", show_default=False)
KNOWN = typer.Argument(..., metavar="NAME", show_default=False, autocompletion=completing.access_keys)
_SCOPE = "BUCKET[/PREFIX]"
READ = typer.Option([], "--read", metavar=_SCOPE, show_default=False, help="Get objects. '*': all buckets.")
WRITE = typer.Option([], "--write", metavar=_SCOPE, show_default=False, help="Put objects.")
LIST = typer.Option([], "--list", metavar=_SCOPE, show_default=False, help="List objects.")
DELETE = typer.Option([], "--delete", metavar=_SCOPE, show_default=False, help="Delete objects.")
CREATE = typer.Option([], "--create", metavar="PATTERN", show_default=False, help="Create buckets: '*', 'logs-*'.")
ADMIN = typer.Option(False, "--admin", help="Everything that the secret of the cluster may do, except invites.")
EXPIRES = typer.Option(
    "", "--expires", metavar="TIME", show_default=False, help="In 12h or 30d, or at 2027-01-31. Never by default."
)
OUTPUT = typer.Option(
    "", "--output", "-o", metavar="FILE", show_default=False, help="Write id and secret to this new file, mode 0600."
)
GRACE = typer.Option("24h", "--grace", metavar="TIME", help="How long the old key goes on working; 0 for not at all.")


@app.command(cls=LeanCommand)
def create(
    ctx: typer.Context,
    name: str = NAME,
    read: list[str] = READ,
    write: list[str] = WRITE,
    list_: list[str] = LIST,
    delete: list[str] = DELETE,
    create: list[str] = CREATE,
    admin: bool = ADMIN,
    expires: str = EXPIRES,
    output: str = OUTPUT,
    json: bool = options.JSON,
    endpoint: str = options.ENDPOINT,
) -> None:
    """Create an access key with these grants, and show its secret: this once.

    Without any grant it may do nothing but what a bucket's policy or its owner allows.
    """
    import time

    from flarectl import access, render

    scopes = {"read": read, "write": write, "list": list_, "delete": delete, "create": create}
    grants = access.grants_of(scopes, admin=admin)
    until = access.parse_expires(expires, time.time()) if expires else None
    made = _with_secret(ctx, endpoint, output, json, lambda client: client.create_key(name, grants, until))
    if not json and not made.grants:
        render.remark(f"{made.name} has no grants: it may do nothing yet")


@app.command(cls=LeanCommand)
def rotate(
    ctx: typer.Context,
    name: str = KNOWN,
    grace: str = GRACE,
    output: str = OUTPUT,
    json: bool = options.JSON,
    endpoint: str = options.ENDPOINT,
) -> None:
    """Give a key another id and secret; its name, grants and expiry stay.

    The old id goes on working for --grace, so that clients can be changed one after the other.
    """
    from flarectl import access, render

    seconds = access.parse_grace(grace)
    made = _with_secret(ctx, endpoint, output, json, lambda client: client.rotate_key(name, seconds))
    if not json:
        for old, until in made.replaced:
            render.remark(f"{old} goes on working until {render.time_text(until)}")


@app.command("ls", cls=LeanCommand)
def list_keys(ctx: typer.Context, json: bool = options.JSON, endpoint: str = options.ENDPOINT) -> None:
    """List the access keys: id, until when they work, grants. Secrets are never shown again."""
    from flarectl import access, render

    with access.open_client(options.endpoint_of(ctx, endpoint)) as client:
        keys = client.access_keys()
        if not json:
            return access.show_keys(keys)
        for key in keys:
            render.say_json(access.key_record(key))


@app.command(cls=LeanCommand)
def show(ctx: typer.Context, name: str = KNOWN, json: bool = options.JSON, endpoint: str = options.ENDPOINT) -> None:
    """Show everything about one key but its secret."""
    from flarectl import access, render

    with access.open_client(options.endpoint_of(ctx, endpoint)) as client:
        key = client.access_key(name)
        if json:
            return render.say_json(access.key_record(key))
        access.show_key(key)


@app.command(cls=LeanCommand)
def rm(ctx: typer.Context, name: str = KNOWN, endpoint: str = options.ENDPOINT) -> None:
    """Remove a key: it works no more, at once and for good. What it stored stays."""
    from flarectl import access, render

    with access.open_client(options.endpoint_of(ctx, endpoint)) as client:
        client.remove_key(name)
        render.say(f"key {name} removed")


def _with_secret(ctx: typer.Context, endpoint: str, output: str, json: bool, make: Callable[[Client], Key]) -> Key:
    """Make a secret, and write it where it was asked for, and nowhere else."""
    from flarectl import access, render
    from flarectl.credentials import format_credentials, new_credentials_file

    place = options.endpoint_of(ctx, endpoint)
    with access.open_client(place) as client:
        if not output:
            made = make(client)
        else:
            # The file comes first: where it cannot be written, no key is made whose secret no one has.
            with new_credentials_file(output) as write:
                made = make(client)
                write(format_credentials(made.id, made.secret))
    if json:
        record = access.key_record(made)
        render.say_json(record | ({"output": output} if output else {"secret": made.secret}))
        return made
    render.say(f"name    {made.name}")
    render.say(f"id      {made.id}")
    if output:
        render.remark(f"id and secret are in {output}, for AWS tools: AWS_SHARED_CREDENTIALS_FILE={output}")
    else:
        render.say(f"secret  {made.secret}")
        render.remark("the secret is shown this once; if it is lost: flarectl key rotate")
    if access.is_overheard(place):
        render.remark(f"it came from {place} unencrypted: make keys on the api node's host, or use https://")
    return made
