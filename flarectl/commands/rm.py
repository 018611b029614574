"""flarectl rm"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING

import typer

from flarectl import options

if TYPE_CHECKING:
    from flarectl.source import RemoteObject

KEYS = typer.Argument(..., metavar="[BUCKET:]KEY...", show_default=False)
FORCE = typer.Option(False, "--force", "-f", help="Never ask, and take what is not there for removed.")
COUNTED_MAX = 1000


def rm(
    ctx: typer.Context,
    keys: list[str] = KEYS,
    recursive: bool = options.RECURSIVE,
    force: bool = FORCE,
    exclude: list[str] = options.EXCLUDE,
    dry_run: bool = options.DRY_RUN,
    json: bool = options.JSON,
    quiet: bool = options.QUIET,
    endpoint: str = options.ENDPOINT,
) -> int:
    """Remove objects.

    With -r a prefix or a whole bucket's content; this asks first, on a terminal.
    """
    from flarectl.client import Client
    from flarectl.many import on_each
    from flarectl.report import Report, Style
    from flarectl.source import find_objects
    from flarectl.target import Exclusion, parse_target

    targets = [parse_target(key) for key in keys]
    report = Report("removed", Style(json, quiet), dry_run=dry_run)
    with Client(options.endpoint_of(ctx, endpoint)) as client:

        def remove(remote: RemoteObject) -> None:
            if remote.entry is None and not force:
                client.head(remote.target)  # a delete of what is not there would succeed, and hide a wrong name
            if not dry_run:
                client.delete(remote.target)

        exclusion = Exclusion(tuple(exclude))
        found = find_objects(client, targets, recursive=recursive, exclude=exclusion, trouble=report.trouble)
        if recursive and not force and not dry_run and sys.stdin.isatty():
            found = _ask(found, ", ".join(map(str, targets)))
        return on_each(found, remove, report)


def _ask(found: Iterator[RemoteObject], named: str) -> Iterator[RemoteObject]:
    """The same objects, if a person wants them removed; raises Refusal if not."""
    from flarectl.errors import Refusal
    from flarectl.render import harmless, size_text

    first = list(islice(found, COUNTED_MAX + 1))
    if not first:
        return iter(())
    size = size_text(sum(remote.entry.size for remote in first if remote.entry))
    many = f"{len(first)} object{'s' * (len(first) > 1)}, {size}"
    if len(first) > COUNTED_MAX:
        many = f"more than {COUNTED_MAX:,} objects"
    if not typer.confirm(f"Remove {harmless(named)} ({many})?", err=True):
        raise Refusal("nothing was removed")
    return chain(first, found)
