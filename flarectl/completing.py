"""Completion in a shell: buckets, keys, nodes, settings, and files where an argument is a file.

The shell's script (``flarectl completion SHELL``) passes the line up to the cursor in COMP_WORDS. The answer is one
word a line, and comes soon or not at all; after any error nothing is written.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from typing import TYPE_CHECKING, Protocol

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flarectl.client import Client
    from flarectl.target import Target

LIMIT_SECONDS = 1.5
"""A person waits for the answer to Tab; a later one is dropped."""
OFFERED_MAX = 1000
_SPECIAL = re.compile(r"([^\w@%+=:,./~-])")


class Item(Protocol):
    """One completion that typer or click offers."""

    value: str
    type: str
    help: str | None


class Finder(Protocol):
    def get_completions(self, args: list[str], incomplete: str) -> list[Item]: ...


SCRIPTS = {
    "bash": r"""_flarectl_completion() {
    mapfile -t COMPREPLY < <(COMP_WORDS="${COMP_LINE:0:COMP_POINT}" FLARECTL_WORDBREAKS="$COMP_WORDBREAKS" \
        _FLARECTL_COMPLETE=complete_bash "$1" 2>/dev/null)
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[/:] ]]; then compopt -o nospace; fi
}
complete -F _flarectl_completion flarectl""",
    "zsh": r"""#compdef flarectl
