"""flarectl bucket create | ls | set | rm"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from flarectl import completing, options
from flarectl.lean import LeanCommand, LeanGroup

if TYPE_CHECKING:
    from flarectl.client import Client

app = typer.Typer(cls=LeanGroup, no_args_is_help=True, help="Create, list, change and remove buckets.")
NAME = typer.Argument(..., metavar="BUCKET", show_default=False)
KNOWN = typer.Argument(..., metavar="BUCKET", show_default=False, autocompletion=completing.buckets)
SCHEME = typer.Option(
    "",
    "--scheme",
    metavar="SCHEME",
    show_default=False,
    help="Such as replica:2.",
    autocompletion=lambda: ["replica:1", "replica:2", "replica:3"],
)
CHUNK_SIZE = typer.Option("", "--chunk-size", metavar="SIZE", show_default=False, help="Such as 8MiB.")
COMPRESSION = typer.Option(
    "",
    "--compression",
    metavar="CODEC",
    show_default=False,
    help="lz4 or plain.",
    autocompletion=lambda: ["lz4", "plain"],
)
PUBLIC = typer.Option(False, "--public", help="Everybody may get objects.")
PUBLIC_LIST = typer.Option(False, "--public-list", help="Everybody may list objects.")
PRIVATE = typer.Option(False, "--private", help="Only what keys and the secret allow.")
OWNER = typer.Option(
    "", "--owner", metavar="KEY", show_default=False, help="The access key that may do everything in it; -: none."
)

STATES = {"on": "enabled", "suspended": "suspended"}
VERSIONING = typer.Option(
    "",
    "--versioning",
    metavar="on|suspended",
    show_default=False,
    help="Keep old versions: on or suspended.",
    autocompletion=lambda: list(STATES),
)


@app.command(cls=LeanCommand)
def create(
    ctx: typer.Context,
    name: str = NAME,
    scheme: str = SCHEME,
    chunk_size: str = CHUNK_SIZE,
    compression: str = COMPRESSION,
    endpoint: str = options.ENDPOINT,
) -> None:
    """Create a bucket, or do nothing if it exists with the same settings."""
    from flarectl import render
    from flarectl.client import Client
    from flarectl.target import parse_bucket_argument, parse_size

    bucket = parse_bucket_argument(name)
    asked = {
        "scheme": scheme,
        "chunk_size": parse_size(chunk_size) if chunk_size else 0,
        "compression": compression,
    }
    with Client(options.endpoint_of(ctx, endpoint)) as client:
        new = client.create_bucket(bucket, {name: value for name, value in asked.items() if value})
        render.say(f"bucket {bucket} {'created' if new else 'exists already'}")
        if scheme and new:
            _warn(client, scheme)


def _warn(client: Client, text: str) -> None:
    """Warn if there are fewer nodes than the scheme has pieces; the bucket exists either way."""
    from flarectl import render
    from flarectl.errors import Failure
    from flared.chunks.scheme import parse_scheme
    from flared.errors import BadRequest

    try:
        wanted = parse_scheme(text)
        nodes = sum(node.role == "data" for node in client.status()[0].nodes)
    except (Failure, BadRequest):
        return  # the bucket was created; only its warning is missing
    if nodes < wanted.pieces:
        what = "lack copies" if nodes >= wanted.quorum else "are refused"
        render.remark(
            f"{text} needs {wanted.pieces} data nodes, and there are {nodes}: until there are more, puts {what}"
        )


@app.command("ls", cls=LeanCommand)
def list_buckets(ctx: typer.Context, json: bool = options.JSON, endpoint: str = options.ENDPOINT) -> None:
    """List the buckets.

    Scheme, chunk size, compression, when they were created.
    """
    from flarectl import render
    from flarectl.client import Client

    with Client(options.endpoint_of(ctx, endpoint)) as client:
        buckets = client.buckets()
        if not json:
            return render.show_buckets(buckets)
        for bucket in buckets:
            render.say_json(render.bucket_record(bucket))


@app.command("set", cls=LeanCommand)
def change(
    ctx: typer.Context,
    name: str = KNOWN,
    public: bool = PUBLIC,
    public_list: bool = PUBLIC_LIST,
    private: bool = PRIVATE,
    owner: str = OWNER,
    versioning: str = VERSIONING,
    endpoint: str = options.ENDPOINT,
) -> None:
    """Change who may do what in a bucket, and whether it keeps versions.

    --public and --public-list add to each other; --private ends both. With --versioning on, what is overwritten or
    deleted is kept until it is removed by its number; suspended, what was kept stays.
    """
    from flarectl import render
    from flarectl.client import Client
    from flarectl.errors import Usage
    from flarectl.target import parse_bucket_argument

    bucket = parse_bucket_argument(name)
    if private and (public or public_list):
        raise Usage("--private contradicts --public and --public-list: give one or the other")
    changes: dict[str, object] = {"public": False, "acl": "private"} if private else {}
    changes |= {"public": True} if public else {}
    changes |= {"acl": "public-read"} if public_list else {}
    changes |= {"owner": "" if owner == "-" else owner} if owner else {}
    if versioning:
        if versioning not in STATES:
            raise Usage(f"--versioning is {' or '.join(STATES)}, not {versioning}")
        changes["versioning"] = STATES[versioning]
    if not changes:
        raise Usage("nothing to change: give --public, --public-list, --private, --owner or --versioning")
    with Client(options.endpoint_of(ctx, endpoint)) as client:
        client.change_bucket(bucket, changes)
        render.say(f"bucket {bucket} changed")


@app.command(cls=LeanCommand)
def rm(ctx: typer.Context, name: str = KNOWN, endpoint: str = options.ENDPOINT) -> None:
    """Remove an empty bucket."""
    from flarectl import render
    from flarectl.client import Client
    from flarectl.target import parse_bucket_argument

    bucket = parse_bucket_argument(name)
    with Client(options.endpoint_of(ctx, endpoint)) as client:
        client.remove_bucket(bucket)
        render.say(f"bucket {bucket} removed")
