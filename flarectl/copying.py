"""Copies and moves within the cluster."""

from __future__ import annotations

from dataclasses import dataclass

from flarectl.client import Client
from flarectl.errors import Existing, Exists, ExitCode, NotFound, Refusal, Usage
from flarectl.many import on_each
from flarectl.naming import are_many, name_remote
from flarectl.report import Report
from flarectl.source import RemoteObject, find_objects
from flarectl.target import Exclusion, Target, parse_target


@dataclass(frozen=True, slots=True)
class CopyOptions:
    recursive: bool = False
    exclude: tuple[str, ...] = ()
    if_not_exists: bool = False
    dry_run: bool = False
    move: bool = False


def copy_all(client: Client, sources: list[str], target: str, options: CopyOptions, report: Report) -> ExitCode:
    """Copy or move each object that ``sources`` name to ``target``."""
    place = parse_target(target)
    froms = [parse_target(source) for source in sources]
    name = name_remote(place, many=are_many(sources))
    for source in froms:
        _check_not_inside(source, place, options)

    def copy(remote: RemoteObject) -> None:
        copy_one(client, remote.target, name(remote.landing), options)

    exclusion = Exclusion(options.exclude)
    found = find_objects(client, froms, recursive=options.recursive, exclude=exclusion, trouble=report.trouble)
    return on_each(client, found, copy, report)


def copy_one(client: Client, source: Target, target: Target, options: CopyOptions) -> None:
    """Copy one object; a move then removes the source, unless it has changed since the copy."""
    if source == target:
        raise Refusal(f"{source}: source and target are the same object")
    target.object_key()
    if options.dry_run:
        client.head_named(source, "use -r")
        return
    try:
        result = client.copy(source, target, if_not_exists=options.if_not_exists)
    except NotFound as failure:
        raise client.explain_missing(source, failure, "use -r") from None
    except Exists:
        if not options.if_not_exists:
            raise
        raise Existing(str(target)) from None
    if options.move:
        try:
            client.delete(source, if_match=result.etag)
        except Exists:
            raise Exists(f"{source}: copied, but not removed: another client has changed it since") from None


def _check_not_inside(source: Target, place: Target, options: CopyOptions) -> None:
    """Raise Usage for a prefix that is copied into itself: it would find its own copies for ever."""
    prefix = source.key if source.is_place else f"{source.key}/"
    if options.recursive and source.bucket == place.bucket and f"{place.key}/".startswith(prefix):
        raise Usage(f"{source} cannot be put into itself, as {place}")
