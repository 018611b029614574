"""flarectl get"""

from __future__ import annotations

import typer

from flarectl import completing, options

ARGUMENTS = typer.Argument(..., metavar="SOURCE... [TARGET]", show_default=False, autocompletion=completing.get_words)


def get(
    ctx: typer.Context,
    arguments: list[str] = ARGUMENTS,
    recursive: bool = options.RECURSIVE,
    version: int = options.VERSION,
    exclude: list[str] = options.EXCLUDE,
    if_not_exists: bool = options.IF_NOT_EXISTS,
    parallel: int = options.PARALLEL,
    retry_for: str = options.RETRY_FOR,
    dry_run: bool = options.DRY_RUN,
    json: bool = options.JSON,
    quiet: bool = options.QUIET,
    endpoint: str = options.ENDPOINT,
) -> int:
    """Fetch objects into files, verified.

    SOURCE is [BUCKET:]KEY, a pattern in quotes, or with -r a prefix or bucket; TARGET is a file or directory,
    or - for standard output; without it: the current directory. A prefix that ends in a slash means what is
    below it. A file appears whole or not at all, and never outside of TARGET. A last argument that is a key is
    refused, because it may be meant as a SOURCE: get a.txt b.txt . fetches both, get a.txt ./b.txt one.
    """
    from flarectl.bodies import Bodies
    from flarectl.client import Client
    from flarectl.last_argument import check_get_target
    from flarectl.naming import are_many, name_local
    from flarectl.report import Report, Style
    from flarectl.source import count_objects, find_objects
    from flarectl.target import Exclusion, one_version, parse_target
    from flarectl.transfer import Options, cat_all, get_all

    # A target of "-" is standard output: cat does that, in order, and without files.
    sources = arguments[:-1] or arguments
    target = arguments[-1] if len(arguments) > 1 else "."
    wanted = Options(parallel, if_not_exists, dry_run)
    url = options.endpoint_of(ctx, endpoint)
    to_output = target == "-"
    report = Report("got", Style(json and not to_output, quiet), dry_run=dry_run)
    places = [parse_target(source) for source in sources]
    if version:
        places = [one_version(places, version, recursive=recursive)]
    exclusion = Exclusion(tuple(exclude))
    retries = options.retries_of(retry_for, report.bars.note)
    bodies = Bodies(url, parallel, retries)
    with Client(url, retries) as client:
        if len(arguments) > 1:
            check_get_target(client, sources, target, recursive=recursive)
        directory, name = name_local("." if to_output else target, many=are_many(sources))
        objects = find_objects(client, places, recursive=recursive, exclude=exclusion, trouble=report.trouble)
        if to_output:
            return cat_all(bodies, objects, wanted, report)
        if recursive or are_many(sources):
            report.bars.count_with(lambda: count_objects(client, places, recursive=recursive, exclude=exclusion))
        return get_all(bodies, objects, directory, lambda remote: name(remote.landing), wanted, report)
