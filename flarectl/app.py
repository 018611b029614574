"""The app: it assembles the commands, and is the one place where an error becomes a sentence and an exit code."""

from __future__ import annotations

import signal
import sys
from typing import NoReturn

import typer

from flarectl import render
from flarectl.commands import (
    bucket,
    cat,
    completion,
    config,
    cp,
    doctor,
    get,
    key,
    ls,
    manual,
    metadata,
    mv,
    node,
    put,
    rm,
    share,
    stat,
    status,
)
from flarectl.errors import MEANINGS, ExitCode, Failure, Interrupted, OutputClosed, from_os
from flarectl.lean import LeanCommand, LeanGroup
from flarectl.options import ENDPOINT, PROFILE, Globals
from flarectl.settings import use_profile
from flared import __version__

# \b keeps the lines that follow as they are.
EXIT_CODES = "\b\nExit codes:\n" + "\n".join(f"  {code:>3}  {meaning}" for code, meaning in MEANINGS.items())


class Commands(LeanGroup):
    """The commands. Any exception of a command ends as one sentence and a documented exit code."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]  # as below
        try:
            return super().parse_args(ctx, args)
        except Failure as failure:  # from an option before the command's name
            exit_with(failure)

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]  # typer hides the class of a context
        try:
            result: object = super().invoke(ctx)
            render.flush()
        except (Failure, OSError, KeyboardInterrupt, EOFError, typer.Abort) as error:
            exit_with(explain(error))
        if isinstance(result, ExitCode) and result:
            sys.exit(result)
        return None


def exit_with(failure: Failure) -> NoReturn:
    """End the process with the sentence and the exit code of ``failure``."""
    if isinstance(failure, Interrupted):  # a second Ctrl-C must not print a traceback while the interpreter ends
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not isinstance(failure, OutputClosed):  # the reader has stopped on purpose, as `head` does
        render.complain(failure.sentence(), failure.hints)
    sys.exit(failure.exit_code)


def explain(error: BaseException) -> Failure:
    """Return the Failure for an exception."""
    if isinstance(error, Failure):
        return error
    if isinstance(error, BrokenPipeError):
        return OutputClosed("the reader of the output went away")
    if isinstance(error, OSError):
        return from_os(error, str(error.filename or "this machine"))
    return Interrupted("interrupted; nothing half-made is left")


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog=EXIT_CODES,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        render.say(f"flarectl {__version__}")
        raise typer.Exit


VERSION = typer.Option(False, "--version", is_eager=True, callback=_print_version, help="Print the version and exit.")


@app.callback()
def flarectl(ctx: typer.Context, endpoint: str = ENDPOINT, profile: str = PROFILE, version: bool = VERSION) -> None:
    """Put, get and look after objects in a Flare cluster.

    An object is named [BUCKET:]KEY; without a bucket it lies in the bucket called default.
    """
    use_profile(profile)
    ctx.obj = Globals(endpoint)


for function in (put.put, get.get, cat.cat, ls.ls, rm.rm, stat.stat, cp.cp, mv.mv, share.share):
    app.command(cls=LeanCommand)(function)
app.add_typer(bucket.app, name="bucket")
app.command(cls=LeanCommand)(status.status)
app.command(cls=LeanCommand)(doctor.doctor)
app.add_typer(node.app, name="node")
app.add_typer(key.app, name="key")
app.add_typer(metadata.app, name="metadata")
app.add_typer(config.app, name="config")
app.command(cls=LeanCommand)(completion.completion)
app.command("help", cls=LeanCommand)(manual.help_page)
