"""The files and objects that a command's arguments name, and the name that each gets at the target."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from flarectl.answers import Entry, Listing
from flarectl.client import Client
from flarectl.errors import Failure, NoBucket, NotFound, Refusal, Usage, from_os
from flarectl.target import Exclusion, Target, base_name, has_pattern

Trouble = Callable[[str, Failure | str], None]
"""Called with each name that cannot be used, and a Failure or the reason why it is skipped."""

STDIN = "-"


@dataclass(frozen=True, slots=True)
class Landing:
    """The name of a source at the target: ``name``, and ``rest`` for a file found below a directory.

    ``name`` is empty if only the content of the directory was asked for.
    """

    name: str
    rest: str | None = None

    def within(self, place: str) -> str:
        """Return the name inside ``place``, which is empty or ends in a slash."""
        if self.rest is None:
            return place + self.name
        return f"{place}{self.name}/{self.rest}" if self.name else place + self.rest

    def instead_of(self, place: str) -> str:
        """Return the name when ``place`` is the source's new name: a directory's content goes below it."""
        return place if self.rest is None else f"{place}/{self.rest}"


@dataclass(frozen=True, slots=True)
class LocalFile:
    path: str
    landing: Landing


@dataclass(frozen=True, slots=True)
class RemoteObject:
    """An object that a source names. ``entry`` comes from a listing; None for a key that was not looked up."""

    target: Target
    landing: Landing
    entry: Entry | None = None


def find_files(sources: list[str], *, recursive: bool, exclude: Exclusion, trouble: Trouble) -> Iterator[LocalFile]:
    """Yield the files that ``sources`` name: paths, patterns, ``-``, and with ``recursive`` directories."""
    for source in sources:
        if source == STDIN:
            yield LocalFile(source, Landing(""))
            continue
        for path in _expand_paths(source):
            try:
                yield from _find_below(path, recursive=recursive, exclude=exclude, trouble=trouble)
            except Failure as failure:
                trouble(path, failure)


def count_files(sources: list[str], *, recursive: bool, exclude: Exclusion) -> Iterator[int | None]:
    """Yield the size of each file that ``find_files`` finds, None if it is unknown."""
    for file in find_files(sources, recursive=recursive, exclude=exclude, trouble=_ignore):
        try:
            yield None if file.path == STDIN else os.stat(file.path).st_size
        except OSError:
            yield None


def _ignore(name: str, what: Failure | str) -> None:
    """Ignore the problem: the transfer of the file reports it."""


def _expand_paths(source: str) -> list[str]:
    if os.path.lexists(source) or not has_pattern(source):
        return [source]
    return sorted(glob.glob(source, recursive=True)) or [source]


def _find_below(path: str, *, recursive: bool, exclude: Exclusion, trouble: Trouble) -> Iterator[LocalFile]:
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise _failure(error, path) from None
    name = base_name(path)
    if not stat.S_ISDIR(mode):
        if path.endswith("/"):
            raise Refusal(f"{path}: not a directory")
        if name not in exclude:
            _check_regular(path, mode)
            yield LocalFile(path, Landing(name))
        return
    if not recursive:
        raise Usage(f"{path}: is a directory; use -r")
    top = "" if path.endswith("/") or name in (".", "..") else name
    for found, relative in _walk(path, "", exclude, trouble):
        yield LocalFile(found, Landing(top, relative))


def _walk(directory: str, below: str, exclude: Exclusion, trouble: Trouble) -> Iterator[tuple[str, str]]:
    """Yield the regular files of a tree with their relative paths, in the order of their names."""
    try:
        with os.scandir(directory) as entries:
            children = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        trouble(directory, from_os(error, directory))
        return
    # A name that cannot be read is reported, and the walk goes on: one bad file must not keep the others from a put.
    for child in children:
        relative = below + child.name
        if relative in exclude:
            continue
        try:
            if child.is_symlink() and not os.path.exists(child.path):
                trouble(child.path, _broken_link(child.path))
            elif child.is_dir(follow_symlinks=False):
                yield from _walk(child.path, relative + "/", exclude, trouble)
            elif child.is_dir():
                trouble(child.path, "it is a symbolic link to a directory")
            else:
                _check_regular(child.path, child.stat().st_mode)
                yield child.path, relative
        except OSError as error:
            trouble(child.path, _failure(error, child.path))
        except Refusal as failure:
            trouble(child.path, str(failure).rpartition(": ")[2])


def _failure(error: OSError, path: str) -> Failure:
    """Return why a file cannot be read; for a broken link, that it is one."""
    if isinstance(error, FileNotFoundError) and os.path.islink(path):
        return NotFound(f"{path}: {_broken_link(path)}")
    return from_os(error, path)


def _broken_link(path: str) -> str:
    return f"it is a symbolic link to {os.readlink(path)}, which does not exist"


def _check_regular(path: str, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise Refusal(f"{path}: it is not a regular file")


def find_objects(
    client: Client, sources: list[Target], *, recursive: bool, exclude: Exclusion, trouble: Trouble
) -> Iterator[RemoteObject]:
    """Yield the objects that ``sources`` name: keys, patterns, and with ``recursive`` prefixes.

    A plain key is not looked up: the command that uses it finds out whether it exists.
    """
    for source in sources:
        try:
            for found in _find_source(client, source, recursive=recursive, trouble=trouble):
                if not _is_excluded(found, exclude):
                    yield found
        except (NoBucket, NotFound, Usage) as failure:
            trouble(str(source), failure)


def count_objects(
    client: Client, sources: list[Target], *, recursive: bool, exclude: Exclusion
) -> Iterator[int | None]:
    """Yield the size of each object that ``find_objects`` finds, None if it is unknown."""
    for found in find_objects(client, sources, recursive=recursive, exclude=exclude, trouble=_ignore):
        yield found.entry.size if found.entry else None


def _is_excluded(found: RemoteObject, exclude: Exclusion) -> bool:
    rest = found.landing.rest
    return (found.landing.name if rest is None else rest) in exclude


def _find_source(client: Client, source: Target, *, recursive: bool, trouble: Trouble) -> Iterator[RemoteObject]:
    if has_pattern(source.key):
        yield from _match(client, source, recursive=recursive, trouble=trouble)
    elif source.is_place:
        if not recursive:
            what = "a prefix" if source.key else "a whole bucket"
            raise Usage(f"{source} is {what}, not one object; get, cp, mv and rm take all of it with -r")
        yield from _some(_below(client, source, ""), source)
    elif recursive:
        yield from _some(_named_or_below(client, source), source)
    else:
        yield RemoteObject(source, Landing(base_name(source.key)))


def _named_or_below(client: Client, source: Target) -> Iterator[RemoteObject]:
    """Yield the object with this key, and all below ``key/``, as ``rm -r NAME`` takes a file or a directory."""
    yield from _exactly(client, source)
    yield from _below(client, source.at(source.key + "/"), base_name(source.key))


def _exactly(client: Client, source: Target) -> Iterator[RemoteObject]:
    # A key sorts first among all keys that begin with it.
    for entry in client.list_page(source, limit=1).objects:
        if entry.key == source.key:
            yield RemoteObject(source, Landing(base_name(source.key)), entry)


def _below(client: Client, prefix: Target, name: str) -> Iterator[RemoteObject]:
    for entry in client.list_objects(prefix):
        yield RemoteObject(prefix.at(entry.key), Landing(name, entry.key[len(prefix.key) :]), entry)


def _some(found: Iterator[RemoteObject], source: Target) -> Iterator[RemoteObject]:
    """Yield ``found``. Raise NotFound if it is empty."""
    first = next(found, None)
    if first is None:
        if not source.key:
            return
        raise NotFound(f"{source}: nothing is stored under this name")
    yield first
    yield from found


def _match(client: Client, pattern: Target, *, recursive: bool, trouble: Trouble) -> Iterator[RemoteObject]:
    """Yield the objects that match the pattern, part by part as in a shell; a prefix counts as a directory."""
    nothing = True
    for found in _exactly(client, pattern):  # a key may contain wildcard characters
        nothing = False
        yield found
    for match in _match_parts(client, pattern.at(""), pattern.key.rstrip("/").split("/")):
        if isinstance(match, Target):
            if recursive:
                nothing = False
                yield from _below(client, match, base_name(match.key))
            else:
                trouble(str(match), "it is a prefix; -r would take what is below it")
        elif match.key != pattern.key and not pattern.key.endswith("/"):
            nothing = False
            yield RemoteObject(pattern.at(match.key), Landing(base_name(match.key)), match)
    if nothing:
        raise NotFound(f"{pattern}: no object matches")


def match_keys(client: Client, pattern: Target, *, recursive: bool) -> Iterator[Listing]:
    """Yield the matches of the pattern as pages of a listing; with ``recursive`` also all below matching prefixes."""
    for match in _match_parts(client, pattern.at(""), pattern.key.rstrip("/").split("/")):
        if isinstance(match, Entry):
            yield Listing((match,), (), "")
        elif recursive:
            yield from client.list_pages(match)
        else:
            yield Listing((), (match.key,), "")


def _match_parts(client: Client, base: Target, parts: list[str]) -> Iterator[Entry | Target]:
    """Yield objects (Entry) and common prefixes (Target) whose parts match ``parts`` below ``base``."""
    literal = 0
    while literal < len(parts) - 1 and not has_pattern(parts[literal]):
        literal += 1
    base = base.at(base.key + "".join(part + "/" for part in parts[:literal]))
    wanted, rest = parts[literal], parts[literal + 1 :]
    for page in client.list_pages(base.at(base.key + _literal_start(wanted)), delimiter="/"):
        if not rest:
            yield from (entry for entry in page.objects if fnmatchcase(entry.key[len(base.key) :], wanted))
        for prefix in page.prefixes:
            if fnmatchcase(prefix[len(base.key) : -1], wanted):
                if rest:
                    yield from _match_parts(client, base.at(prefix), rest)
                else:
                    yield base.at(prefix)


def _literal_start(pattern: str) -> str:
    """Return the text that every match of the pattern begins with."""
    return pattern[: next((at for at, sign in enumerate(pattern) if sign in "*?["), len(pattern))]