_flarectl_completion() {
    local -a found
    found=("${(@f)$(COMP_WORDS="${words[1,$CURRENT]}" _FLARECTL_COMPLETE=complete_zsh $words[1] 2>/dev/null)}")
    compadd -S '' -- ${(M)found:#*[/:]}
    compadd -- ${found:#*[/:]}
}
if [[ $funcstack[1] == _flarectl ]]; then _flarectl_completion "$@"; else compdef _flarectl_completion flarectl; fi""",
    "fish": r"""complete --command flarectl --no-files --arguments """
    r"""'(env COMP_WORDS=(commandline -cp) _FLARECTL_COMPLETE=complete_fish flarectl 2>/dev/null)'""",
}


def answer(app: typer.Typer, shell: str) -> None:
    """Write the completions of the line in COMP_WORDS, for ``complete_bash``, ``complete_zsh`` or ``complete_fish``."""
    _limit_time()
    line = os.environ.get("COMP_WORDS", "")
    words = _split(line)
    unfinished = words.pop() if words and not line[-1:].isspace() else ""
    try:
        found = list(_offer(app, words[1:], unfinished))
    except (Exception, SystemExit):  # an endpoint that is down, a broken settings file: offer nothing
        return
    raw = line[len(line.rstrip()) :] or line.split()[-1] if line.split() else ""
    for value, help_text in found[:OFFERED_MAX]:
        if value.isprintable():
            print(_for_shell(shell, value, help_text, unfinished, quoted=raw[:1] in ("'", '"')))
    sys.stdout.flush()


def _limit_time() -> None:
    import threading

    timer = threading.Timer(LIMIT_SECONDS, os._exit, (0,))
    timer.daemon = True
    timer.start()


def _split(line: str) -> list[str]:
    """Return the words of a shell's line; the last may be unfinished."""
    lexer = shlex.shlex(line, posix=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    words: list[str] = []
    try:
        words.extend(lexer)
    except ValueError:  # a quote that is still open
        words.append(lexer.token)
    return words


def _offer(app: typer.Typer, words: list[str], unfinished: str) -> Iterator[tuple[str, str]]:
    from importlib import import_module

    try:
        module = import_module("typer._click.shell_completion")
    except ImportError:  # older versions of typer use click
        module = import_module("click.shell_completion")
    # We read and write the shells' formats ourselves; the class only finds the parameter that a word belongs to.
    unused = dict.fromkeys(("format_completion", "get_completion_args", "source_vars"))
    finder: Finder = type("Finder", (module.ShellComplete,), unused)(typer.main.get_command(app), {}, "flarectl", "")
    for item in finder.get_completions(words, unfinished):
        if item.type == "plain":
            yield item.value, item.help or ""


def _for_shell(shell: str, value: str, help_text: str, unfinished: str, *, quoted: bool) -> str:
    if shell == "complete_fish":
        return f"{value}\t{help_text.splitlines()[0]}" if help_text else value
    if shell != "complete_bash" or quoted:
        return value
    if ":" in os.environ.get("FLARECTL_WORDBREAKS", ""):
        # Bash replaces only the text after the last colon.
        value = value[unfinished.rfind(":") + 1 :]
    return _SPECIAL.sub(r"\\\1", value)


def keys(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete objects and prefixes up to the next slash, and buckets."""
    return _ask(ctx, lambda client: _keys(client, incomplete))


def put_words(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete files; after the first one also targets."""
    found = local_paths(ctx, incomplete)
    return [*found, *keys(ctx, incomplete)] if _given(ctx) or ":" in incomplete else found


def get_words(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete objects; after the first one also directories."""
    found = keys(ctx, incomplete)
    return [*found, *(path for path in local_paths(ctx, incomplete) if path.endswith("/"))] if _given(ctx) else found


def buckets(ctx: typer.Context, incomplete: str) -> list[str]:
    return _ask(ctx, lambda client: [bucket.name for bucket in client.buckets()])


def nodes(ctx: typer.Context, incomplete: str) -> list[str]:
    return _ask(ctx, lambda client: [node.name for node in client.status()[0].nodes])


def access_keys(ctx: typer.Context, incomplete: str) -> list[str]:
    return _ask(ctx, lambda client: [key.name for key in client.access_keys()])


def settings(ctx: typer.Context, incomplete: str) -> list[str]:
    from flarectl.settings import SETTINGS

    return list(SETTINGS)


def setting_values(ctx: typer.Context, incomplete: str) -> list[str]:
    from flarectl.settings import PATHS

    return local_paths(ctx, incomplete) if ctx.params.get("name") in PATHS else []


def profiles(ctx: typer.Context, incomplete: str) -> list[str]:
    from flarectl.errors import Failure
    from flarectl.settings import list_profiles

    try:
        return list_profiles()
    except Failure:
        return []


def commands(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete the commands of flarectl."""
    return list(getattr(ctx.find_root().command, "commands", {}))


def local_paths(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete files and directories of this machine; directories end in a slash."""
    directory, name = os.path.split(incomplete)
    try:
        with os.scandir(os.path.expanduser(directory) or ".") as entries:
            return sorted(
                os.path.join(directory, entry.name) + "/" * entry.is_dir()
                for entry in entries
                if entry.name.startswith(name) and (name or not entry.name.startswith("."))
            )
    except OSError:
        return []


def _given(ctx: typer.Context) -> bool:
    return bool(ctx.params.get("arguments"))


def _ask(ctx: typer.Context, question: Callable[[Client], list[str]]) -> list[str]:
    from flarectl.client import Client
    from flarectl.errors import Failure
    from flarectl.profile import find_endpoint
    from flarectl.retry import Retries
    from flarectl.settings import use_profile

    flag = ctx.params.get("endpoint") or ctx.find_root().params.get("endpoint") or ""
    try:
        use_profile(str(ctx.find_root().params.get("profile") or ""))
        with Client(find_endpoint(str(flag))[0], Retries(0)) as client:
            return question(client)
    except Failure:
        return []


def _keys(client: Client, incomplete: str) -> list[str]:
    from flarectl.target import parse_target

    bucket, colon, _ = incomplete.partition(":")
    start = f"{bucket}:" if colon else ""
    found = [start + name for name in _names_below(client, parse_target(incomplete))]
    return found if colon else [*found, *(f"{known.name}:" for known in client.buckets())]


def _names_below(client: Client, target: Target) -> list[str]:
    from flarectl.errors import NoBucket

    try:
        page = client.list_page(target, delimiter="/", limit=OFFERED_MAX)
    except NoBucket:
        return []
    return [entry.key for entry in page.objects] + list(page.prefixes)
