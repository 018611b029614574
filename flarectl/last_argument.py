"""The last argument of put and get: a target, or one more source? If it could be either, it is refused with both ways.

``put a.txt b.txt`` with a local b.txt would store a's bytes under the key b.txt, and ``get a.txt b.txt`` with an object
b.txt would write a's bytes over the local b.txt. An argument is the target without a question only if it cannot be a
source: for put a bucket or a slash at the end, for get a path that begins with / or . or ends in a slash.
"""

from __future__ import annotations

import glob
import os
import shlex
from itertools import chain
from typing import TYPE_CHECKING

from flarectl.errors import NoBucket, Usage
from flarectl.source import match_keys
from flarectl.target import base_name, has_pattern, parse_target

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flarectl.client import Client

SHOWN_MAX = 3
"""How many sources a suggested command repeats; an ellipsis stands for the others."""
PATHS = ("/", "./", "../", "~")


def check_put_target(sources: Sequence[str], last: str, *, recursive: bool) -> None:
    """Raise Usage if ``last`` names something on this machine, so that it may be meant as a source."""
    if ":" in last or last.endswith("/") or not _is_here(last):
        return
    words = ["put", *(["-r"] if recursive else [])]
    everything = _command_line(words, [*sources, last], ":"), "all of them into the default bucket"
    below = _command_line(words, sources, f"{last}/"), f"into the prefix {last}/ of the default bucket"
    renamed = _command_line(words, sources, f"default:{last}"), f"{sources[0]} under the name {last}"
    if not os.path.isdir(last):
        ways, what = (everything, renamed if len(sources) == 1 else below), "file"
    else:
        ways, what = (everything if recursive else renamed, below), "directory"
    raise Usage(
        f"{last} is a {what} on this machine: is it one more source, or the target? Nothing was put",
        hints=_aligned(*ways),
    )


def check_get_target(client: Client, sources: Sequence[str], last: str, *, recursive: bool) -> None:
    """Raise Usage if ``last`` names something on the cluster, so that it may be meant as a source."""
    if last in ("-", ".", "..") or last.endswith("/") or last.startswith(PATHS):
        return
    what = _describe_remote(client, last, recursive=recursive)
    if not what:
        return
    words = ["get", *(["-r"] if recursive else [])]
    place = f"./{last}"
    if len(sources) > 1 or os.path.isdir(last):
        named = _command_line(words, sources, f"{place}/"), f"into the directory {last}"
    else:
        named = _command_line(words, sources, place), f"{sources[0]} as the local file {base_name(last)}"
    raise Usage(
        f"{last} is {what}: is it one more source, or the target? Nothing was fetched",
        hints=_aligned((_command_line(words, [*sources, last], "."), "all of them into the current directory"), named),
    )


def _is_here(text: str) -> bool:
    return os.path.lexists(text) or (has_pattern(text) and bool(glob.glob(text)))


def _describe_remote(client: Client, text: str, *, recursive: bool) -> str:
    """Describe what ``text`` names on the cluster; return an empty text if it names nothing."""
    try:
        target = parse_target(text)
    except Usage:  # a colon where no bucket can be: a file's name
        return ""
    try:
        first = client.list_page(target, limit=1).objects
        if ":" in text:
            return f"a name in the bucket {target.bucket}"
        if first and first[0].key == target.key:
            return "an object in the default bucket"
        if has_pattern(text) and any(chain.from_iterable(match_keys(client, target, recursive=False))):
            return "a pattern that matches objects"
        below = recursive and not os.path.isdir(text)
        if below and client.list_page(target.at(f"{target.key}/"), limit=1).objects:
            return "a prefix in the default bucket"
    except NoBucket:
        return ""
    return ""


def _command_line(words: Sequence[str], sources: Sequence[str], target: str) -> str:
    """Return a command line to type. Of many sources it shows only the last, if the ways differ in it."""
    quoted = [shlex.quote(source) for source in sources]
    if len(quoted) > SHOWN_MAX:
        quoted = [quoted[0], "...", quoted[-1]]
    return " ".join(["flarectl", *words, *quoted, shlex.quote(target)])


def _aligned(*ways: tuple[str, str]) -> list[str]:
    width = max(len(command) for command, _ in ways)
    return [f"{command:<{width}}   {meaning}" for command, meaning in ways]
