"""flarectl ls"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from flarectl import completing, options

if TYPE_CHECKING:
    from flarectl.answers import Listing
    from flarectl.client import Client
    from flarectl.target import Target

TARGETS = typer.Argument(None, metavar="[[BUCKET:]PREFIX]...", show_default=False, autocompletion=completing.keys)
LONG = typer.Option(False, "-l", "--long", help="Size and time of each object.")
HUMAN = typer.Option(False, "-h", "--human", help="With -l: sizes such as 1.5 MiB.")
RECURSIVE = typer.Option(False, "--recursive", "-r", help="Everything below, not only up to the next slash.")

VERSIONS = typer.Option(False, "--versions", help="All versions and delete markers, by number.")


def ls(
    ctx: typer.Context,
    targets: list[str] = TARGETS,
    long: bool = LONG,
    human: bool = HUMAN,
    recursive: bool = RECURSIVE,
    versions: bool = VERSIONS,
    json: bool = options.JSON,
    endpoint: str = options.ENDPOINT,
) -> None:
    """List objects.

    A name is listed itself, or what is below it; a pattern in quotes lists what matches. Without a name: the
    default bucket. flarectl bucket ls lists the buckets. With --versions also what was overwritten or deleted
    where the bucket keeps it.
    """
    from flarectl import render
    from flarectl.client import Client
    from flarectl.target import parse_target

    places = [parse_target(text) for text in targets or [""]]
    with Client(options.endpoint_of(ctx, endpoint)) as client:
        for place in places:
            if versions:
                _list_versions(client, place, recursive=recursive, long=long or human, human=human, json=json)
                continue
            for page in _pages(client, place, recursive=recursive):
                if json:
                    for entry in page.objects:
                        render.say_json(render.entry_record(place.bucket, entry))
                    for prefix in page.prefixes:
                        render.say_json({"bucket": place.bucket, "prefix": prefix})
                else:
                    render.show_entries(page.objects, page.prefixes, long=long or human, human=human)


def _list_versions(client: Client, place: Target, *, recursive: bool, long: bool, human: bool, json: bool) -> None:
    """Write all versions of a key, or of all keys that begin with it. Raise NotFound if there is none."""
    from flarectl import render
    from flarectl.errors import NotFound, Usage
    from flarectl.target import has_pattern

    if has_pattern(place.key):
        raise Usage("--versions takes keys and prefixes, not patterns")
    empty = True
    for page in client.version_pages(place, delimiter="" if recursive else "/"):
        empty = empty and not page.versions and not page.prefixes
        if not json:
            render.show_versions(page.versions, page.prefixes, long=long, human=human)
            continue
        for entry in page.versions:
            render.say_json(render.version_record(place.bucket, entry))
        for prefix in page.prefixes:
            render.say_json({"bucket": place.bucket, "prefix": prefix})
    if empty and place.key:
        raise NotFound(f"{place}: nothing is stored under this name, in no version")


def _pages(client: Client, place: Target, *, recursive: bool) -> Iterator[Listing]:
    """Yield the listing of a name. Raise NotFound if nothing has this name."""
    from flarectl.errors import NotFound
    from flarectl.target import has_pattern

    delimiter = "" if recursive else "/"
    if has_pattern(place.key):
        from flarectl.source import match_keys

        pages: Iterator[Listing] = match_keys(client, place, recursive=recursive)
    elif place.is_place:
        pages = client.list_pages(place, delimiter=delimiter)
    else:
        pages = _named_or_below(client, place, delimiter)
    empty = True
    for page in pages:
        empty = empty and not page.objects and not page.prefixes
        yield page
    if empty and place.key:
        raise NotFound(f"{place}: nothing is stored under this name")


def _named_or_below(client: Client, place: Target, delimiter: str) -> Iterator[Listing]:
    from flarectl.answers import Listing

    # A key sorts first among all keys that begin with it.
    first = client.list_page(place, limit=1).objects
    if first and first[0].key == place.key:
        yield Listing(first, (), "")
    yield from client.list_pages(place.at(place.key + "/"), delimiter=delimiter)
