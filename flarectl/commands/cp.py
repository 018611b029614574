"""flarectl cp"""

from __future__ import annotations

import typer

from flarectl import completing, options

SOURCES = typer.Argument(..., metavar="SOURCE...", show_default=False, autocompletion=completing.keys)
TARGET = typer.Argument(..., metavar="TARGET", show_default=False, autocompletion=completing.keys)


def cp(
    ctx: typer.Context,
    sources: list[str] = SOURCES,
    target: str = TARGET,
    recursive: bool = options.RECURSIVE,
    exclude: list[str] = options.EXCLUDE,
    if_not_exists: bool = options.IF_NOT_EXISTS,
    retry_for: str = options.RETRY_FOR,
    dry_run: bool = options.DRY_RUN,
    json: bool = options.JSON,
    quiet: bool = options.QUIET,
    endpoint: str = options.ENDPOINT,
) -> int:
    """Copy objects within the cluster; no bytes travel.

    SOURCE and TARGET are [BUCKET:]KEY; slashes at their ends mean what they mean to put.
    """
    from flarectl.client import Client
    from flarectl.copying import CopyOptions, copy_all
    from flarectl.report import Report, Style

    report = Report("copied", Style(json, quiet), dry_run=dry_run)
    copy_options = CopyOptions(recursive, tuple(exclude), if_not_exists, dry_run)
    retries = options.retries_of(retry_for, report.bars.note)
    with Client(options.endpoint_of(ctx, endpoint), retries) as client:
        return copy_all(client, sources, target, copy_options, report)
