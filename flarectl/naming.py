"""Where each source lands: the meaning of a trailing slash, for targets here and on the cluster."""

from __future__ import annotations

import os
from collections.abc import Callable

from flarectl.errors import Usage
from flarectl.local import Directory
from flarectl.source import Landing
from flarectl.target import Target, has_pattern


def are_many(sources: list[str]) -> bool:
    """Whether the sources may stand for more than one thing, so that they need a place to be put into."""
    return len(sources) > 1 or any(map(has_pattern, sources))


def name_remote(target: Target, *, many: bool) -> Callable[[Landing], Target]:
    """Into a target that ends in a slash or is a bucket; else under the target's very name. Raises Usage."""
    if target.is_place:
        return lambda landing: target.at(landing.within(target.key))
    if many:
        raise Usage(f"several sources need a target that ends in a slash, such as {target}/, or a bucket")
    return lambda landing: target.at(landing.instead_of(target.key))


def name_local(target: str, *, many: bool) -> tuple[Directory, Callable[[Landing], str]]:
    """The same on this machine, where a directory that exists needs no slash. Raises Usage."""
    if target.endswith("/") or os.path.isdir(target):
        return Directory(target), lambda landing: landing.within("")
    if many:
        raise Usage(f"several objects need a directory: {target} is none; write {target}/ to have it made")
    parent, name = os.path.split(target)
    return Directory(parent or "."), lambda landing: landing.instead_of(name)
