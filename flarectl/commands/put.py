"""flarectl put"""

from __future__ import annotations

import typer

from flarectl import completing, options

ARGUMENTS = typer.Argument(..., metavar="SOURCE... [TARGET]", show_default=False, autocompletion=completing.put_words)


def put(
    ctx: typer.Context,
    arguments: list[str] = ARGUMENTS,
    recursive: bool = options.RECURSIVE,
    exclude: list[str] = options.EXCLUDE,
    if_not_exists: bool = options.IF_NOT_EXISTS,
    parallel: int = options.PARALLEL,
    retry_for: str = options.RETRY_FOR,
    dry_run: bool = options.DRY_RUN,
    json: bool = options.JSON,
    quiet: bool = options.QUIET,
    endpoint: str = options.ENDPOINT,
) -> int:
    """Store files as objects.

    SOURCE is a file, a pattern, - for standard input, or with -r a directory; TARGET is [BUCKET:]KEY.
    Files go into a TARGET that ends in a slash or is a bucket (backup:); any other TARGET is the object's name.
    A directory that ends in a slash means its content. Without a TARGET: into the default bucket. A last
    argument that is a file here is refused, because it may be meant as a SOURCE: put *.txt : stores them all.
    """
    from flarectl.bodies import Bodies
    from flarectl.errors import Usage
    from flarectl.last_argument import check_put_target
    from flarectl.naming import are_many, name_remote
    from flarectl.report import Report, Style
    from flarectl.source import STDIN, count_files, find_files
    from flarectl.target import Exclusion, Target, parse_target
    from flarectl.transfer import Options, put_all
    from flared.names import DEFAULT_BUCKET

    sources = arguments[:-1] or arguments
    target = Target(DEFAULT_BUCKET, "")
    if len(arguments) > 1:
        check_put_target(sources, arguments[-1], recursive=recursive)
        target = parse_target(arguments[-1])
    if STDIN in sources and target.is_place:
        raise Usage("standard input needs a name to be stored under: end with [BUCKET:]KEY")
    # Everything on the command line is checked by now: no file is opened before.
    name = name_remote(target, many=are_many(sources))
    report = Report("put", Style(json, quiet), dry_run=dry_run)
    files = find_files(sources, recursive=recursive, exclude=Exclusion(tuple(exclude)), trouble=report.trouble)
    retries = options.retries_of(retry_for, report.bars.note)
    wanted = Options(parallel, if_not_exists, dry_run)
    url = options.endpoint_of(ctx, endpoint)
    # The bars show a share only if the total is known, so many files are counted in a second walk beside the first.
    if recursive or are_many(sources):
        report.bars.count_with(lambda: count_files(sources, recursive=recursive, exclude=Exclusion(tuple(exclude))))
    return put_all(Bodies(url, parallel, retries), files, lambda file: name(file.landing), wanted, report)
