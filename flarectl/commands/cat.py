"""flarectl cat"""

from __future__ import annotations

import typer

from flarectl import completing, options

KEYS = typer.Argument(..., metavar="[BUCKET:]KEY...", show_default=False, autocompletion=completing.keys)


def cat(
    ctx: typer.Context,
    keys: list[str] = KEYS,
    parallel: int = options.PARALLEL,
    retry_for: str = options.RETRY_FOR,
    quiet: bool = options.QUIET,
    endpoint: str = options.ENDPOINT,
) -> int:
    """Write objects to standard output, verified.

    Objects follow one another; several chunks of each are fetched at once.
    """
    from flarectl.bodies import Bodies
    from flarectl.client import Client
    from flarectl.report import Report, Style
    from flarectl.source import find_objects
    from flarectl.target import Exclusion, parse_target
    from flarectl.transfer import Options, cat_all

    report = Report("read", Style(quiet=quiet), summary=False)
    url = options.endpoint_of(ctx, endpoint)
    targets = [parse_target(key) for key in keys]
    retries = options.retries_of(retry_for, report.bars.note)
    with Client(url, retries) as client:
        objects = find_objects(client, targets, recursive=False, exclude=Exclusion(), trouble=report.trouble)
        return cat_all(Bodies(url, parallel, retries), objects, Options(parallel), report)
