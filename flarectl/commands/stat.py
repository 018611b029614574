"""flarectl stat"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from flarectl import completing, options

if TYPE_CHECKING:
    from flarectl.client import Client
    from flarectl.target import Target

KEYS = typer.Argument(..., metavar="[BUCKET:]KEY...", show_default=False, autocompletion=completing.keys)
CHUNKS = typer.Option(False, "--chunks", help="Also each chunk: its digest, size, codec, scheme and nodes.")


def stat(
    ctx: typer.Context,
    keys: list[str] = KEYS,
    chunks: bool = CHUNKS,
    json: bool = options.JSON,
    endpoint: str = options.ENDPOINT,
) -> int:
    """Show everything about objects.

    Size, etag, version, time, type and metadata; with --chunks also where their bytes are.
    """
    from flarectl import render
    from flarectl.client import Client
    from flarectl.errors import Failure, Unreachable
    from flarectl.report import Report, Style
    from flarectl.source import find_objects
    from flarectl.target import Exclusion, parse_target

    report = Report("shown", Style(), summary=False)
    targets = [parse_target(key) for key in keys]
    with Client(options.endpoint_of(ctx, endpoint)) as client:
        for remote in find_objects(client, targets, recursive=False, exclude=Exclusion(), trouble=report.trouble):
            try:
                info = client.head_named(remote.target, f"flarectl ls {remote.target}/ lists it")
                if json:
                    render.say_json(render.object_record(remote.target, info))
                else:
                    render.show_object(remote.target, info)
                if chunks:
                    _show_chunks(client, remote.target, info.etag, json=json)
            except Unreachable:  # every other object would meet that too
                raise
            except Failure as failure:  # the other objects are shown all the same
                report.failed(str(remote.target), failure)
    return report.finish()


def _show_chunks(client: Client, target: Target, etag: str, *, json: bool) -> None:
    from flarectl import render

    number, offset = 0, 0
    after: int | None = 0
    while after is not None:
        page = client.chunk_page(target, after=after, etag=etag)
        for chunk in page.chunks:
            if json:
                render.say_json(render.chunk_record(target, number, offset, chunk))
            else:
                render.show_chunk(number, offset, chunk)
            number, offset = number + 1, offset + chunk.size
        after = page.next
