"""flarectl rm"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING

import typer

from flarectl import completing, options

if TYPE_CHECKING:
    from flarectl.client import Client
    from flarectl.source import RemoteObject
    from flarectl.target import Target

KEYS = typer.Argument(..., metavar="[BUCKET:]KEY...", show_default=False, autocompletion=completing.keys)
FORCE = typer.Option(False, "--force", "-f", help="Do not ask for a prefix; ignore objects that do not exist.")
YES = typer.Option(False, "--yes", "-y", help="Do not ask, not even for a whole bucket.")
COUNTED_MAX = 1000


def rm(
    ctx: typer.Context,
    keys: list[str] = KEYS,
    recursive: bool = options.RECURSIVE,
    version: int = options.VERSION,
    force: bool = FORCE,
    yes: bool = YES,
    exclude: list[str] = options.EXCLUDE,
    retry_for: str = options.RETRY_FOR,
    dry_run: bool = options.DRY_RUN,
    json: bool = options.JSON,
    quiet: bool = options.QUIET,
    endpoint: str = options.ENDPOINT,
) -> int:
    """Remove objects.

    With -r a prefix or a whole bucket's content; this asks first, on a terminal. Elsewhere a whole bucket needs --yes.
    With --version that version for good; of a delete marker, which brings back what was deleted.
    """
    from flarectl.client import Client
    from flarectl.many import on_each
    from flarectl.report import Report, Style
    from flarectl.source import find_objects
    from flarectl.target import Exclusion, one_version, parse_target

    targets = [parse_target(key) for key in keys]
    if version:
        targets = [one_version(targets, version, recursive=recursive)]
    report = Report("removed", Style(json, quiet), dry_run=dry_run)
    retries = options.retries_of(retry_for, report.bars.note)
    with Client(options.endpoint_of(ctx, endpoint), retries) as client:

        def remove(remote: RemoteObject) -> None:
            if remote.target.version and not force:
                _check_version(client, remote.target)
            elif remote.entry is None and not force:
                client.head_named(
                    remote.target, "use -r"
                )  # a delete succeeds for an object that does not exist, which would hide a mistyped name
            if not dry_run:
                client.delete(remote.target)

        exclusion = Exclusion(tuple(exclude))
        found = find_objects(client, targets, recursive=recursive, exclude=exclusion, trouble=report.trouble)
        wholes = [target for target in targets if recursive and target.is_whole_bucket]
        if recursive and not yes and not dry_run and (wholes or not force):
            found = _confirm(found, targets, wholes)
        return on_each(client, found, remove, report)


def _check_version(client: Client, target: Target) -> None:
    """Raise NotFound if the object has no such version. A delete marker, too, is one."""
    from flarectl.errors import NotFound

    for page in client.version_pages(target):
        if any((found.key, found.version) == (target.key, target.version) for found in page.versions):
            return
        if any(found.key != target.key for found in page.versions):
            break  # a key comes before all that begin with it
    raise NotFound(f"{target}: it has no version {target.version}; flarectl ls --versions lists them")


def _confirm(found: Iterator[RemoteObject], targets: list[Target], wholes: list[Target]) -> Iterator[RemoteObject]:
    """Ask on a terminal; elsewhere, raise Usage for a whole bucket."""
    from flarectl.errors import Usage

    if sys.stdin.isatty():
        return _ask(found, ", ".join(map(_name, targets)))
    if wholes:
        raise Usage(
            f"{wholes[0]} is a whole bucket, and there is no terminal to confirm it on; nothing was removed",
            hints=[f"to remove all of it: flarectl rm -r --yes {shlex.quote(str(wholes[0]))}"],
        )
    return found


def _name(target: Target) -> str:
    return f"everything in the bucket {target.bucket}" if target.is_whole_bucket else str(target)


def _ask(found: Iterator[RemoteObject], named: str) -> Iterator[RemoteObject]:
    """Ask, and return the same objects if the answer is yes. Raise Refusal otherwise."""
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
