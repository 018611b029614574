"""The name of each copy: what a trailing slash means, for targets here and on the cluster."""

from __future__ import annotations

import os
from collections.abc import Callable

from flarectl.errors import Usage
from flarectl.local import Directory
from flarectl.source import Landing
from flarectl.target import Target, has_pattern


def are_many(sources: list[str]) -> bool:
    """Return whether the sources may name more than one thing, so that the target must be a bucket or directory."""
    return len(sources) > 1 or any(map(has_pattern, sources))


def name_remote(target: Target, *, many: bool) -> Callable[[Landing], Target]:
    """Return how to name a copy: inside a target that ends in a slash or is a bucket, else as the target itself.

    Raise Usage if ``many`` sources would get one name.
    """
    if target.is_place:
        return lambda landing: target.at(landing.within(target.key))
    if many:
        raise Usage(f"several sources need a target that ends in a slash, such as {target}/, or a bucket")
    return lambda landing: target.at(landing.instead_of(target.key))


def name_local(target: str, *, many: bool) -> tuple[Directory, Callable[[Landing], str]]:
    """As ``name_remote`` for this machine, where an existing directory needs no slash. Raise Usage likewise."""
    if target.endswith("/") or os.path.isdir(target):
        return Directory(target), lambda landing: landing.within("")
    if many:
        raise Usage(f"several objects need a directory: {target} is not one; write {target}/ to create it")
    parent, name = os.path.split(target)
    return Directory(parent or "."), lambda landing: landing.instead_of(name)
